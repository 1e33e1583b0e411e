"""The Text to image tab: form on one side, stage on the other."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from core.errors import LoomError
from core.models.catalogue import ModelInfo
from core.request import Request
from core.samplers import SAMPLERS
from core.storybook import vocabulary
from ui import form
from ui.components.bar import bar_state
from ui.components.base import file_url
from ui.components.notes import Notes, lines
from ui.components.number import NumberField
from ui.components.seed import SeedField
from ui.components.stage import Stage
from ui.components.words import Words, append, kinds
from ui.stream import Desk, empty
from ui.studio import Studio

SCOPE = "txt2img"
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
WATCH: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private",
                         "trigger_mode": "multiple"}
LOST = "The studio was started anew since the last run. Its pictures are in the outputs folder."
OTHER_EXAMPLES = ["a lighthouse on a cliff at sunset", "a bowl of lemons on a wooden table, morning light",
                  "an old tram in a narrow street, rain"]


class TextToImage:
    """Builds the tab inside the current gr.Tab and wires it. bar, model: the header's components."""

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown):
        self.studio, self.bar, self.model = studio, bar, model
        self.desk = Desk(studio.jobs)
        self.start = form.from_request(self._first_request())
        self.notes = Notes(SCOPE, lines(hints=form.hints(self.start)))
        with gr.Column(elem_classes=["workbench"]):
            with gr.Column(elem_classes=["bench-prompt"]):
                self._prompt()
            with gr.Column(elem_classes=["bench-stage"]):
                self.stage = Stage(empty(examples(studio.info(studio.model))))
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
        self.guidance = NumberField("Guidance", start["guidance"], low=1, high=30, step=0.5, slider=True)
        self.notes.place("guidance")
        self.schedule = gr.Dropdown(form.schedules(start["sampler"]), value=start["schedule"], label="Schedule")
        self.notes.place("schedule")
        self.seed = SeedField()
        self.notes.place("seed")
        with gr.Row(elem_classes=["pair three"]):
            self.width = NumberField("Width", start["width"], low=64, high=4096, step=8)
            self.height = NumberField("Height", start["height"], low=64, high=4096, step=8)
            self.batch = NumberField("Pictures", start["batch"], low=1, high=16)
        for field in ("width", "height", "batch"):
            self.notes.place(field)
        with gr.Row(elem_classes=["pair"]):
            self.preview = gr.Dropdown(form.PREVIEWS, value=start["preview"], label="Preview")
            self.precision = gr.Dropdown(form.PRECISIONS, value=start["precision"], label="Precision")
        for field in ("preview", "precision"):
            self.notes.place(field)

    # -- what happens when

    def _wire(self) -> None:
        inputs: set[Block] = set(self.fields.values())
        marks = [self.notes, self.seed, self.more]
        follow: dict[str, Any] = {"fn": self.follow, "inputs": [self.model], "outputs": [self.stage, self.bar], **WATCH}
        for text in (self.prompt, self.negative):  # a paste is a change to gradio, but no input
            text.change(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
        for field in (self.sampler, self.schedule, self.style, self.steps, self.guidance,
                      self.seed, self.batch, self.width, self.height, self.preview, self.precision):
            field.input(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
        self.sampler.input(self.offer_schedules, [self.sampler, self.schedule], [self.schedule], **QUICK)
        self.size.input(None, [self.size, self.width, self.height], [self.width, self.height], show_progress="hidden",
                        api_visibility="private",
                        js=f"(s, w, h) => s === '{form.CUSTOM}' ? [w, h] : s.split('x')")
        self.size.input(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
        for side in (self.width, self.height):
            side.input(None, [self.width, self.height], [self.size], show_progress="hidden", api_visibility="private",
                       js=f"(w, h) => {_offered_sizes_js(self.studio)}.includes(`${{w}}x${{h}}`) ? `${{w}}x${{h}}` "
                          f": '{form.CUSTOM}'")
        self.model.input(self.change_model, inputs, [self.size, self.width, self.height, self.style, self.words,
                                                     self.about, self.card, self.notes, self.bar], **QUICK)
        self.generate.click(self.submit, inputs, marks, trigger_mode="multiple", **QUICK).then(**follow)
        self.stage.example(self.take_example, None, [self.prompt], **QUICK).then(
            self.submit, inputs, marks, **QUICK).then(**follow)
        self.stage.attach(self.attach, None, None, **QUICK).then(**follow)
        self.stage.restore(self.restore, inputs, list(self.fields.values()), **QUICK).then(**follow)
        self.stage.stop(self.stop, None, None, trigger_mode="multiple", **QUICK)
        self.stage.reuse(self.reuse, None, [self.seed], **QUICK)
        self.words.pick(self.pick, [self.prompt], [self.prompt], **QUICK)

    def _values(self, data: dict[Any, Any]) -> dict[str, Any]:
        return {name: data[component] for name, component in self.fields.items()}

    def _style(self, values: dict[str, Any]) -> Any:
        name = values["style"]
        return None if not name or name == form.NO_STYLE else self.studio.styles[name]

    def review(self, data: dict[Any, Any]) -> dict[str, Any]:
        """The lines beside the fields, for the form as it stands."""
        values = self._values(data)
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
        values = self._values(data)
        style, folded = None, gr.skip()
        try:
            style = self._style(values)
            preview, wanted = form.to_preview(values), form.to_request(values, style)
            notes = self.studio.check(wanted)
            job = self.studio.jobs.submit(wanted, preview, owner=page_of(request))
        except LoomError as error:
            if error.field in form.MORE:
                folded = gr.Accordion(open=True)
            return lines((), error, form.hints(values, style)), values["seed"], folded
        self.desk.add(page_of(request), job)
        seed = {"random": values["seed"]["random"], "seed": str(wanted.seed)}
        return lines(notes, None, form.hints(values, style)), seed, folded

    async def follow(self, model: str, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        """What this page's runs show, until all are over."""
        page = page_of(request)
        if self.desk.lost(page):
            yield empty(examples(self.studio.info(model)), LOST), bar_state(self.studio, model)
        state = None
        async for state in self.desk.follow(page):
            yield state, bar_state(self.studio, model)
        if state:  # the run is over, and with it its place in the queue
            yield state, bar_state(self.studio, model)

    def attach(self, event: gr.EventData, request: gr.Request) -> None:
        """Let the page follow runs it remembers."""
        self.desk.attach(page_of(request), _jobs(event))

    def restore(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> list[Any]:
        """The same after a reload, which emptied the form: it gets the settings of the last of these runs."""
        values = self._values(data)
        last = self.desk.attach(page_of(request), _jobs(event))
        if last and last.request.model == values["model"]:
            seed = {"random": True, "seed": str(last.request.seed)}
            values |= {**form.from_request(last.request, last.preview), "seed": seed}
        return [values[name] for name in self.fields]

    def stop(self, event: gr.EventData) -> None:
        self.studio.jobs.stop(str(event._data.get("job", "")))

    def take_example(self, event: gr.EventData) -> str:
        return str(event._data.get("prompt", ""))

    def reuse(self, event: gr.EventData) -> dict[str, Any]:
        return {"random": False, "seed": str(event._data.get("seed", ""))}

    def pick(self, prompt: str, event: gr.EventData) -> str:
        return append(prompt or "", str(event._data.get("word", "")))

    def offer_schedules(self, sampler: str, schedule: str) -> Any:
        """The schedules of a sampler; one it does not accept gives way to Automatic, in sight."""
        choices = form.schedules(sampler)
        kept = schedule if schedule in [value for _, value in choices] else "Automatic"
        return gr.Dropdown(choices=choices, value=kept)

    def change_model(self, data: dict[Any, Any]) -> tuple[Any, ...]:
        """The form for another model: its sizes, its styles, its words."""
        values = self._values(data)
        model, notes = values["model"], {}
        info = self.studio.info(model)
        if info:
            width, height = str(info.width), str(info.height)
        else:
            width, height = values["width"], values["height"]
        data = {**data, self.width: width, self.height: height}
        names = self._styles(model)
        style = values["style"] if values["style"] in names else form.NO_STYLE
        notes = self.review({**data, self.style: style})
        size = form.size_name(width, height) if info else form.CUSTOM
        card, words = model_card(info), kinds() if info and info.is_storybook else {}
        return (gr.Dropdown(choices=form.sizes(info), value=size), width, height,
                gr.Dropdown(choices=names, value=style), words, gr.Accordion(visible=bool(card)),
                card, notes, bar_state(self.studio, model))

    def _styles(self, model: str) -> list[str]:
        return [form.NO_STYLE, *(style.name for style in self.studio.styles_for(model))]

    def _first_request(self) -> Request:
        info = self.studio.info(self.studio.model)
        start = Request(model=self.studio.model)
        return start.replace(width=info.width, height=info.height) if info else start


def _jobs(event: gr.EventData) -> list[Any]:
    jobs = event._data.get("jobs") if isinstance(event._data, dict) else None
    return jobs if isinstance(jobs, list) else []


def page_of(request: gr.Request) -> str:
    """The name of an open page: gradio's session."""
    return str(request.session_hash or "")


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
