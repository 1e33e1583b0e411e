"""The Regions tab: paint where things go on one side, watch the picture on the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.utils import get_upload_folder

from core import layoutfile, metadata
from core.errors import BadRequest, LoomError
from core.jobs import Jobs
from core.layout import layout_of
from core.request import MAX_SIDE, Request
from core.samplers import SAMPLERS
from ui import composition, form
from ui.components.bar import bar_state
from ui.components.base import file_url
from ui.components.cells import Cells, shares
from ui.components.download import Download
from ui.components.keep import Keep
from ui.components.notes import Notes, lines
from ui.components.number import NumberField
from ui.components.region_canvas import RegionCanvas
from ui.components.seed import SeedField
from ui.components.stage import Stage
from ui.stream import Desk, empty
from ui.studio import Studio
from ui.tabs.text_to_image import LOST, QUICK, WATCH, page_of

SCOPE = "regions"
TITLE = "Paint where things go, say what they are, press Generate."
NOT_KEPT = ("canvas", "model")  # among the settings of a reload
MORE = ("guidance", "schedule", "seed", "batch", "preview", "precision", "crop_after")
PANORAMA = ("width", "height", "panorama", "stride", "wrap")
# What was painted goes along to a size the model takes; while it is none, only the line beside the field changes.
RESIZE = """(width, height, canvas) => {
  const size = [width, height].map(Number);
  const fits = size.every((side) => side % canvas.cell === 0 && side >= 8 * canvas.cell && side <= MAX);
  return { ...canvas, resize: fits ? size : [] };
}""".replace("MAX", str(MAX_SIDE))
PNG = b"\x89PNG\r\n\x1a\n"
MAX_FILE = 40_000_000  # bytes of a file that is opened


class Regions:
    """Builds the tab inside the current gr.Tab and wires it. bar, model: the header's components."""

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown):
        self.studio, self.bar, self.model = studio, bar, model
        self.desk = Desk(studio.jobs)
        info = studio.info(studio.model)
        self.cell = info.multiple if info else 8
        first = Request(model=studio.model)
        self.start = composition.from_request(
            first.replace(width=info.width, height=info.height) if info else first, self.cell)
        self.notes = Notes(SCOPE, lines(hints=composition.hints(self.start)))
        self.cells, self.download, self.keep = Cells(), Download(), Keep(store="latent-loom.regions")
        with gr.Column(elem_classes=["regions-bench"]):
            with gr.Column(elem_classes=["regions-paint"]):
                self.canvas = RegionCanvas({**self.start["canvas"], "fresh": True}, scope=SCOPE,
                                           presets=list(studio.layouts), server_functions=estimates(studio.jobs))
            with gr.Column(elem_classes=["regions-stage"]):
                self.stage = Stage(self._empty(), scope=SCOPE)
                self._run()
            with gr.Column(elem_classes=["regions-beside"]):
                self._beside()
        self.fields = {
            "canvas": self.canvas, "negative_prompt": self.negative, "model": model, "sampler": self.sampler,
            "schedule": self.schedule, "steps": self.steps, "guidance": self.guidance, "seed": self.seed,
            "width": self.width, "height": self.height, "batch": self.batch, "precision": self.precision,
            "preview": self.preview, "bootstrap": self.bootstrap, "masks": self.masks,
            "crop_after": self.crop, "join_prompts": self.join, "panorama": self.panorama, "stride": self.stride,
            "wrap": self.wrap}
        self._wire()

    # -- what stands where

    def _beside(self) -> None:
        start = self.start
        self.negative = gr.Textbox("", label="Negative prompt", lines=1, max_lines=6,
                                   placeholder="What should not be there?")
        self.notes.place("negative_prompt")
        with gr.Accordion("How regions meet", open=False, elem_classes=["more"]) as self.meet:
            self.bootstrap = NumberField("Bootstrapping, % of the steps", start["bootstrap"], low=0, high=50,
                                         slider=True)
            self.notes.place("bootstrap")
            self.masks = gr.Dropdown(composition.MASKS, value=start["masks"], label="Masks")
            self.notes.place("masks")
            self.join = gr.Checkbox(False, label="Put the prompt of the rest behind every region's prompt")
        with gr.Accordion("Size and panorama", open=False, elem_classes=["more"]) as self.wide:
            with gr.Row(elem_classes=["pair three"]):
                self.width = NumberField("Width", start["width"], low=64, high=4096, step=8)
                self.height = NumberField("Height", start["height"], low=64, high=4096, step=8)
            for field in ("width", "height"):
                self.notes.place(field)
            with gr.Row(elem_classes=["pair three"]):
                self.panorama = gr.Dropdown(composition.PANORAMAS, value="off", label="Panorama")
                self.stride = NumberField("Stride, px", start["stride"], low=8, high=512, step=8)
            for field in ("panorama", "stride"):
                self.notes.place(field)
            self.wrap = gr.Checkbox(False, label="The right edge goes on at the left one (360 degrees)")

    def _run(self) -> None:
        start = self.start
        self.notes.place("status", steady=True)
        with gr.Column(elem_classes=["go"]):
            self.generate = gr.Button("Generate", variant="primary", elem_classes=["generate"])
        self.notes.place("form")
        with gr.Row(elem_classes=["pair"]):
            self.sampler = gr.Dropdown(list(SAMPLERS), value=start["sampler"], label="Sampler", min_width=100)
            self.steps = NumberField("Steps", start["steps"], low=1, high=100, slider=True)
        for field in ("sampler", "steps"):
            self.notes.place(field)
        with gr.Accordion("More", open=False, elem_classes=["more"]) as self.more:
            self.guidance = NumberField("Guidance", start["guidance"], low=1, high=30, step=0.5, slider=True)
            self.notes.place("guidance")
            self.seed = SeedField()
            self.notes.place("seed")
            with gr.Row(elem_classes=["pair three"]):
                self.schedule = gr.Dropdown(form.schedules(start["sampler"]), value=start["schedule"],
                                            label="Schedule")
                self.batch = NumberField("Pictures", start["batch"], low=1, high=16)
            with gr.Row(elem_classes=["pair"]):
                self.preview = gr.Dropdown(form.PREVIEWS, value=start["preview"], label="Preview")
                self.precision = gr.Dropdown(form.PRECISIONS, value=start["precision"], label="Precision")
            for field in ("schedule", "batch", "preview", "precision"):
                self.notes.place(field)
            self.crop = NumberField("Crops after, % of the steps", start["crop_after"], low=0, high=100, step=5,
                                    slider=True)
            self.notes.place("crop_after")

    # -- what happens when

    def _wire(self) -> None:
        inputs: set[Block] = set(self.fields.values())
        lines_of = [self.notes, self.cells, self.keep]
        filled = list(self.fields.values())
        review: dict[str, Any] = {"fn": self.review, "inputs": inputs, "outputs": lines_of, **QUICK}
        follow: dict[str, Any] = {"fn": self.follow, "inputs": [self.model], "outputs": [self.stage, self.bar], **WATCH}
        for field in (self.negative, self.sampler, self.schedule, self.steps, self.guidance, self.seed, self.batch,
                      self.preview, self.precision, self.bootstrap, self.masks, self.crop, self.join, self.panorama,
                      self.stride, self.wrap):
            field.input(trigger_mode="always_last", **review)
        self.canvas.edit(trigger_mode="always_last", **review)
        self.sampler.input(lambda sampler, schedule: gr.Dropdown(
            choices=form.schedules(sampler),
            value=schedule if schedule in [v for _, v in form.schedules(sampler)] else "Automatic"),
            [self.sampler, self.schedule], [self.schedule], **QUICK)
        for side in (self.width, self.height):
            side.input(None, [self.width, self.height, self.canvas], [self.canvas], show_progress="hidden",
                       api_visibility="private", js=RESIZE)
        self.canvas.sized(self.take_size, None, [self.width, self.height], **QUICK)
        self.model.input(self.change_model, inputs, [self.canvas, self.width, self.height], **QUICK)
        self.generate.click(self.submit, inputs, [self.notes, self.seed, self.more, self.wide, self.meet],
                            trigger_mode="multiple", **QUICK).then(**follow)
        for event in (self.canvas.preset, self.stage.example):
            event(self.take_preset, inputs, [*filled, self.notes], **QUICK)
        self.canvas.opened(self.open_file, inputs, [*filled, self.notes], **QUICK)
        self.canvas.saved(self.save, inputs, [self.download, self.notes], **QUICK)
        for event in (self.stage.attach, self.stage.restore):
            event(self.attach, None, None, **QUICK).then(**follow)
        self.stage.stop(self.stop, None, None, trigger_mode="multiple", **QUICK)
        self.stage.reuse(self.reuse, None, [self.seed], **QUICK)
        settings = [component for name, component in self.fields.items() if name not in NOT_KEPT]
        self.keep.recall(self.recall, inputs, settings, **QUICK)

    def _values(self, data: dict[Any, Any]) -> dict[str, Any]:
        return {name: data[component] for name, component in self.fields.items()}

    def _fill(self, values: dict[str, Any]) -> list[Any]:
        return [values[name] for name in self.fields]

    def review(self, data: dict[Any, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The lines beside the fields, the cells if they are looked at, and what the browser is to keep."""
        values = self._values(data)
        kept = {name: value for name, value in values.items() if name not in NOT_KEPT}
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
            return lines(told, None, hints), cells, kept
        except LoomError as error:
            return lines((), error, hints), cells, kept

    def submit(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, ...]:
        """Queue what the form asks for: the lines beside the fields, the seed drawn, and what must be unfolded."""
        values = self._values(data)
        hints = composition.hints(values)
        try:
            preview, wanted = form.to_preview(values), composition.to_request(values)
            if not wanted.regions and wanted.panorama == "off":
                raise BadRequest("There is no region yet: paint one, choose a layout to start from, or take Text to "
                                 "image.", "regions")
            notes = self.studio.check(wanted)
            info = self.studio.catalogue.get(wanted.model)
            told = composition.notes_of(notes, wanted, layout_of(wanted, info.multiple) if wanted.regions else None)
            hints["status"] = composition.status(wanted, info, self.studio.pace(wanted))
            job = self.studio.jobs.submit(wanted, preview, owner=page_of(request))
        except LoomError as error:
            folded = [gr.Accordion(open=True) if error.field in names else gr.skip()
                      for names in (MORE, PANORAMA, ("bootstrap", "masks"))]
            return lines((), error, hints), values["seed"], *folded
        self.desk.add(page_of(request), job)
        seed = {"random": values["seed"]["random"], "seed": str(wanted.seed)}
        return lines(told, None, hints), seed, gr.skip(), gr.skip(), gr.skip()

    async def follow(self, model: str, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        """What this page's runs show, until all are over."""
        page = page_of(request)
        if self.desk.lost(page):
            yield self._empty(LOST), bar_state(self.studio, model)
        state = None
        async for state in self.desk.follow(page):
            yield state, bar_state(self.studio, model)
        if state:  # the run is over, and with it its place in the queue
            yield state, bar_state(self.studio, model)

    def attach(self, event: gr.EventData, request: gr.Request) -> None:
        """Let the page follow runs it remembers."""
        jobs = event._data.get("jobs") if isinstance(event._data, dict) else None
        self.desk.attach(page_of(request), jobs if isinstance(jobs, list) else [])

    def stop(self, event: gr.EventData) -> None:
        self.studio.jobs.stop(str(event._data.get("job", "")))

    def reuse(self, event: gr.EventData) -> dict[str, Any]:
        return {"random": False, "seed": str(event._data.get("seed", ""))}

    def take_size(self, event: gr.EventData) -> tuple[str, str]:
        """The size that an undone step brought back."""
        return str(event._data.get("width", "")), str(event._data.get("height", ""))

    def change_model(self, data: dict[Any, Any]) -> tuple[Any, ...]:
        """The canvas at the size another model is at home at."""
        values = self._values(data)
        info = self.studio.info(values["model"])
        if not info:
            return composition.untouched(values["canvas"]), values["width"], values["height"]
        return (composition.resized(values["canvas"], info.width, info.height, info.multiple), str(info.width),
                str(info.height))

    def take_preset(self, data: dict[Any, Any], event: gr.EventData) -> list[Any]:
        """A layout to start from; what stood there comes back with undo."""
        values = self._values(data)
        found = event._data if isinstance(event._data, dict) else {}
        layout = self.studio.layouts.get(str(found.get("name") or found.get("prompt")))
        if layout is None:
            return [*self._fill({**values, "canvas": composition.untouched(values["canvas"])}), lines()]
        info = self.studio.info(values["model"])
        request = composition.scaled(layout, info) if info else layout
        return self._take(values, request, info.multiple if info else self.cell)

    def open_file(self, data: dict[Any, Any], event: gr.EventData) -> list[Any]:
        """A layout file, or a picture that was made here: its regions come back."""
        values = self._values(data)
        found = event._data if isinstance(event._data, dict) else {}
        info = self.studio.info(values["model"])
        cell = info.multiple if info else self.cell
        try:
            path, name = uploaded(found.get("path")), str(found.get("name") or "file")[:80]
            if path.read_bytes()[:8] != PNG:
                current = composition.settings_only(values)
                return self._take(values, Request(**{**current, **layoutfile.read(path)}), cell)
            request = metadata.read_png(path)
            if not request.regions:
                raise BadRequest(f"{name} was made without regions.", "regions")
        except LoomError as error:
            line = str(error).replace(Path(str(found.get("path"))).name, str(found.get("name") or "file")[:80])
            untouched = {**values, "canvas": composition.untouched(values["canvas"])}
            return [*self._fill(untouched), lines((), BadRequest(line, "regions"))]
        seed = {"random": False, "seed": str(request.seed)}
        return self._take({**values, **form.from_request(request), "model": values["model"], "seed": seed,
                           "preview": values["preview"], "batch": values["batch"]}, request, cell)

    def _take(self, values: dict[str, Any], request: Request, cell: int) -> list[Any]:
        """The form with a layout in it; everything that is no part of a layout stays."""
        values = {**values, "canvas": composition.canvas_of(request, cell), "width": str(request.width),
                  "height": str(request.height), "negative_prompt": request.negative_prompt,
                  **composition.settings_of(request)}
        return [*self._fill(values), lines()]

    def save(self, data: dict[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The layout as one file."""
        values = self._values(data)
        try:
            request = composition.to_request(values)
        except LoomError as error:
            return {}, lines((), error, composition.hints(values))
        text = json.dumps(layoutfile.to_dict(request), ensure_ascii=False, indent=1)
        return {"name": "layout.json", "text": text}, self.review(data)[0]

    def recall(self, data: dict[Any, Any], event: gr.EventData) -> list[Any]:
        """The form as this browser left it; the canvas keeps itself."""
        values = {name: value for name, value in self._values(data).items() if name not in NOT_KEPT}
        kept = event._data
        if isinstance(kept, dict) and set(kept) == set(values):
            values |= kept
        return list(values.values())

    def _empty(self, message: str = "") -> dict[str, Any]:
        return empty(list(self.studio.layouts), message, TITLE)


def uploaded(path: object) -> Path:
    """A file this page has just sent. Raises BadRequest for any other place."""
    folder = Path(get_upload_folder()).resolve()
    found = Path(str(path)).resolve()
    if not found.is_relative_to(folder) or not found.is_file():
        raise BadRequest("That file has not arrived: choose it again.", "regions")
    if found.stat().st_size > MAX_FILE:
        raise BadRequest(f"That file is larger than {MAX_FILE // 10**6} MB: it is no layout of this studio.", "regions")
    return found


def estimates(jobs: Jobs) -> list[Callable[..., Any]]:
    """What the canvas asks the server for: the names of a run's regions, and what one of them believed by itself."""
    def regions(job: str) -> list[str]:
        """The rest first."""
        found = jobs.get(str(job))
        if found is None or not found.request.regions:
            return []
        return ["Rest", *(region.name for region in found.request.regions)]

    async def alone(asked: dict[str, Any]) -> dict[str, str]:
        """{"url"} of a region's own picture at a step, or {"error"}."""
        try:
            job = jobs.get(str(asked["job"]))
            if job is None:
                raise BadRequest("This run is forgotten: only its picture is left.")
            step, region, picture = (int(asked[name]) for name in ("step", "region", "picture"))
            return {"url": file_url(await jobs.show_region(job, step - 1, region, picture))}
        except (LoomError, KeyError, TypeError, ValueError) as error:
            return {"error": str(error)}

    return [regions, alone]
