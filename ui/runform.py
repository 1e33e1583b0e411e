"""What the forms that start runs have in common: their stage, their memory in the browser, a few fields."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from core.compare import NO_REFINER as NEVER
from core.jobs import Job
from core.request import Preview, Request
from ui import form, line
from ui.answers import carried
from ui.components.bar import bar_state
from ui.components.keep import Keep
from ui.components.models_panel import ModelsPanel
from ui.components.notes import Notes
from ui.components.number import NumberField
from ui.components.seed import SeedField
from ui.components.stage import Stage
from ui.languages import say, word
from ui.owners import owner_of
from ui.presetbox import PresetBox
from ui.stream import Desk
from ui.studio import Studio

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
WATCH: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private",
                         "trigger_mode": "multiple"}
NO_REFINER = (word("form.no-refiner"), "")
# Into the browser's memory without asking the server. A page that opens changes its texts too, to nothing: that is no
# reason to forget what was typed before.
REMEMBER = """(kept, ...values) => {
  const held = Object.fromEntries(NAMES.map((name, k) => [name, values[k]]));
  const typed = ["prompt", "negative_prompt"].some((name) => held[name]);
  return typed || ANYHOW || Object.keys(kept || {}).length ? held : kept;
}"""


class RunForm:
    """The base of a tab that builds itself inside the current gr.Tab. fields: name -> component, what a run hangs on.

    A subclass makes `notes`, `stage`, `keep`, `fields` and its own fields, and says what its empty stage shows.
    """

    notes: Notes
    stage: Stage
    keep: Keep
    fields: dict[str, Any]
    sampler: gr.Dropdown
    schedule: gr.Dropdown
    guidance: NumberField
    seed: SeedField
    preview: gr.Dropdown
    precision: gr.Dropdown
    clip_skip: NumberField
    more: gr.Accordion
    refining: gr.Row
    refiner: gr.Dropdown
    refiner_from: NumberField | gr.Textbox
    presets: PresetBox

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown, panel: ModelsPanel):
        self.studio, self.bar, self.model = studio, bar, model
        self.scope = type(self).__name__
        self.desk = Desk(studio.jobs, self.scope)
        self.chosen = panel.chosen  # once for each other model

    def empty_stage(self, model: str, message: str = "") -> dict[str, Any]:
        """The stage before the first run. message: why it is empty, if that needs saying."""
        raise NotImplementedError

    # -- fields

    def _guidance(self, start: dict[str, Any]) -> None:
        self.guidance = NumberField("field.guidance", start["guidance"], low=1, high=30, step=0.5, slider=True)
        self.notes.place("guidance")

    def _seed(self) -> None:
        self.seed = SeedField()
        self.notes.place("seed")

    def _schedule(self, start: dict[str, Any]) -> None:
        self.schedule = gr.Dropdown(form.schedules(start["sampler"]), value=start["schedule"],
                                    label=word("field.schedule"))

    def _machine(self, start: dict[str, Any]) -> None:
        with gr.Row(elem_classes=["pair"]):
            self.preview = gr.Dropdown(form.PREVIEWS, value=start["preview"], label=word("field.preview"))
            self.precision = gr.Dropdown(form.PRECISIONS, value=start["precision"], label=word("field.precision"))

    def _clip_skip(self, start: dict[str, Any]) -> None:
        self.clip_skip = NumberField("field.clip-skip", start["clip_skip"], low=1, high=12)
        self.notes.place("clip_skip")

    def _refiner(self, start: dict[str, Any], several: bool = False) -> None:
        """In sight where the model takes one. several: it may take over at several places, each compared."""
        shown = self.studio.takes_refiners(self.studio.model)
        with gr.Row(elem_classes=["pair three"], visible=shown) as self.refining:
            self.refiner = gr.Dropdown([NO_REFINER], value=start["refiner"], label=word("field.refiner"),
                                       allow_custom_value=True)
            self.refiner_from = gr.Textbox(
                start["refiner_from"], label=word("field.refiner-from"), placeholder=f"0.6 0.8 {NEVER}", min_width=80,
            ) if several else NumberField("field.refiner-from", start["refiner_from"], low=0, high=1, step=0.05)
        self._lines("refiner", "refiner_from")

    def _lines(self, *names: str) -> None:
        for name in names:
            self.notes.place(name)

    # -- what happens when

    def _wire_stage(self) -> dict[str, Any]:
        """The stage's own events, and the sampler's; what follows a run, for `.then`."""
        follow: dict[str, Any] = {"fn": self.follow, "inputs": [self.model], "outputs": [self.stage, self.bar], **WATCH}
        for event in (self.stage.attach, self.stage.restore):
            event(self.attach, None, None, **QUICK).then(**follow)
        self.stage.act(self.act, None, None, trigger_mode="multiple", **QUICK)
        self.stage.forever(self.forever, None, None, trigger_mode="multiple", **QUICK)
        self.stage.reuse(self.reuse, None, [self.seed], **QUICK)
        self.sampler.input(self.offer_schedules, [self.sampler, self.schedule], [self.schedule], **QUICK).then(
            **self.remembering())
        self._wire_refiner()
        return follow

    def _wire_refiner(self) -> None:
        for event in (self.model.change, self.more.expand):
            event(self.offer_refiners, [self.model], [self.refiner, self.refining], **QUICK)

    def _wire_presets(self) -> list[Any]:
        """The box's own events; those that change what there is, for `.then`."""
        box, model = self.presets, self.model
        chosen, listed = [model, box.chosen, box.name], [box.chosen, box.name, box.notes]
        save = box.save.click(self.save_preset, {*self.inputs, box.chosen, box.kind, box.name}, listed, **QUICK)
        rename = box.rename.click(box.rename_chosen, chosen, listed, **QUICK)
        delete = box.delete.click(box.delete_chosen, chosen, listed, **QUICK)
        for event in (self.chosen, box.fold.expand):  # the other form's box may have saved some
            event(box.offer, [model, box.chosen], [box.chosen], **QUICK)
        return [save, rename, delete]

    def save_preset(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, Any, Any]:
        """Save the form as the box says: its list, its name's field and its line."""
        box = self.presets
        return box.save_form(self.values(data), data[box.kind], data[box.name], data[box.chosen], owner_of(request))

    def remembering(self, names: Iterable[str] = (), anyhow: bool = True) -> dict[str, Any]:
        """Arguments of an event after which the browser remembers the form. anyhow: even one without any text."""
        kept = self.kept_names
        js = REMEMBER.replace("NAMES", json.dumps(kept)).replace("ANYHOW", json.dumps(anyhow))
        return {"fn": None, "inputs": [self.keep, *(self.fields[name] for name in kept)], "outputs": [self.keep],
                "js": js, "show_progress": "hidden", "api_visibility": "private"}

    @property
    def kept_names(self) -> list[str]:
        """The fields that the browser remembers."""
        return list(self.fields)

    def recalled(self, event: gr.EventData) -> dict[str, Any]:
        """What the browser remembers of this form; nothing, when that is of another version."""
        kept = carried(event)
        return kept if set(kept) == set(self.kept_names) else {}

    def values(self, data: dict[Any, Any]) -> dict[str, Any]:
        """The form as it stands, from what gradio passes for a set of inputs."""
        return self.seen({name: data[component] for name, component in self.fields.items()})

    def seen(self, values: dict[str, Any]) -> dict[str, Any]:
        """A form's values without a refiner where there is no such field in sight: the model takes none."""
        return values if self.studio.takes_refiners(values["model"]) else {**values, "refiner": ""}

    @property
    def inputs(self) -> set[Block]:
        return set(self.fields.values())

    def queue(self, wanted: Request, preview: Preview, request: gr.Request) -> Job:
        """Submit a run for an open page. Raises LoomError."""
        jobs, owner = self.studio.jobs, owner_of(request)
        job = jobs.submit(wanted, preview, owner=owner, lasting=True)
        self.desk.add(page_of(request), job)
        if (forever := jobs.forever(owner)) and forever.scope == self.scope:
            jobs.go_on_forever(owner, self.scope, job)
        return job

    async def follow(self, model: str, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        """What this page's runs show, until all are over."""
        page = page_of(request)
        if self.desk.lost(page):
            yield self.empty_stage(model, say("form.lost")), bar_state(self.studio, model)
        state = None
        async for state in self.desk.follow(page):
            yield state, bar_state(self.studio, model)
        if state:  # the run is over, and with it its place in the queue
            yield state, bar_state(self.studio, model)

    def attach(self, event: gr.EventData, request: gr.Request) -> None:
        """Let the page follow runs it remembers."""
        jobs = carried(event).get("jobs")
        self.desk.attach(page_of(request), jobs if isinstance(jobs, list) else [], owner_of(request))

    def act(self, event: gr.EventData, request: gr.Request) -> None:
        """Stop, pause, resume or discard the run on the stage."""
        line.act(self.studio.jobs, owner_of(request), event._data)

    def forever(self, event: gr.EventData, request: gr.Request) -> None:
        """Whether another run follows when the last one is done. Where none goes on, the page presses Generate."""
        if carried(event).get("on"):
            self.studio.jobs.go_on_forever(owner_of(request), self.scope, self.desk.last(page_of(request)))
        else:
            self.studio.jobs.end_forever(owner_of(request))

    def reuse(self, event: gr.EventData) -> dict[str, Any]:
        return {"random": False, "seed": str(carried(event).get("seed", ""))}

    def offer_schedules(self, sampler: str, schedule: str) -> Any:
        """The schedules of a sampler; one it does not accept gives way to Automatic, in sight."""
        choices = form.schedules(sampler)
        kept = schedule if schedule in [value for _, value in choices] else "Automatic"
        return gr.Dropdown(choices=choices, value=kept)

    def offer_refiners(self, model: str) -> tuple[Any, Any]:
        """The refiners that go with a model, as far as they are known by now; out of sight where none does."""
        shown = self.studio.takes_refiners(model)
        known = self.studio.refiners() if shown else []
        return gr.Dropdown(choices=[NO_REFINER, *((Path(name).name, name) for name in known)]), gr.Row(visible=shown)


def page_of(request: gr.Request) -> str:
    """The name of an open page: gradio's session."""
    return str(request.session_hash or "")


def drawn(values: dict[str, Any], wanted: Request) -> dict[str, Any]:
    """The seed's field after a run was queued: the dice as it was, beside the seed that was drawn."""
    return {"random": values["seed"]["random"], "seed": str(wanted.seed)}


def unfolded(field: str | None, names: Sequence[str]) -> Any:
    """An accordion that opens when the field an error is about lies in it."""
    return gr.Accordion(open=True) if field in names else gr.skip()
