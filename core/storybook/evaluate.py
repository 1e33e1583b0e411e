"""How good Storybook is: held-out prompts through the real engine, a judge apart from it, 95 % intervals."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL

from core.models.catalogue import Catalogue
from core.request import Region, Request
from core.scorer import Scorer, scorer_folder
from core.storybook import judge as j
from core.storybook import networks as n
from core.storybook.cases import BOOTSTRAP, STEPS, Trio, single_cases, styled_cases, trios
from core.storybook.confusion import Verdict, tables
from core.storybook.data import CANVASES, HELD_OUT_SEED, render_many
from core.storybook.export import processor
from core.storybook.scenes import paint
from core.storybook.studio import Studio
from core.storybook.train_autoencoder import reconstruct
from core.storybook.vocabulary import COLOURS, THINGS, article

RECONSTRUCTED = 100  # held-out scenes that go through the autoencoder
TOLERANCE = 0.03  # other processors round differently; a picture or two of a hundred may turn
DECIBELS = 0.1  # the same of the autoencoder's PSNR
BASELINES = ("as published", "without bootstrapping", "in one prompt")  # for comparison: less there is nothing worse


@dataclass(frozen=True)
class Plan:
    """How much is asked, and how. The defaults take about a quarter of an hour on two cores."""

    count: int = 300  # single-thing prompts; two thirds as many with a side, a third in a style
    layouts: int = 100  # of three boxes, each painted in several ways
    guidance: float = 5.0
    sampler: str = Request().sampler
    steps: int = STEPS

    @property
    def command(self) -> str:
        usual = Plan()
        other = "".join(f" --{name} {value}" for name, value, wanted in
                        (("sampler", f'"{self.sampler}"', f'"{usual.sampler}"'), ("steps", self.steps, usual.steps))
                        if value != wanted)
        return (f"python -m core.storybook evaluate --count {self.count} --layouts {self.layouts} "
                f"--guidance {self.guidance:g}{other}")

    def settings(self, studio: Studio) -> dict[str, Any]:
        """What every request of it has in common."""
        return {"model": studio.model, "guidance": self.guidance, "sampler": self.sampler, "steps": self.steps}


class Rate(NamedTuple):
    """A share of successes with its Wilson 95 % interval."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / max(1, self.of)

    def interval(self) -> tuple[float, float]:
        count, p, z = max(1, self.of), self.value, 1.96
        middle = p + z * z / (2 * count)
        spread = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
        return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{100 * self.value:5.1f} %  ({100 * low:.0f} to {100 * high:.0f} %, n = {self.of})"

    @classmethod
    def of_all(cls, verdicts: Sequence[bool]) -> Rate:
        return cls(sum(verdicts), len(verdicts))


Figures = dict[str, Rate | float]  # floats are decibels
Confusions = dict[str, list[str]]  # by thing, colour, place, style: a line for each that was ever wrong


