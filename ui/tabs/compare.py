"""The Compare tab: samplers and steps over one prompt, all cells live, with figures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from core.contests import Contest
from core.errors import LoomError
from core.request import Preview
from core.samplers import SCHEDULES
from ui import contest
from ui.components.bar import bar_state
from ui.components.compare_board import Board
from ui.components.compare_samplers import SamplerPicks
from ui.components.keep import Keep
from ui.components.notes import Notes, lines
from ui.components.number import NumberField
from ui.runform import QUICK, WATCH, RunForm, page_of, unfolded
from ui.studio import Studio
from ui.tabs.text_to_image import examples

SCOPE = "compare"
LOST = "The studio was started anew since the last comparison. Its cells are in the outputs folder."
MORE = ("negative_prompt", "guidance", "schedule", "width", "height", "preview", "precision")
MAX_PAGES = 1_000  # whose comparison is remembered
_EQUAL = "Steps then count network calls: a sampler that asks twice a step takes half as many."


class Compare(RunForm):
    """Builds the tab inside the current gr.Tab and wires it. bar, model: the header's components."""

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown):
        super().__init__(studio, bar, model)
        self.start = contest.first_values(studio)
        self.notes = Notes(SCOPE, self._review(self.start | {"model": studio.model}))
        self.keep = Keep(store="latent-loom.compare")
        self._pages: OrderedDict[str, Contest] = OrderedDict()
        self._turn: dict[str, int] = {}
        self._lost: set[str] = set()
        with gr.Column(elem_classes=["compare-bench"]):
            with gr.Column(elem_classes=["compare-prompt"]):
                self.prompt = gr.Textbox("", label="Prompt", lines=2, max_lines=8,
                                         placeholder="What should be in every cell?")
                self.notes.place("prompt")
            with gr.Column(elem_classes=["compare-picks"]):
                self.samplers = SamplerPicks(self.start["samplers"])
                self._lines("samplers", "sampler")
            with gr.Column(elem_classes=["compare-asked"]):
                self._asked()
            with gr.Column(elem_classes=["compare-board"]):
                self.board = Board(contest.empty())
        self.fields = {"prompt": self.prompt, "negative_prompt": self.negative, "model": model,
                       "samplers": self.samplers, "steps": self.steps, "equal": self.equal, "seeds": self.seeds,
                       "reference": self.reference, "schedule": self.schedule, "guidance": self.guidance,
                       "width": self.width, "height": self.height, "preview": self.preview,
                       "precision": self.precision}
        self._wire()

    # -- what stands where

    def _asked(self) -> None:
        start = self.start
        with gr.Row(elem_classes=["pair"]):
            self.steps = gr.Textbox(start["steps"], label="Steps", placeholder="5 10 20", min_width=80)
            self.seeds = gr.Textbox("", label="Seeds", placeholder="new", min_width=80)
        self._lines("steps", "seeds", "seed")
        self.equal = gr.Checkbox(start["equal"], label="Equal work", info=_EQUAL)
        self.reference = NumberField("Reference, steps of Heun (0: none)", start["reference"], low=0, high=150)
        self.notes.place("reference")
        with gr.Column(elem_classes=["go"]):
            self.compare = gr.Button("Compare", variant="primary", elem_classes=["generate"])
        self._lines("status", "form", "model")
        with gr.Accordion("More", open=False, elem_classes=["more"]) as self.more:
            self.negative = gr.Textbox("", label="Negative prompt", lines=1, max_lines=6,
                                       placeholder="What should not be there?")
            self.notes.place("negative_prompt")
            self._guidance(start)
            self.schedule = gr.Dropdown(list(SCHEDULES), value="Automatic", label="Schedule")
            self.notes.place("schedule")
            with gr.Row(elem_classes=["pair three"]):
                self.width = NumberField("Width", start["width"], low=64, high=4096, step=8)
                self.height = NumberField("Height", start["height"], low=64, high=4096, step=8)
            self._lines("width", "height")
            self._machine(start)
            self._lines("preview", "precision")

    # -- what happens when

    def _wire(self) -> None:
        inputs, remembered = self.inputs, self.remembering()
        follow: dict[str, Any] = {"fn": self.watch, "inputs": [self.model], "outputs": [self.board, self.bar], **WATCH}
        marks = [self.notes, self.seeds, self.more]
        for text in (self.prompt, self.negative, self.steps, self.seeds):
            text.change(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
            text.change(trigger_mode="multiple", **self.remembering(anyhow=False))
        for field in (self.samplers, self.equal, self.reference, self.schedule, self.guidance, self.width, self.height,
                      self.preview, self.precision):
            field.input(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
            field.input(trigger_mode="multiple", **remembered)
        self.model.input(self.change_model, inputs, [self.width, self.height, self.notes], **QUICK)
        self.compare.click(self.submit, inputs, marks, trigger_mode="multiple", **QUICK).then(**remembered).then(
            **follow)
        self.board.example(self.begin, inputs, [self.prompt, self.samplers, self.steps, self.equal], **QUICK).then(
            self.submit, inputs, marks, **QUICK).then(**remembered).then(**follow)
        self.board.attach(self.reattach, None, None, **QUICK).then(**follow)
        self.board.resume(self.resume, None, None, **QUICK).then(**follow)
        self.board.stop(self.halt, None, None, trigger_mode="multiple", **QUICK)
        self.keep.recall(self.recall, inputs, [self.fields[name] for name in self.kept_names] + [self.notes], **QUICK)

    @property
    def kept_names(self) -> list[str]:
        """All but the model, which is the header's."""
        return [name for name in self.fields if name != "model"]

    def review(self, data: dict[Any, Any]) -> dict[str, Any]:
        """The lines beside the fields, for the form as it stands."""
        return self._review(self.values(data))

    def _review(self, values: dict[str, Any], error: LoomError | None = None) -> dict[str, Any]:
        """Also what it will cost, and which cells are known to go wrong."""
        hints = {}
        try:
            Preview(values["preview"] or "")
            comparison = contest.plan_of(contest.to_spec(values), self.studio)
            hints["status"] = contest.status(comparison, self.studio)
            if bad := contest.flagged(comparison):
                return {**lines((), error, hints), "samplers": ["note", bad]}
        except LoomError as problem:
            error = error or problem
        return lines((), error, hints)

    def submit(self, data: dict[Any, Any], request: gr.Request) -> tuple[Any, Any, Any]:
        """Begin what the form asks for: the lines beside the fields, the seeds drawn, and More, open if need be."""
        values = self.values(data)
        try:
            preview, spec = Preview(values["preview"] or ""), contest.to_spec(values)
            made = self.studio.contests.start(contest.plan_of(spec, self.studio), preview, page_of(request))
        except LoomError as error:
            return self._review(values, error), values["seeds"], unfolded(error.field, MORE)
        self._show(page_of(request), made)
        seeds = " ".join(str(seed) for seed in spec.get("seeds", [spec.get("seed")]))
        return self._review({**values, "seeds": seeds}), seeds, gr.skip()

    async def watch(self, model: str, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        """What this page's comparison shows, until it is over. A later watcher of the same page takes over."""
        page = page_of(request)
        if page in self._lost:
            self._lost.discard(page)
            yield contest.empty(LOST), bar_state(self.studio, model)
            return
        turn = self._turn[page] = self._turn.get(page, 0) + 1
        made = self._pages.get(page)
        if made is None:
            return
        async for _ in self.studio.contests.watch(made):
            if self._turn.get(page) != turn:
                return
            yield contest.state_of(made, self.studio), bar_state(self.studio, model)

    def reattach(self, event: gr.EventData, request: gr.Request) -> None:
        """Let the page follow the comparison it remembers."""
        if made := self._of(event):
            self._show(page_of(request), made)
        else:
            self._lost.add(page_of(request))

    def resume(self, event: gr.EventData, request: gr.Request) -> None:
        if made := self._of(event):
            self.studio.contests.resume(made)
            self._show(page_of(request), made)
        else:
            self._lost.add(page_of(request))

    def halt(self, event: gr.EventData) -> None:
        if made := self._of(event):
            self.studio.contests.stop(made)

    def begin(self, data: dict[Any, Any]) -> tuple[Any, ...]:
        """A sensible comparison; a prompt that is there stays."""
        values = self.values(data)
        prompt = values["prompt"] if str(values["prompt"] or "").strip() else \
            examples(self.studio.info(values["model"]))[0]
        return prompt, self.start["samplers"], self.start["steps"], True

    def recall(self, data: dict[Any, Any], event: gr.EventData) -> list[Any]:
        """The form as this browser left it."""
        values = self.values(data) | self.recalled(event)
        return [*(values[name] for name in self.kept_names), self._review(values)]

    def change_model(self, data: dict[Any, Any]) -> tuple[Any, ...]:
        """The form at another model's own size."""
        values = self.values(data)
        if info := self.studio.info(values["model"]):
            values |= {"width": str(info.width), "height": str(info.height)}
        return values["width"], values["height"], self._review(values)

    def empty_stage(self, model: str, message: str = "") -> dict[str, Any]:
        return contest.empty(message)

    def _of(self, event: gr.EventData) -> Contest | None:
        asked = event._data if isinstance(event._data, dict) else {}
        return self.studio.contests.get(str(asked.get("id", "")))

    def _show(self, page: str, made: Contest) -> None:
        self._pages[page] = made
        self._pages.move_to_end(page)
        while len(self._pages) > MAX_PAGES:
            old, _ = self._pages.popitem(last=False)
            self._turn.pop(old, None)
