"""The Compare tab: samplers and steps over one prompt, all cells live, with figures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.blocks import Block

from core.contest import Contest, Film
from core.contests import check_size
from core.errors import LoomError
from core.request import Preview
from core.samplers import SCHEDULES
from ui import contest, form
from ui.answers import carried
from ui.components.bar import bar_state
from ui.components.compare_board import Board
from ui.components.compare_samplers import SamplerPicks
from ui.components.keep import Keep
from ui.components.models_panel import ModelsPanel
from ui.components.notes import Notes, lines
from ui.components.number import NumberField
from ui.components.tokens import Tokens, counts
from ui.languages import say, word
from ui.owners import owner_of
from ui.runform import QUICK, WATCH, RunForm, page_of, unfolded
from ui.stream import turn_after
from ui.studio import Studio
from ui.tabs.text_to_image import examples

SCOPE = "compare"
MORE = ("negative_prompt", "guidance", "schedule", "width", "height", "preview", "precision", "clip_skip", "refiner",
        "refiner_from")
MAX_PAGES = 1_000  # whose comparison is remembered


class Compare(RunForm):
    """Builds the tab inside the current gr.Tab and wires it. bar, model, panel: the header's components."""

    def __init__(self, studio: Studio, bar: gr.HTML, model: gr.Dropdown, panel: ModelsPanel):
        super().__init__(studio, bar, model, panel)
        self.start = contest.first_values(studio)
        self.notes = Notes(SCOPE, first=lambda: self._review(self.start | {"model": studio.model}))
        self.keep, self.tokens = Keep(store="latent-loom.compare"), Tokens(scope=SCOPE)
        self._pages: OrderedDict[str, Contest] = OrderedDict()
        self._turn: dict[str, int] = {}
        self._refused: dict[str, LoomError] = {}  # page -> why its last comparison did not begin
        self._lost: dict[str, str] = {}  # page -> why it cannot see what it asked for
        with gr.Column(elem_classes=["compare-bench"]):
            with gr.Column(elem_classes=["compare-prompt"]):
                self.tokens.place("prompt")
                self.prompt = gr.Textbox("", label=word("field.prompt"), elem_classes=["completes"], lines=2,
                                         max_lines=8, placeholder=word("compare.what"))
                self.notes.place("prompt")
            with gr.Column(elem_classes=["compare-picks"]):
                self.samplers = SamplerPicks(self.start["samplers"])
                self._lines("samplers", "sampler")
            with gr.Column(elem_classes=["compare-asked"]):
                self._asked()
            with gr.Column(elem_classes=["compare-board"]):
                self.board = Board({"id": "", "state": "empty"}, films=contest.FILMS)
        self.fields = {"prompt": self.prompt, "negative_prompt": self.negative, "model": model,
                       "samplers": self.samplers, "steps": self.steps, "equal": self.equal, "seeds": self.seeds,
                       "reference": self.reference, "schedule": self.schedule, "guidance": self.guidance,
                       "width": self.width, "height": self.height, "preview": self.preview,
                       "precision": self.precision, "clip_skip": self.clip_skip, "refiner": self.refiner,
                       "refiner_from": self.refiner_from}
        self._wire()

    # -- what stands where

    def _asked(self) -> None:
        start = self.start
        with gr.Row(elem_classes=["pair"]):
            self.steps = gr.Textbox(start["steps"], label=word("field.steps"), placeholder="5 10 20", min_width=80)
            self.seeds = gr.Textbox("", label=word("compare.seeds-field"), placeholder=word("compare.new-seed"),
                                    min_width=80)
        self._lines("steps", "seeds", "seed")
        self.equal = gr.Checkbox(start["equal"], label=word("compare.equal-work"),
                                 info=word("compare.about-equal-work"))
        self.reference = NumberField("field.reference", start["reference"], low=0, high=150)
        self.notes.place("reference")
        with gr.Column(elem_classes=["go"]):
            self.compare = gr.Button(word("compare.go"), variant="primary", elem_classes=["generate"])
        self._lines("status", "form", "model")
        with gr.Accordion(word("common.more"), open=False, elem_classes=["more"]) as self.more:
            self.tokens.place("negative_prompt")
            self.negative = gr.Textbox("", label=word("field.negative-prompt"), elem_classes=["completes"], lines=1,
                                       max_lines=6, placeholder=word("field.not-there"))
            self.notes.place("negative_prompt")
            self._guidance(start)
            schedules = [(word("field.automatic") if name == "Automatic" else name, name) for name in SCHEDULES]
            self.schedule = gr.Dropdown(schedules, value=start["schedule"], label=word("field.schedule"))
            self.notes.place("schedule")
            with gr.Row(elem_classes=["pair three"]):
                self.width = NumberField("field.width", start["width"], low=64, high=4096, step=8)
                self.height = NumberField("field.height", start["height"], low=64, high=4096, step=8)
            self._lines("width", "height")
            self._machine(start)
            self._lines("preview", "precision")
            self._clip_skip(start)
            self._refiner(start, several=True)

    # -- what happens when

    def _wire(self) -> None:
        inputs, remembered = self.inputs, self.remembering()
        filled = [*(self.fields[name] for name in self.kept_names), self.notes]
        follow: dict[str, Any] = {"fn": self.watch, "inputs": [self.model], "outputs": [self.board, self.bar], **WATCH}
        # the pace of what was just made tells how long the next one takes
        told: dict[str, Any] = {"fn": self.retell, "inputs": inputs, "outputs": [self.notes], **QUICK}
        marks = [self.notes, self.seeds, self.more]
        self._wire_refiner()
        for text in (self.prompt, self.negative, self.steps, self.seeds, self.refiner_from):
            text.change(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
            text.change(trigger_mode="multiple", **self.remembering(anyhow=False))
        counted: set[Block] = {self.prompt, self.negative, self.steps, self.model}
        for event in (self.prompt.change, self.negative.change, self.steps.change, self.chosen):
            event(self.count, counted, [self.tokens], trigger_mode="always_last", **QUICK)
        for field in (self.samplers, self.equal, self.reference, self.schedule, self.guidance, self.width, self.height,
                      self.preview, self.precision, self.clip_skip, self.refiner):
            field.input(self.review, inputs, [self.notes], trigger_mode="always_last", **QUICK)
            field.input(trigger_mode="multiple", **remembered)
        self.chosen(self.change_model, inputs, filled, **QUICK).then(**remembered)
        self.compare.click(self.submit, inputs, marks, trigger_mode="multiple", **QUICK).then(**remembered).then(
            **follow).then(**told)
        self.board.example(self.begin, inputs, [self.prompt, self.samplers, self.steps, self.equal], **QUICK).then(
            self.submit, inputs, marks, **QUICK).then(**remembered).then(**follow).then(**told)
        # multiple: what is chosen while an earlier question is on its way is asked for, too
        self.board.attach(self.reattach, None, None, trigger_mode="multiple", **QUICK).then(**follow)
        self.board.arrived(**told)
        self.board.film(self.film, None, None, **QUICK).then(**follow)
        self.board.resume(self.resume, None, None, **QUICK).then(**follow).then(**told)
        self.board.stop(self.halt, None, None, trigger_mode="multiple", **QUICK)
        self.board.opened(self.fill, inputs, filled, **QUICK).then(**remembered)
        self.keep.recall(self.recall, inputs, filled, **QUICK)

    @property
    def kept_names(self) -> list[str]:
        """All but the model, which is the header's."""
        return [name for name in self.fields if name != "model"]

    def review(self, data: dict[Any, Any]) -> dict[str, Any]:
        """The lines beside the fields, for the form as it stands."""
        return self._review(self.values(data))

    def retell(self, data: dict[Any, Any], request: gr.Request) -> dict[str, Any]:
        """The same after a comparison, or after one that did not begin: then the line that said why stays."""
        return self._review(self.values(data), self._refused.pop(page_of(request), None))

    def _review(self, values: dict[str, Any], error: LoomError | None = None) -> dict[str, Any]:
        """Also what it will cost, and which cells are known to go wrong."""
        hints = {}
        try:
            Preview(values["preview"] or "")
            comparison = contest.plan_of(contest.to_spec(values), self.studio)
            check_size(comparison)
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
            made = self.studio.contests.start(contest.plan_of(spec, self.studio), preview, owner_of(request), spec)
        except LoomError as error:
            self._refused[page_of(request)] = error
            return self._review(values, error), values["seeds"], unfolded(error.field, MORE)
        self._show(page_of(request), made)
        seeds = " ".join(str(seed) for seed in spec.get("seeds", [spec.get("seed")]))
        return self._review({**values, "seeds": seeds}), seeds, gr.skip()

    async def watch(self, model: str, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        """What this page's comparison shows, until it is over. A later watcher of the same page takes over."""
        page = page_of(request)
        if why := self._lost.pop(page, ""):
            yield contest.empty(self.studio, why, owner_of(request)), bar_state(self.studio, model)
            return
        turn = self._turn[page] = turn_after(self._turn.get(page, 0))
        made = self._pages.get(page)
        if made is None:
            yield contest.empty(self.studio, owner=owner_of(request)), bar_state(self.studio, model)
            return
        async for _ in self.studio.contests.watch(made):
            if self._turn.get(page) != turn:
                return
            yield {**contest.state_of(made, self.studio), "turn": turn}, bar_state(self.studio, model)

    def reattach(self, event: gr.EventData, request: gr.Request) -> None:
        """Let the page follow the comparison that it remembers, or that was chosen from the list."""
        self._of(event, request)

    def resume(self, event: gr.EventData, request: gr.Request) -> None:
        if made := self._of(event, request):
            self.studio.contests.resume(made)

    def film(self, event: gr.EventData, request: gr.Request) -> None:
        """Make the animated grid."""
        if made := self._of(event, request):
            try:
                self.studio.contests.animate(made, str(carried(event).get("kind", "")))
            except LoomError as error:
                made.film = Film("", over=True, error=str(error))

    def halt(self, event: gr.EventData, request: gr.Request) -> None:
        if made := self.studio.contests.known(str(carried(event).get("id", "")), owner_of(request)):
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

    def change_model(self, data: dict[Any, Any]) -> list[Any]:
        """The form at another model's own size, with what that was distilled for."""
        values = self.values(data)
        if info := self.studio.info(values["model"]):
            values |= {"width": str(info.width), "height": str(info.height), **contest.advised(info, values)}
        return [*(values[name] for name in self.kept_names), self._review(values)]

    def fill(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> list[Any]:
        """The form that asks for the comparison chosen from the list; the model stays that of the header."""
        values = self.values(data)
        made = self._of(event, request)
        if made and made.spec:
            values |= contest.from_spec(made.spec, made.preview.decoder)
        told = self._review(values)
        model = made.spec.get("model") if made else None
        if model and model != values["model"]:
            told |= {"model": ["note", say("compare.made-with", model=str(model)[:80])]}
        return [*(values[name] for name in self.kept_names), told]

    def count(self, data: dict[Any, Any]) -> dict[str, str]:
        """How long the prompts are, by the most steps of all cells."""
        values = {name: data[component] for name, component in self.fields.items() if component in data}
        steps = [form.number(word) for word in str(values["steps"] or "").replace(",", " ").split()]
        prompts = {"prompt": values["prompt"] or "", "negative_prompt": values["negative_prompt"] or ""}
        return counts(prompts, self.studio.counter(values["model"]),
                      max((count for count in steps if isinstance(count, int)), default=None))

    def empty_stage(self, model: str, message: str = "") -> dict[str, Any]:
        return contest.empty(self.studio, message)

    def _of(self, event: gr.EventData, request: gr.Request) -> Contest | None:
        """The comparison that an event names, which its page then follows; if there is none, the page learns why."""
        identity = str(carried(event).get("id", ""))
        page = page_of(request)
        try:
            made = self.studio.contests.get(identity, owner_of(request)) if identity else None
        except LoomError as error:
            self._lost[page] = str(error)
            return None
        if made:
            self._show(page, made)
        elif identity:
            self._lost[page] = say("compare.lost")
        return made

    def _show(self, page: str, made: Contest) -> None:
        self._pages[page] = made
        self._pages.move_to_end(page)
        while len(self._pages) > MAX_PAGES:
            old, _ = self._pages.popitem(last=False)
            self._turn.pop(old, None)
