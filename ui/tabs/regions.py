"""The Regions tab: paint where things go on one side, watch the picture on the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from core import layoutfile, metadata
from core.errors import BadRequest, LoomError
from core.jobs import Jobs
from core.layout import layout_of
from core.ownpresets import LAYOUT
from core.request import MAX_SIDE, Request
from core.samplers import SAMPLERS
from ui import composition, form
from ui.answers import carried
from ui.arrival import model_here, uploaded
from ui.components.base import file_url
from ui.components.cells import Cells, shares
from ui.components.download import Download
from ui.components.keep import Keep
from ui.components.models_panel import ModelsPanel
from ui.components.notes import Notes, lines
from ui.components.number import NumberField
from ui.components.region_canvas import RegionCanvas
from ui.components.stage import Stage
from ui.components.tokens import Tokens, counts
from ui.components.words import Words, at_hand
from ui.languages import say, word
from ui.owners import owner_of
from ui.presetbox import PresetBox, refused, said
from ui.runform import QUICK, RunForm, drawn, unfolded
from ui.stream import empty
from ui.studio import Studio

SCOPE = "regions"
TITLE = "regions.title"
NOT_KEPT = ("canvas", "model")  # among the settings of a reload
MORE = ("guidance", "schedule", "seed", "batch", "preview", "precision", "clip_skip", "refiner", "refiner_from",
        "crop_after")
PANORAMA = ("width", "height", "panorama", "stride", "wrap")
# What was painted goes along to a size the model takes; while it is none, only the line beside the field changes.
RESIZE = """(width, height, canvas) => {
  const size = [width, height].map(Number);
  const fits = size.every((side) => side % canvas.cell === 0 && side >= 8 * canvas.cell && side <= MAX);
  return { ...canvas, resize: fits ? size : [] };
}""".replace("MAX", str(MAX_SIDE))
OFFER = "() => { window.dispatchEvent(new Event('latent-loom:layouts')); }"  # the canvas lists them, too
PNG = b"\x89PNG\r\n\x1a\n"


class Regions(RunForm):
    """Builds the tab inside the current gr.Tab and wires it. bar, model, panel: the header's components."""

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown, panel: ModelsPanel):
        super().__init__(studio, bar, model, panel)
        info = studio.info(studio.model)
        self.cell = info.multiple if info else 8
        self.start = composition.from_request(composition.first_request(studio.model, info), self.cell)
        self.notes = Notes(SCOPE, first=lambda: lines(hints=composition.hints(self.start)))
        self.tokens = Tokens(scope=SCOPE)
        self.cells, self.download, self.keep = Cells(), Download(), Keep(store="latent-loom.regions")
        with gr.Column(elem_classes=["regions-bench"]):
            with gr.Column(elem_classes=["regions-paint"]):
                self.canvas = RegionCanvas({**self.start["canvas"], "fresh": True}, scope=SCOPE,
                                           server_functions=[*estimates(studio.jobs), layouts_of(studio)])
                self.words = Words(at_hand(info, studio.extras, words=False), field=".painter textarea.region-prompt")
            with gr.Column(elem_classes=["regions-stage"]):
                self.stage = Stage(self.empty_stage(studio.model), scope=SCOPE)
                self._run()
            with gr.Column(elem_classes=["regions-beside"]):
                self._beside()
        self.fields = {
            "canvas": self.canvas, "negative_prompt": self.negative, "model": model, "sampler": self.sampler,
            "schedule": self.schedule, "steps": self.steps, "guidance": self.guidance, "seed": self.seed,
            "width": self.width, "height": self.height, "batch": self.batch, "precision": self.precision,
            "clip_skip": self.clip_skip, "preview": self.preview, "refiner": self.refiner,
            "refiner_from": self.refiner_from, "bootstrap": self.bootstrap, "masks": self.masks,
            "crop_after": self.crop, "say_places": self.places, "join_prompts": self.join,
            "panorama": self.panorama, "stride": self.stride, "wrap": self.wrap}
        self._wire()

    # -- what stands where

    def _beside(self) -> None:
        start = self.start
        self.tokens.place("negative_prompt")
        self.negative = gr.Textbox("", label=word("field.negative-prompt"), elem_classes=["completes"], lines=1,
                                   max_lines=6, placeholder=word("field.not-there"))
        self.notes.place("negative_prompt")
        with gr.Accordion(word("regions.meet"), open=False, elem_classes=["more"]) as self.meet:
            self.bootstrap = NumberField("field.bootstrap", start["bootstrap"], low=0, high=50, slider=True)
            self.notes.place("bootstrap")
            self.masks = gr.Dropdown(composition.MASKS, value=start["masks"], label=word("regions.masks.label"))
            self.notes.place("masks")
            self.places = gr.Checkbox(start["say_places"], label=word("regions.say-places"))
            self.join = gr.Checkbox(False, label=word("regions.join-prompts"))
        with gr.Accordion(word("regions.size"), open=False, elem_classes=["more"]) as self.wide:
            with gr.Row(elem_classes=["pair three"]):
                self.width = NumberField("field.width", start["width"], low=64, high=4096, step=8)
                self.height = NumberField("field.height", start["height"], low=64, high=4096, step=8)
            self._lines("width", "height")
            with gr.Row(elem_classes=["pair three"]):
                self.panorama = gr.Dropdown(composition.PANORAMAS, value="off", label=word("regions.panorama.label"))
                self.stride = NumberField("field.stride", start["stride"], low=8, high=512, step=8)
            self._lines("panorama", "stride")
            self.wrap = gr.Checkbox(False, label=word("regions.wrap"))
        self.presets = PresetBox(self.studio, SCOPE, (LAYOUT, "settings", "negative"))

    def _run(self) -> None:
        start = self.start
        self.notes.place("status", steady=True)
        with gr.Column(elem_classes=["go"]):
            self.generate = gr.Button(word("form.generate"), variant="primary", elem_classes=["generate"])
        self.notes.place("form")
        with gr.Row(elem_classes=["pair"]):
            self.sampler = gr.Dropdown(list(SAMPLERS), value=start["sampler"], label=word("field.sampler"),
                                       min_width=100)
            self.steps = NumberField("field.steps", start["steps"], low=1, high=100, slider=True)
        self._lines("sampler", "steps")
        with gr.Accordion(word("common.more"), open=False, elem_classes=["more"]) as self.more:
            self._guidance(start)
            self._seed()
            with gr.Row(elem_classes=["pair three"]):
                self._schedule(start)
                self.batch = NumberField("field.batch", start["batch"], low=1, high=16)
            self._machine(start)
            self._lines("schedule", "batch", "preview", "precision")
            self._clip_skip(start)
            self._refiner(start)
            self.crop = NumberField("field.crop", start["crop_after"], low=0, high=100, step=5, slider=True)
            self.notes.place("crop_after")

    # -- what happens when

    def _wire(self) -> None:
        inputs, remembered = self.inputs, self.remembering()
        filled = list(self.fields.values())
        review: dict[str, Any] = {"fn": self.review, "inputs": inputs, "outputs": [self.notes, self.cells], **QUICK}
        follow = self._wire_stage()
        for name in self.kept_names:
            field = self.fields[name]
            field.input(trigger_mode="always_last", **review)
            field.input(trigger_mode="multiple", **remembered)
        self.negative.change(trigger_mode="multiple", **self.remembering(anyhow=False))  # a paste is no input to gradio
        self.canvas.edit(trigger_mode="always_last", **review)
        counted: set[Block] = {self.canvas, self.negative, self.steps, self.join, self.places, self.panorama,
                               self.model}
        for event in (self.canvas.edit, self.negative.change, self.steps.input, self.join.input, self.places.input,
                      self.panorama.input, self.chosen):
            event(self.count, counted, [self.tokens], trigger_mode="always_last", **QUICK)
        for side in (self.width, self.height):
            side.input(None, [self.width, self.height, self.canvas], [self.canvas], show_progress="hidden",
                       api_visibility="private", js=RESIZE)
        self.canvas.sized(self.take_size, None, [self.width, self.height], **QUICK).then(**remembered)
        self.chosen(self.change_model, inputs, [self.canvas, self.width, self.height, self.sampler, self.schedule,
                                                self.steps, self.guidance, self.crop], **QUICK).then(**remembered)
        for event in (self.chosen, self.keep.recall):
            event(self.offer_words, [self.model], [self.words], **QUICK)
        self.generate.click(self.submit, inputs, [self.notes, self.seed, self.more, self.wide, self.meet],
                            trigger_mode="multiple", **QUICK).then(**remembered).then(**follow)
        for event in (self.canvas.preset, self.stage.example):
            event(self.take_preset, inputs, [*filled, self.notes], **QUICK).then(**remembered)
        self.presets.use.click(self.apply_preset, {*inputs, self.presets.chosen}, [*filled, self.notes,
                               self.presets.notes], **QUICK).then(**remembered)
        for event in self._wire_presets():
            event.then(None, None, None, js=OFFER, **QUICK)
        self.taking(self.canvas.opened, lambda event: uploaded(event.get("path"), "regions"))
        self.canvas.saved(self.save, inputs, [self.download, self.notes], **QUICK)
        self.keep.recall(self.recall, inputs, [self.fields[name] for name in self.kept_names], **QUICK)

    @property
    def kept_names(self) -> list[str]:
        return [name for name in self.fields if name not in NOT_KEPT]

    def _fill(self, values: dict[str, Any]) -> list[Any]:
        return [values[name] for name in self.fields]

    def review(self, data: dict[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The lines beside the fields, and the cells if they are looked at."""
        values = self.values(data)
        cells: dict[str, Any] = {}
        hints = composition.hints(values)
        try:
            form.to_preview(values)
            request, unfinished = composition.to_draft(values)
            notes = self.studio.check(request)
            info = self.studio.catalogue.get(request.model)
            layout = layout_of(request, info.multiple) if request.regions else None
            told = composition.notes_of(notes, request, layout)
            hints["status"] = composition.status(request, info, self.studio.pace(request))
            hints["regions"] = " ".join(unfinished)
            if values["canvas"].get("view") == "cells" and layout:
                cells = shares(layout, composition.colours_of(values["canvas"], request))
            return lines(told, None, hints), cells
        except LoomError as error:
            return lines((), error, hints), cells

    def count(self, data: dict[Any, Any]) -> dict[str, str]:
        """How long the prompts are, that of each region by its place."""
        values = {name: data[component] for name, component in self.fields.items() if component in data}
        counter = self.studio.counter(values["model"])
        return counts(composition.prompts_of(values), counter, form.number(values["steps"]))

    def submit(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, ...]:
        """Queue what the form asks for: the lines beside the fields, the seed drawn, and what must be unfolded."""
        values = self.values(data)
        hints = composition.hints(values)
        try:
            preview, wanted = form.to_preview(values), composition.to_request(values)
            if not wanted.regions and wanted.panorama == "off":
                raise BadRequest(say("regions.wrong.none"), "regions")
            notes = self.studio.check(wanted)
            info = self.studio.catalogue.get(wanted.model)
            told = composition.notes_of(notes, wanted, layout_of(wanted, info.multiple) if wanted.regions else None)
            hints["status"] = composition.status(wanted, info, self.studio.pace(wanted))
            self.queue(wanted, preview, request)
        except LoomError as error:
            folded = [unfolded(error.field, names) for names in (MORE, PANORAMA, ("bootstrap", "masks"))]
            return lines((), error, hints), values["seed"], *folded
        return lines(told, None, hints), drawn(values, wanted), gr.skip(), gr.skip(), gr.skip()

    def take_size(self, event: gr.EventData) -> tuple[str, str]:
        """The size that an undone step brought back."""
        return str(carried(event).get("width", "")), str(carried(event).get("height", ""))

    def change_model(self, data: dict[Any, Any]) -> tuple[Any, ...]:
        """The canvas at the size another model is at home at, and the settings it was distilled for."""
        values = self.values(data)
        info = self.studio.info(values["model"])
        canvas = composition.untouched(values["canvas"])
        if info:
            values |= {"width": str(info.width), "height": str(info.height), **form.advised(info, values)}
            values |= composition.crops_for(info, values)
            canvas = composition.resized(values["canvas"], info.width, info.height, info.multiple)
        schedule = gr.Dropdown(choices=form.schedules(values["sampler"]), value=values["schedule"])
        return (canvas, values["width"], values["height"], values["sampler"], schedule, values["steps"],
                values["guidance"], values["crop_after"])

    def offer_words(self, model: str) -> dict[str, Any]:
        """The LoRAs and textual inversions for a model."""
        return at_hand(self.studio.info(model), self.studio.extras, words=False)

    def take_preset(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> list[Any]:
        """A layout to start from; what stood there comes back with undo."""
        values = self.values(data)
        asked = carried(event)
        try:
            return self._take_layout(values, str(asked.get("name") or asked.get("prompt")), owner_of(request))
        except LoomError as error:
            return self._stays(values, error)

    def apply_preset(self, data: dict[Any, Any], request: gr.Request) -> list[Any]:
        """The form with what the chosen preset holds, and the box's line."""
        box, values, owner = self.presets, self.values(data), owner_of(request)
        canvas, notes, told = values["canvas"], lines(), said(say("presets.applied"))
        values = {**values, "canvas": composition.untouched(canvas)}
        try:
            kind, _, name = (data[box.chosen] or "").partition(":")
            if kind == LAYOUT:
                return [*self._take_layout(values, name, owner), told]
            size = values["width"], values["height"]
            values = box.applied(values, data[box.chosen], owner)
            if size != (values["width"], values["height"]):
                values["canvas"] = composition.fitted(canvas, values["width"], values["height"])
        except LoomError as error:
            told = refused(error)
        schedule = gr.Dropdown(choices=form.schedules(values["sampler"]), value=values["schedule"])
        return [*self._fill({**values, "schedule": schedule}), notes, told]

    def _take_layout(self, values: dict[str, Any], name: str, owner: str) -> list[Any]:
        """The form with a layout of the lists in it: the project's at the model's size, one's own as it was saved."""
        preset, info = self.studio.presets_of(owner).get(LAYOUT, name), self.studio.info(values["model"])
        fields = preset.values["fields"]
        request = Request(**{**composition.usual(values, info), **fields})
        if info and not preset.own:
            request = composition.scaled(request, info)
        return self._take(values, request, self._cell(values["model"]), preset.values["states"])

    def taking(self, event: Any, find: Callable[[dict[str, Any]], Path]) -> None:
        """Let an event bring a layout here, or a picture's regions. find: the file, from the event's data; raises
        LoomError."""
        def take(data: dict[Any, Any], event: gr.EventData) -> list[Any]:
            given = carried(event)
            return self.open_file(self.values(data), lambda: find(given), str(given.get("name") or "file")[:80])

        event(take, self.inputs, [*self.fields.values(), self.notes], **QUICK).then(**self.remembering())

    def open_file(self, values: dict[str, Any], find: Callable[[], Path], name: str) -> list[Any]:
        """A layout file, or a picture that was made here: its regions come back."""
        cell, path = self._cell(values["model"]), Path(name)
        try:
            path = find()
            if path.read_bytes()[:8] != PNG:
                found = layoutfile.sketch(path)
                info = self.studio.info(values["model"])
                request = Request(**{**composition.usual(values, info), **found.fields})
                return self._take(values, request, cell, found.states)
            request = metadata.read_png(path)
            if not request.regions:
                raise BadRequest(say("regions.wrong.without", name=name), "regions")
        except LoomError as error:
            return self._stays(values, BadRequest(str(error).replace(path.name, name)))
        names = self.studio.catalogue.names()
        model = model_here(request.model, names) or values["model"]
        refiner = model_here(request.refiner, names) or request.refiner  # one that is not here is told beside it
        return self._take({**values, **form.from_request(request), "model": model, "refiner": refiner,
                           "preview": values["preview"], "batch": values["batch"]}, request, self._cell(model))

    def _stays(self, values: dict[str, Any], error: LoomError) -> list[Any]:
        """The form as it stands, and beside the canvas why."""
        untouched = {**values, "canvas": composition.untouched(values["canvas"])}
        return [*self._fill(untouched), lines((), BadRequest(str(error), "regions"))]

    def _cell(self, model: str) -> int:
        """Pixels of a latent cell."""
        info = self.studio.info(model)
        return info.multiple if info else self.cell

    def _take(self, values: dict[str, Any], request: Request, cell: int,
              states: Sequence[layoutfile.State] = ()) -> list[Any]:
        """The form with a layout in it; everything that is no part of a layout stays."""
        values = {**values, "canvas": composition.canvas_of(request, cell, states), "width": str(request.width),
                  "height": str(request.height), "negative_prompt": request.negative_prompt,
                  **composition.settings_of(request)}
        return [*self._fill(values), lines()]

    def save(self, data: dict[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The layout as one file, also while it is half finished."""
        values = self.values(data)
        try:
            request, states = composition.to_sketch(values)
        except LoomError as error:
            return {}, lines((), error, composition.hints(values))
        text = json.dumps(layoutfile.to_dict(request, states), ensure_ascii=False, indent=1)
        return {"name": "layout.json", "text": text}, self.review(data)[0]

    def recall(self, data: dict[Any, Any], event: gr.EventData) -> list[Any]:
        """The form as this browser left it; the canvas keeps itself."""
        values = {**self.values(data), **self.recalled(event)}
        return [values[name] for name in self.kept_names]

    def empty_stage(self, model: str, message: str = "") -> dict[str, Any]:
        return empty(list(self.studio.presets_of("").all(LAYOUT)), message, TITLE)


def layouts_of(studio: Studio) -> Callable[..., Any]:
    """What the canvas asks the server for: the names of the layouts to start from."""
    def layouts(_: Any = None) -> dict[str, list[str]]:
        return {"names": list(studio.presets_of(owner_of()).all(LAYOUT))}

    return layouts


def estimates(jobs: Jobs) -> list[Callable[..., Any]]:
    """What the canvas asks the server for: the names of a run's regions, and what one of them believed by itself."""
    def regions(job: str) -> list[str]:
        found = jobs.get(str(job))
        if found is None or found.owner != owner_of() or not found.request.regions:
            return []
        return [region.name for region in found.request.regions]

    async def alone(asked: dict[str, Any]) -> dict[str, str]:
        """{"url"} of a region's own picture at a step, or {"error"}."""
        try:
            job = jobs.get(str(asked["job"]))
            if job is None or job.owner != owner_of():
                raise BadRequest(say("regions.wrong.forgotten"))
            step, region, picture = (int(asked[name]) for name in ("step", "region", "picture"))
            return {"url": file_url(await jobs.show_region(job, step - 1, region, picture))}
        except LoomError as error:
            return {"error": str(error)}
        except (KeyError, TypeError, ValueError, OverflowError):
            return {"error": say("answers.odd")}

    return [regions, alone]
