"""The Text to image tab: form on one side, stage on the other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import LoomError
from core.models.catalogue import ModelInfo
from core.request import Request
from core.samplers import SAMPLERS
from core.storybook import vocabulary
from ui import form
from ui.components.bar import bar_state
from ui.components.base import file_url
from ui.components.keep import Keep
from ui.components.notes import Notes, lines
from ui.components.number import NumberField
from ui.components.stage import Stage
from ui.components.words import Words, append, kinds
from ui.runform import QUICK, RunForm, drawn, unfolded
from ui.stream import empty
from ui.studio import Studio

SCOPE = "txt2img"
OTHER_EXAMPLES = ["a lighthouse on a cliff at sunset", "a bowl of lemons on a wooden table, morning light",
                  "an old tram in a narrow street, rain"]


class TextToImage(RunForm):
    """Builds the tab inside the current gr.Tab and wires it. bar, model: the header's components."""

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown):
        super().__init__(studio, bar, model)
        self.start = form.from_request(self._first_request())
        self.notes = Notes(SCOPE, lines(hints=form.hints(self.start)))
        self.keep = Keep(store="latent-loom.txt2img")
        with gr.Column(elem_classes=["workbench"]):
            with gr.Column(elem_classes=["bench-prompt"]):
                self._prompt()
            with gr.Column(elem_classes=["bench-stage"]):
                self.stage = Stage(self.empty_stage(studio.model))
            with gr.Column(elem_classes=["bench-settings"]):
                self._settings()
        self.fields = {"prompt": self.prompt, "negative_prompt": self.negative, "style": self.style, "model": model,
                       "sampler": self.sampler, "schedule": self.schedule, "steps": self.steps,
                       "guidance": self.guidance, "seed": self.seed, "width": self.width, "height": self.height,
                       "batch": self.batch, "precision": self.precision, "preview": self.preview}
        self._wire()

    # -- what stands where

    def _prompt(self) -> None:
        info = self.studio.info(self.studio.model)
        self.prompt = gr.Textbox("", label="Prompt", lines=3, max_lines=8, autofocus=True, elem_id="prompt",
                                 placeholder="What should be in the picture?")
        self.notes.place("prompt", steady=True)
        self.words = Words(kinds() if info and info.is_storybook else {})

    def _settings(self) -> None:
        studio, start = self.studio, self.start
        info = studio.info(studio.model)
        self.negative = gr.Textbox("", label="Negative prompt", lines=1, max_lines=6,
                                   placeholder="What should not be there?")
        self.notes.place("negative_prompt")
        self.style = gr.Dropdown(self._styles(studio.model), value=form.NO_STYLE, label="Style")
        self.notes.place("style")
        with gr.Column(elem_classes=["go"]):
            self.generate = gr.Button("Generate", variant="primary", elem_classes=["generate"])
        self.notes.place("form")
        with gr.Row(elem_classes=["pair"]):
            self.sampler = gr.Dropdown(list(SAMPLERS), value=start["sampler"], label="Sampler", min_width=100, scale=3)
            self.size = gr.Dropdown(form.sizes(info), value=start["size"], label="Size", min_width=100, scale=2)
        self.notes.place("sampler")
        self.steps = NumberField("Steps", start["steps"], low=1, high=100, slider=True)
        self.notes.place("steps")
        with gr.Accordion("More", open=False, elem_classes=["more"]) as self.more:
            self._more(start)
        card = model_card(info)
        with gr.Accordion("About this model", open=False, visible=bool(card), elem_classes=["more"]) as self.about:
            self.card = gr.Markdown(card, elem_classes=["card"])

    def _more(self, start: dict[str, Any]) -> None:
        self._guidance(start)
        self._schedule(start)
        self.notes.place("schedule")
        self._seed()
        with gr.Row(elem_classes=["pair three"]):
            self.width = NumberField("Width", start["width"], low=64, high=4096, step=8)
            self.height = NumberField("Height", start["height"], low=64, high=4096, step=8)
            self.batch = NumberField("Pictures", start["batch"], low=1, high=16)
        self._lines("width", "height", "batch")
        self._machine(start)
        self._lines("preview", "precision")

    # -- what happens when

    def _wire(self) -> None:
        inputs, remembered = self.inputs, self.remembering()
        marks = [self.notes, self.seed, self.more]
        follow = self._wire_stage()
        for text in (self.prompt, self.negative):  # a paste is a change to gradio, but no input
            text.change(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
            text.change(trigger_mode="multiple", **self.remembering(anyhow=False))
        for field in (self.sampler, self.schedule, self.style, self.steps, self.guidance, self.seed, self.batch,
                      self.width, self.height, self.size, self.preview, self.precision):
            field.input(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
            field.input(trigger_mode="multiple", **remembered)
        self.size.input(None, [self.size, self.width, self.height], [self.width, self.height], show_progress="hidden",
                        api_visibility="private",
                        js=f"(s, w, h) => s === '{form.CUSTOM}' ? [w, h] : s.split('x')").then(**remembered)
        for side in (self.width, self.height):
            side.input(None, [self.width, self.height], [self.size], show_progress="hidden", api_visibility="private",
                       js=f"(w, h) => {_offered_sizes_js(self.studio)}.includes(`${{w}}x${{h}}`) ? `${{w}}x${{h}}` "
                          f": '{form.CUSTOM}'")
        of_model = [self.size, self.style, self.words, self.about, self.card, self.notes, self.bar]
        self.model.input(self.change_model, inputs, [self.width, self.height, *of_model], **QUICK).then(**remembered)
        self.generate.click(self.submit, inputs, marks, trigger_mode="multiple", **QUICK).then(**remembered).then(
            **follow)
        self.stage.example(self.take_example, None, [self.prompt], **QUICK).then(
            self.submit, inputs, marks, **QUICK).then(**follow)
        self.words.pick(self.pick, [self.prompt], [self.prompt], **QUICK)
        self.keep.recall(self.recall, inputs, [*self.fields.values(), *(c for c in of_model if c is not self.style)],
                         **QUICK)

    def _style(self, values: dict[str, Any]) -> Any:
        name = values["style"]
        return None if not name or name == form.NO_STYLE else self.studio.styles[name]

    def review(self, data: dict[Any, Any]) -> dict[str, Any]:
        """The lines beside the fields, for the form as it stands."""
        return self._review(self.values(data))

    def _review(self, values: dict[str, Any]) -> dict[str, Any]:
        style, error, notes = None, None, []
        try:
            style = self._style(values)
            form.to_preview(values)
            request = form.to_request(values, style)
            notes = [n for n in self.studio.check(request) if values["prompt"].strip() or n.field != "prompt"]
        except LoomError as problem:
            error = problem
        return lines(notes, error, form.hints(values, style))

    def submit(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, Any, Any]:
        """Queue what the form asks for: the lines beside the fields, the seed drawn, and More, open if need be."""
        values = self.values(data)
        style = None
        try:
            style = self._style(values)
            preview, wanted = form.to_preview(values), form.to_request(values, style)
            notes = self.studio.check(wanted)
            self.queue(wanted, preview, request)
        except LoomError as error:
            return lines((), error, form.hints(values, style)), values["seed"], unfolded(error.field, form.MORE)
        return lines(notes, None, form.hints(values, style)), drawn(values, wanted), gr.skip()

    def empty_stage(self, model: str, message: str = "") -> dict[str, Any]:
        return empty(examples(self.studio.info(model)), message)

    def recall(self, data: dict[Any, Any], event: gr.EventData) -> list[Any]:
        """The form as this browser left it, with the model that was chosen, if it is still here."""
        values = self.values(data)
        kept = self.recalled(event)
        if kept.get("model") not in self.studio.catalogue.names():
            kept = {**kept, "model": values["model"]} if kept else {}
        values |= kept
        values["style"] = self._style_there(values)
        about = self._of_model(values)
        fields = {**values, "style": about.pop("style")}
        return [*(fields[name] for name in self.fields), *about.values(), self._review(values),
                bar_state(self.studio, values["model"])]

    def take_example(self, event: gr.EventData) -> str:
        return str(event._data.get("prompt", ""))

    def pick(self, prompt: str, event: gr.EventData) -> str:
        return append(prompt or "", str(event._data.get("word", "")))

    def change_model(self, data: dict[Any, Any]) -> tuple[Any, ...]:
        """The form for another model: its sizes, its styles, its words."""
        values = self.values(data)
        if info := self.studio.info(values["model"]):
            values |= {"width": str(info.width), "height": str(info.height)}
        values["style"] = self._style_there(values)
        return (values["width"], values["height"], *self._of_model(values).values(), self._review(values),
                bar_state(self.studio, values["model"]))

    def _of_model(self, values: dict[str, Any]) -> dict[str, Any]:
        """What hangs on the model: the sizes and styles that are offered, its words and its card."""
        info = self.studio.info(values["model"])
        size = form.size_name(values["width"], values["height"])
        if size not in [name for _, name in form.sizes(info)]:
            size = form.CUSTOM
        card = model_card(info)
        return {"size": gr.Dropdown(choices=form.sizes(info), value=size),
                "style": gr.Dropdown(choices=self._styles(values["model"]), value=values["style"]),
                "words": kinds() if info and info.is_storybook else {}, "about": gr.Accordion(visible=bool(card)),
                "card": card}

    def _style_there(self, values: dict[str, Any]) -> str:
        return values["style"] if values["style"] in self._styles(values["model"]) else form.NO_STYLE

    def _styles(self, model: str) -> list[str]:
        return [form.NO_STYLE, *(style.name for style in self.studio.styles_for(model))]

    def _first_request(self) -> Request:
        info = self.studio.info(self.studio.model)
        start = Request(model=self.studio.model)
        return start.replace(width=info.width, height=info.height) if info else start


def examples(info: ModelInfo | None) -> list[str]:
    """Three prompts to begin with."""
    if not (info and info.is_storybook):
        return OTHER_EXAMPLES
    known = vocabulary.examples()
    return [known[k] for k in (1, 4, 6)] if len(known) > 6 else known[:3]


def model_card(info: ModelInfo | None) -> str:
    """The embedded model's card. Cards of other models may hold addresses of elsewhere: they stay closed."""
    if not (info and info.is_storybook):
        return ""
    path = Path(info.path) / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return re.sub(r"\]\(([\w-]+\.jpg)\)", lambda match: f"]({file_url(path.parent / match[1])})", text)


def _offered_sizes_js(studio: Studio) -> str:
    return json.dumps([value for _, value in form.sizes(studio.info(studio.model))])
