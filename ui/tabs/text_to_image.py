"""The Text to image tab: form on one side, stage on the other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from core.errors import LoomError
from core.models.catalogue import ModelInfo
from core.ownpresets import SETTINGS
from core.samplers import SAMPLERS
from core.storybook import vocabulary
from ui import arrival, form
from ui.answers import carried
from ui.components.arrival import Arrival
from ui.components.bar import bar_state
from ui.components.base import file_url
from ui.components.keep import Keep
from ui.components.models_panel import ModelsPanel
from ui.components.notes import Notes, lines
from ui.components.number import NumberField
from ui.components.stage import Stage
from ui.components.tokens import Tokens, counts
from ui.components.words import Words, at_hand
from ui.languages import say, word
from ui.models import choices
from ui.owners import owner_of
from ui.presetbox import PresetBox, refused, said
from ui.runform import QUICK, RunForm, drawn, unfolded
from ui.stream import empty
from ui.studio import Studio

SCOPE = "txt2img"
COUNTED = ("prompt", "negative_prompt", "style", "model", "steps")  # what the number of tokens hangs on
OTHER_EXAMPLES = ["a lighthouse on a cliff at sunset", "a bowl of lemons on a wooden table, morning light",
                  "an old tram in a narrow street, rain"]


class TextToImage(RunForm):
    """Builds the tab inside the current gr.Tab and wires it. bar, model, panel: the header's components."""

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown, panel: ModelsPanel):
        super().__init__(studio, bar, model, panel)
        self.start = form.from_request(form.first_request(studio.model, studio.info(studio.model)))
        self.notes = Notes(SCOPE, first=lambda: lines(hints=form.hints(self.start)))
        self.keep = Keep(store="latent-loom.txt2img")
        self.tokens = Tokens(self._count(self.start, ""), scope=SCOPE)
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
                       "batch": self.batch, "precision": self.precision, "clip_skip": self.clip_skip,
                       "preview": self.preview, "refiner": self.refiner, "refiner_from": self.refiner_from}
        self._wire()

    # -- what stands where

    def _prompt(self) -> None:
        info = self.studio.info(self.studio.model)
        self.tokens.place("prompt")
        self.prompt = gr.Textbox("", label=word("field.prompt"), elem_classes=["completes"], lines=3, max_lines=8,
                                 autofocus=True, elem_id="prompt", placeholder=word("form.prompt"))
        self.notes.place("prompt", steady=True)
        self.arrival = Arrival()
        self.words = Words(at_hand(info, self.studio.extras), field="#prompt textarea")

    def _settings(self) -> None:
        studio, start = self.studio, self.start
        info = studio.info(studio.model)
        self.tokens.place("negative_prompt")
        self.negative = gr.Textbox("", label=word("field.negative-prompt"), elem_classes=["completes"], lines=1,
                                   max_lines=6, placeholder=word("field.not-there"))
        self.notes.place("negative_prompt")
        self.style = gr.Dropdown(self._styles(studio.model, ""), value=form.NO_STYLE, label=word("field.style"))
        self.notes.place("style")
        with gr.Column(elem_classes=["go"]):
            self.generate = gr.Button(word("form.generate"), variant="primary", elem_classes=["generate"])
        self.notes.place("form")
        with gr.Row(elem_classes=["pair"]):
            self.sampler = gr.Dropdown(list(SAMPLERS), value=start["sampler"], label=word("field.sampler"),
                                       min_width=100, scale=3)
            self.size = gr.Dropdown(form.sizes(info), value=start["size"], label=word("field.size"), min_width=100,
                                    scale=2)
        self.notes.place("sampler")
        self.steps = NumberField("field.steps", start["steps"], low=1, high=100, slider=True)
        self.notes.place("steps")
        with gr.Accordion(word("common.more"), open=False, elem_classes=["more"]) as self.more:
            self._more(start)
        self.presets = PresetBox(studio, SCOPE, ("style", "settings", "negative"))
        card = model_card(info)
        with gr.Accordion(word("form.about"), open=False, visible=bool(card),
                          elem_classes=["more"]) as self.about:
            self.card = gr.Markdown(card, elem_classes=["card"])

    def _more(self, start: dict[str, Any]) -> None:
        self._guidance(start)
        self._schedule(start)
        self.notes.place("schedule")
        self._seed()
        with gr.Row(elem_classes=["pair three"]):
            self.width = NumberField("field.width", start["width"], low=64, high=4096, step=8)
            self.height = NumberField("field.height", start["height"], low=64, high=4096, step=8)
            self.batch = NumberField("field.batch", start["batch"], low=1, high=16)
        self._lines("width", "height", "batch")
        self._machine(start)
        self._lines("preview", "precision")
        self._clip_skip(start)
        self._refiner(start)

    # -- what happens when

    def _wire(self) -> None:
        inputs, remembered = self.inputs, self.remembering()
        marks = [self.notes, self.seed, self.more]
        follow = self._wire_stage()
        for text in (self.prompt, self.negative):  # a paste is a change to gradio, but no input
            text.change(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
            text.change(trigger_mode="multiple", **self.remembering(anyhow=False))
        counted: set[Block] = {self.fields[name] for name in COUNTED}
        for event in (self.prompt.change, self.negative.change, self.style.input, self.steps.input, self.chosen):
            event(self.count, counted, [self.tokens], trigger_mode="always_last", **QUICK)
        for field in (self.sampler, self.schedule, self.style, self.steps, self.guidance, self.seed, self.batch,
                      self.width, self.height, self.size, self.preview, self.precision, self.clip_skip,
                      self.refiner, self.refiner_from):
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
        settings = [self.width, self.height, self.sampler, self.schedule, self.steps, self.guidance]
        self.chosen(self.change_model, inputs, [*settings, *of_model], **QUICK).then(**remembered)
        self._wire_box()
        self.generate.click(self.submit, inputs, marks, trigger_mode="multiple", **QUICK).then(**remembered).then(
            **follow)
        self.stage.example(self.take_example, None, [self.prompt], **QUICK).then(
            self.submit, inputs, marks, **QUICK).then(**follow)
        self.filled = [*self.fields.values(), *(c for c in of_model if c not in self.fields.values())]
        self.keep.recall(self.recall, inputs, self.filled, **QUICK)
        self.taking(self.arrival.dropped, lambda event: arrival.uploaded(event.get("path")))

    def _wire_box(self) -> None:
        box, model = self.presets, self.model
        changed = [self.style, self.negative, *(self.fields[name] for name in SETTINGS), self.size, self.notes,
                   box.notes]
        box.use.click(self.apply_preset, {*self.inputs, box.chosen}, changed, **QUICK).then(**self.remembering()).then(
            self.count, {self.fields[name] for name in COUNTED}, [self.tokens], **QUICK)
        bring = box.upload.upload(box.import_csv, [model, box.chosen, box.upload], [box.chosen, box.notes], **QUICK)
        for event in (*self._wire_presets(), bring):
            event.then(self.offer_styles, [model, self.style], [self.style], **QUICK)

    def apply_preset(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, ...]:
        """The form with what the chosen preset holds, and the lines beside it."""
        values, said_so, owner = self.values(data), said(say("presets.applied")), owner_of(request)
        try:
            values = self.presets.applied(values, data[self.presets.chosen], owner)
        except LoomError as error:
            said_so = refused(error)
        schedule = gr.Dropdown(choices=form.schedules(values["sampler"]), value=values["schedule"])
        about = self._of_model(values, owner)
        return (about["style"], values["negative_prompt"],
                *({**values, "schedule": schedule}[name] for name in SETTINGS), about["size"],
                self._review(values, owner), said_so)

    def offer_styles(self, model: str, style: str, request: gr.Request) -> Any:
        """The list of styles as it is now; one that is gone gives way to none."""
        owner = owner_of(request)
        return gr.Dropdown(choices=self._styles(model, owner),
                           value=self._style_there({"model": model, "style": style}, owner))

    def offer_presets(self, model: str, request: gr.Request) -> tuple[Any, Any, Any]:
        """The lists of styles and presets as they are now, and the files that are left out."""
        return (gr.Dropdown(choices=self._styles(model, owner_of(request))), *self.presets.begin(model, request))

    def _style(self, values: dict[str, Any], owner: str) -> Any:
        name = values["style"]
        return None if not name or name == form.NO_STYLE else self.studio.style(name, owner)

    def review(self, data: dict[Any, Any], request: gr.Request) -> dict[str, Any]:
        """The lines beside the fields, for the form as it stands."""
        return self._review(self.values(data), owner_of(request))

    def _review(self, values: dict[str, Any], owner: str) -> dict[str, Any]:
        style, error, notes = None, None, []
        try:
            style = self._style(values, owner)
            form.to_preview(values)
            request = form.to_request(values, style)
            notes = [n for n in self.studio.check(request) if values["prompt"].strip() or n.field != "prompt"]
        except LoomError as problem:
            error = problem
        return lines(notes, error, form.hints(values, style))

    def count(self, data: dict[Any, Any], request: gr.Request) -> dict[str, str]:
        """How long the prompts are, with what the style adds."""
        values = {name: data[component] for name, component in self.fields.items() if component in data}
        return self._count(values, owner_of(request))

    def _count(self, values: dict[str, Any], owner: str) -> dict[str, str]:
        prompt, negative = values["prompt"] or "", values["negative_prompt"] or ""
        try:
            if style := self._style(values, owner):
                prompt, negative = style.apply(prompt, negative)
        except LoomError:
            pass  # the form says so already
        return counts({"prompt": prompt, "negative_prompt": negative}, self.studio.counter(values["model"]),
                      form.number(values["steps"]))

    def submit(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, Any, Any]:
        """Queue what the form asks for: the lines beside the fields, the seed drawn, and More, open if need be."""
        values = self.values(data)
        style = None
        try:
            style = self._style(values, owner_of(request))
            preview, wanted = form.to_preview(values), form.to_request(values, style)
            notes = self.studio.check(wanted)
            self.queue(wanted, preview, request)
        except LoomError as error:
            return lines((), error, form.hints(values, style)), values["seed"], unfolded(error.field, form.MORE)
        return lines(notes, None, form.hints(values, style)), drawn(values, wanted), gr.skip()

    def empty_stage(self, model: str, message: str = "") -> dict[str, Any]:
        return empty(examples(self.studio.info(model)), message)

    def recall(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> list[Any]:
        """The form as this browser left it, with the model that was chosen, if it is still here."""
        values = self.values(data)
        kept = self.recalled(event)
        if kept and self.studio.recalled(kept["model"]):
            self.studio.chosen.add(kept["model"])
        elif kept:
            kept |= {name: values[name] for name in ("model", "width", "height", *form.ADVISED)}
        return self._fill(values | kept, owner_of(request))

    def _fill(self, values: dict[str, Any], owner: str) -> list[Any]:
        """The whole form with these values in it, for `filled`."""
        values = self.seen(values)
        values["style"] = self._style_there(values, owner)
        about = self._of_model(values, owner)
        schedule = gr.Dropdown(choices=form.schedules(values["sampler"]), value=values["schedule"])
        model = gr.Dropdown(choices=choices(self.studio), value=values["model"])  # a pair may not be listed yet
        fields = {**values, "style": about.pop("style"), "schedule": schedule, "model": model}
        return [*(fields[name] for name in self.fields), *about.values(), self._review(values, owner),
                bar_state(self.studio, values["model"])]

    def taking(self, event: Any, find: Callable[[dict[str, Any]], Path]) -> None:
        """Let an event bring a picture's settings here. find: its file, from the event's data; raises LoomError."""
        def take(data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> list[Any]:
            given = carried(event)
            name = str(given.get("name") or "file")[:80]
            return self.take(self.values(data), lambda: find(given), name, owner_of(request))

        event(take, self.inputs, [*self.filled, self.arrival], **QUICK).then(**self.remembering()).then(
            self.count, {self.fields[name] for name in COUNTED}, [self.tokens], **QUICK)

    def take(self, values: dict[str, Any], find: Callable[[], Path], name: str, owner: str) -> list[Any]:
        """The form with a picture's settings in it, and the card about them; as it was when they cannot be read."""
        models = self.studio.catalogue.names()
        try:
            found = arrival.read(find(), name)
        except LoomError as error:
            return [*self._fill(values, owner), arrival.failure(name, error)]
        card = arrival.card(found, name, models, values["model"])
        return [*self._fill(arrival.filled(values, found, models), owner), card]

    def take_example(self, event: gr.EventData) -> str:
        return str(carried(event).get("prompt", ""))

    def change_model(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, ...]:
        """The form for another model: its sizes, its styles, its words, and the settings it was distilled for."""
        values, owner = self.values(data), owner_of(request)
        if info := self.studio.info(values["model"]):
            values |= {"width": str(info.width), "height": str(info.height), **form.advised(info, values)}
        values["style"] = self._style_there(values, owner)
        schedule = gr.Dropdown(choices=form.schedules(values["sampler"]), value=values["schedule"])
        return (values["width"], values["height"], values["sampler"], schedule, values["steps"], values["guidance"],
                *self._of_model(values, owner).values(), self._review(values, owner),
                bar_state(self.studio, values["model"]))

    def _of_model(self, values: dict[str, Any], owner: str) -> dict[str, Any]:
        """What hangs on the model: the sizes and styles that are offered, its words and its card."""
        info = self.studio.info(values["model"])
        size = form.size_name(values["width"], values["height"])
        if size not in [name for _, name in form.sizes(info)]:
            size = form.CUSTOM
        card = model_card(info)
        return {"size": gr.Dropdown(choices=form.sizes(info), value=size),
                "style": gr.Dropdown(choices=self._styles(values["model"], owner), value=values["style"]),
                "words": at_hand(info, self.studio.extras), "about": gr.Accordion(visible=bool(card)),
                "card": card}

    def _style_there(self, values: dict[str, Any], owner: str) -> str:
        known = [name for _, name in self._styles(values["model"], owner)]
        return values["style"] if values["style"] in known else form.NO_STYLE

    def _styles(self, model: str, owner: str) -> list[form.Choice]:
        named = [style.name for style in self.studio.styles_for(model, owner)]
        return [(word("form.no-style"), form.NO_STYLE), *((name, name) for name in named)]


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