def on_side(side: str, x: float, y: float) -> bool:
    return {"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "bottom": y > 0.5}[side]


def middle_of_things(cells: torch.Tensor) -> tuple[float, float]:
    """The centre (x, y in 0..1) of everything that is not background."""
    mass = (1 - cells[0]).clamp_min(1e-6).pow(2)
    axis = (torch.arange(j.CELLS) + 0.5) / j.CELLS
    return float((mass.sum(0) * axis).sum() / mass.sum()), float((mass.sum(1) * axis).sum() / mass.sum())


def singles(studio: Studio, judge: j.Judge, plan: Plan) -> list[Verdict]:
    """One thing a prompt, bare or in a scene, on a side, in a style: what the judge saw of each."""
    cases = (single_cases(plan.count, False) + single_cases(max(4, plan.count * 2 // 3), True)
             + styled_cases(max(5, plan.count // 3)))
    settings = plan.settings(studio)
    requests = [Request(prompt=case.prompt, seed=10_000 + i, **settings) for i, case in enumerate(cases)]
    verdicts = []
    for case, picture in zip(cases, studio.paint(requests), strict=True):
        found, cells = j.look(judge, torch.from_numpy(picture))
        placed = on_side(case.side, *middle_of_things(cells)) if case.side else None
        verdicts.append(Verdict(case, found.thing, found.colour, placed))
    return verdicts


def rates(verdicts: list[Verdict]) -> Figures:
    """Is it there at all, in its colour, on its side? What was asked for in a style is counted apart."""
    plain = [v for v in verdicts if not v.case.style]
    return {"right thing": Rate.of_all([v.thing == v.case.thing for v in plain]),
            "right colour": Rate.of_all([v.colour == v.case.colour for v in plain]),
            "right side": Rate.of_all([bool(v.placed) for v in plain if v.case.side]),
            "right thing in a style": Rate.of_all([v.thing == v.case.thing for v in verdicts if v.case.style])}


def ways(trio: Trio, **how: Any) -> dict[str, Request]:
    """The ways to ask for three things: as the Regions tab does, with less of its help and none, in one prompt."""
    tab = {"say_places": True, "crop_after": Catalogue().get("storybook").crop_after}
    return {"right thing in its box": trio.composed(BOOTSTRAP, **tab, **how),
            "places not said": trio.composed(BOOTSTRAP, **{**tab, "say_places": False}, **how),
            "on whole pictures": trio.composed(BOOTSTRAP, **{**tab, "crop_after": 1.0}, **how),
            "as published": trio.composed(BOOTSTRAP, **how),
            "without bootstrapping": trio.composed(0.0, **how),
            "in one prompt": trio.described(**how)}


def boxes(studio: Studio, judge: j.Judge, plan: Plan) -> Figures:
    """Three boxes a layout: is each thing in its own? Each way with the same seeds."""
    settings = plan.settings(studio)
    asked = [(trio, ways(trio, seed=30_000 + i, **settings)) for i, trio in enumerate(trios(plan.layouts))]
    flat = [(name, trio, request) for trio, named in asked for name, request in named.items()]
    verdicts: dict[str, list[bool]] = {}
    for (name, trio, _), picture in zip(flat, studio.paint([request for *_, request in flat]), strict=True):
        verdicts.setdefault(name, []).extend(in_boxes(judge, picture, trio))
    return {name: Rate.of_all(held) for name, held in verdicts.items()}


def in_boxes(judge: j.Judge, picture: np.ndarray, trio: Trio) -> list[bool]:
    """Whether each box of a picture shows its thing."""
    seen = torch.from_numpy(picture)
    return [j.find_in(judge, seen, box).thing == thing for thing, box in zip(trio.things, trio.boxes, strict=True)]


def boxes_drawn(judge: j.Judge, count: int) -> Rate:
    """How often the judge is right where the renderer itself has put the thing into the box."""
    verdicts = []
    for i, trio in enumerate(trios(count)):
        verdicts += in_boxes(judge, np.array(paint(trio.drawn(HELD_OUT_SEED + i), 256)[0]), trio)
    return Rate.of_all(verdicts)


def retrieval(scorer: Scorer, count: int) -> Figures:
    """How often the scorer finds the one right caption of those that differ only in their thing, or only in colour.

    On renders it never saw, in held-out colours: of whole pictures, and of the thing's box as region scores see it.
    """
    rng = random.Random(3)
    verdicts: dict[str, list[bool]] = {}
    for scene in j.unseen_scenes(count, first=2_000_000):
        picture, thing = np.array(paint(scene, 256)[0]), scene.things[0]
        x0, y0, x1, y1 = thing.box()
        region = Region(name="box", prompt=thing.name, box=(max(0.0, x0), max(0.0, y0), min(1.0, x1), min(1.0, y1)))
        others = rng.sample([name for name in THINGS if name != thing.name], 15)
        for kind, said in (("thing of 16", [f"{thing.colour} {name}" for name in (thing.name, *others)]),
                           ("colour of 12", [f"{colour} {thing.name}" for colour in
                                             (thing.colour, *(c for c in COLOURS if c != thing.colour))])):
            captions = [article(what) for what in said]
            for where, seen in (("", picture), (", in its box", scorer.part(picture, region))):
                best = int(scorer.score([seen], captions).cosine[0].argmax())
                verdicts.setdefault(kind + where, []).append(best == 0)
    return {f"scorer: {name}": Rate.of_all(held) for name, held in verdicts.items()}


def measure(weights: Path, device: torch.device, plan: Plan) -> tuple[Figures, Confusions]:
    """The table of the model card, and what was taken for what."""
    judge, studio = j.load_judge(weights / "judge"), Studio(weights, device)
    verdicts = singles(studio, judge, plan)
    figures = {**rates(verdicts), **boxes(studio, judge, plan)}
    vae: n.Network = AutoencoderKL.from_pretrained(weights / "vae", torch_dtype=torch.float32).to(device).eval()
    scenes = torch.from_numpy(render_many(CANVASES[256], HELD_OUT_SEED, RECONSTRUCTED).pictures)
    figures["autoencoder PSNR"] = reconstruct(vae, scenes, device)[1]
    folder = scorer_folder(weights)
    if folder:
        figures |= retrieval(Scorer.load(folder), 200)
    return figures, tables(verdicts)


def worse_than(recorded: dict[str, float], counts: dict[str, int], figures: Figures) -> list[str]:
    """Which figures are below the recorded ones, a line each. With other counts only what chance does not explain."""
    lines = []
    for name, wanted in recorded.items():
        value = figures.get(name)
        if name in BASELINES or value is None:
            continue
        if isinstance(value, Rate):
            reached = value.value + TOLERANCE if value.of == counts.get(name) else value.interval()[1]
            shown = value.value
        else:
            reached, shown = value + DECIBELS, value
        if reached < wanted:
            lines.append(f"{name}: {shown:.3f}, the card says {wanted:.3f}")
    return lines


def record(path: Path, figures: Figures, wrong: Confusions, ceiling: j.Ceiling, drawn: Rate, plan: Plan,
           device: torch.device, minutes: float) -> None:
    """Writes what the card is made of."""
    shares = {name: value for name, value in figures.items() if isinstance(value, Rate)}
    held = {
        "figures": {name: round(value.value if isinstance(value, Rate) else value, 4)
                    for name, value in figures.items()},
        "intervals": {name: [round(edge, 4) for edge in rate.interval()] for name, rate in shares.items()},
        "counts": {name: rate.of for name, rate in shares.items()},
        "judge on renders": {"thing": ceiling.thing, "colour": ceiling.colour, "in boxes": round(drawn.value, 4)},
        "judge confuses": ceiling.confused,
        "confused": wrong,
        "sampler": plan.sampler,
        "steps": plan.steps,
        "guidance": plan.guidance,
        "command": plan.command,
        "hardware": processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
        "minutes": round(minutes, 1),
    }
    path.write_text(json.dumps(held, indent=2) + "\n")


def evaluate(weights: Path, device: torch.device, plan: Plan, keep: bool = False, confusion: bool = False) -> int:
    """Prints the table; with `keep` writes it to figures.json -> 0, or 1 if below the recorded figures.

    confusion: prints as well what was taken for what, in samples and by the judge on renders.
    """
    start = time.monotonic()
    figures, wrong = measure(weights, device, plan)
    judge = j.load_judge(weights / "judge")
    ceiling, drawn = j.on_renders(judge), boxes_drawn(judge, 50)
    for name, value in figures.items():
        print(f"{name:32} {value if isinstance(value, Rate) else f'{value:5.2f} dB (n = {RECONSTRUCTED} scenes)'}")
    print(f"the judge on unseen renders: thing {100 * ceiling.thing:.1f} %, colour {100 * ceiling.colour:.1f} %, "
          f"in boxes {100 * drawn.value:.1f} %")
    if confusion:
        for name, rows in {**wrong, "the judge, on renders": ceiling.confused}.items():
            print(f"{name}:", *(f"\n  {row}" for row in rows or ["nothing was wrong"]), sep="")
    path = weights / "figures.json"
    if keep:
        record(path, figures, wrong, ceiling, drawn, plan, device, (time.monotonic() - start) / 60)
        return 0
    held = json.loads(path.read_text()) if path.exists() else {}
    if any(held.get(name) != getattr(plan, name) for name in ("sampler", "steps", "guidance")):
        print("The card's figures are of other settings: nothing to compare with.")
        return 0
    worse = worse_than(held["figures"], held["counts"], figures)
    for line in worse:
        print(f"WORSE {line}")
    return 1 if worse else 0
