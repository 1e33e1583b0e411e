"""The samplers' page: Markdown, two plots and a contact sheet, all from what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.files import disk_errors, write_text
from core.report import plot
from core.report.conclude import conclusions, interval
from core.report.measure import Mark, Measured, pixels
from core.report.pace import PACE, ROUNDS
from core.samplers import SAMPLERS

TILE, GAP, LABEL = 88, 4, 118  # pixels of the contact sheet
LARGEST = 300_000  # bytes of a picture
PAPER, INK, FAINT = (250, 249, 247), (38, 36, 44), (214, 210, 204)
PICTURES = "pictures"  # beside the page
ALT = {"distance": "Distance to the reference against network calls", "sheet": "The same picture by every sampler",
       "score": "Score against network calls, samplers without noise of their own",
       "score-random": "Score against network calls, the other samplers"}


def write(measured: Measured, path: Path, about: dict[str, str]) -> list[Path]:
    """The page at `path`, its pictures in pictures/ beside it -> all files. about: how it was made, in words.
    Raises OutputError."""
    folder = path.parent / PICTURES
    with disk_errors("page", path.parent):
        folder.mkdir(parents=True, exist_ok=True)
        shown = []
        for name, image in _plots(measured).items():
            shown.append(folder / f"{path.stem}-{name}.png")
            image.quantize(256, dither=Image.Dither.NONE).save(shown[-1], optimize=True)
        shown.append(folder / f"{path.stem}-sheet.jpg")
        _save_jpeg(sheet(measured), shown[-1])
        write_text(path, text(measured, about, [f"{PICTURES}/{file.name}" for file in shown]))
    return [path, *shown]


def text(measured: Measured, about: dict[str, str], pictures: Sequence[str]) -> str:
    """The page's Markdown. pictures: the addresses of plots and sheet."""
    plan = measured.plan
    parts = ["# Samplers, measured", "<!-- Written by the command below, sentences too: change the command, not this "
             "page. -->", _introduction(measured, about), "## What follows"]
    for heading, sentences in conclusions(measured):
        parts += [f"### {heading}", "\n".join(f"- {sentence}" for sentence in sentences)]
    parts += [f"![{ALT.get(Path(name).stem.split('-', 1)[-1], 'plot')}]({name})" for name in pictures]
    parts[-1] += (f"\n\n\"{plan.prompts[0]}\", seed 1, at {_words(plan.calls)} calls; the samplers in the order of "
                  "`python -m core samplers`.")
    exact = [mark for mark in measured.marks if mark.exact]
    parts += ["## Samplers without noise of their own", _table(exact, measured, True)]
    parts += ["## Samplers with noise of their own, or of another equation",
              _table([mark for mark in measured.marks if not mark.exact], measured, False)]
    if missing := [mark for mark in measured.marks if mark.error]:
        parts.append("Not made: " + " ".join(f"{mark.sampler} at {mark.calls} calls ({mark.error.rstrip('.')})."
                                             for mark in missing))
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(measured: Measured, about: dict[str, str]) -> str:
    plan = measured.plan
    prompts = "; ".join(f"\"{prompt}\"" for prompt in plan.prompts)
    each = f"{_count(len(plan.prompts), 'prompt')} with {_count(plan.seeds, 'seed')}"
    who = "These samplers" if plan.samplers else "Every sampler of the list"
    lines = [f"{who} with {_words(plan.calls)} network calls at most (a sampler that asks twice a "
             f"step gets half as many steps), each from the same noise: {each}, {_count(plan.pictures, 'picture')} a "
             "number. Each on its Automatic schedule, all else as the studio has it.", "",
             f"*Distance*, PSNR and SSIM are to a run of {plan.reference} Heun steps on Karras levels from the same "
             "noise, for samplers that solve the same equation. *Score* is the opinion of the scorer that comes with "
             "the model, of picture against prompt. [figures.md](figures.md) says what each figure means. The "
             "brackets hold Student's 95 % interval of the mean. *Pace*: seconds a network evaluation over those of "
             f"{PACE}, both taking turns {ROUNDS} times; median, smallest and largest.", "",
             "| | |", "|---|---|"]
    lines += [f"| {name} | {words} |" for name, words in about.items()]
    return "\n".join([*lines, f"| prompts | {prompts} |"])


def _table(marks: Iterable[Mark], measured: Measured, exact: bool) -> str:
    """A row for every sampler and number of calls."""
    marks = [mark for mark in marks if not mark.error]
    if not marks:
        return ""
    columns = ["sampler", "calls", "steps", *(["distance", "PSNR", "SSIM"] if exact else []), "score"]
    extra = {"fid_scorer": any(mark.fid is not None for mark in marks),
             "is_scorer": any(mark.classes is not None for mark in marks)}
    columns += [*(name for name, there in extra.items() if there), "pace"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for mark in marks:
        first = mark is next(one for one in marks if one.sampler == mark.sampler)
        cells = {"sampler": f"**{mark.sampler}**" if first else mark.sampler, "calls": str(mark.asked),
                 "steps": str(mark.steps), "distance": _mean(mark.distance, 3), "PSNR": _mean(mark.psnr, 1, False),
                 "SSIM": _mean(mark.ssim, 3, False), "score": _mean(mark.score, 1),
                 "fid_scorer": "" if mark.fid is None else f"{mark.fid:.3f}",
                 "is_scorer": "" if mark.classes is None else f"{mark.classes:.2f}",
                 "pace": "{1:.2f} [{0:.2f} .. {2:.2f}]".format(*measured.paces[mark.sampler])
                 if first and mark.sampler in measured.paces else ""}
        lines.append(f"| {' | '.join(cells[name] for name in columns)} |")
    return "\n".join(lines)


def _mean(values: np.ndarray, digits: int, bounds: bool = True) -> str:
    if not len(values):
        return ""
    said = f"{values.mean():.{digits}f}"
    if not bounds or len(values) < 2:
        return said
    low, high = interval(values)
    return f"{said} [{low:.{digits}f} .. {high:.{digits}f}]"


def _plots(measured: Measured) -> dict[str, Image.Image]:
    """By name; a plot without a curve is left out."""
    distances: list[plot.Curve] = []
    scores: list[plot.Curve] = []
    random: list[plot.Curve] = []
    for name in measured.plan.names:
        marks = measured.of(name)
        if marks and marks[0].exact:
            distances.append(plot.Curve(name, _points(marks, "distance")))
        if marks and len(marks[0].score):
            (scores if marks[0].exact else random).append(plot.Curve(name, _points(marks, "score")))
    level = ("reference", float(measured.reference.score.mean())) if len(measured.reference.score) else None
    found, calls = {}, measured.plan.calls
    if distances:
        found["distance"] = plot.draw(distances, "How far from the exact solution", "distance to the reference", calls,
                                      log=True)
    if scores:
        found["score"] = plot.draw(scores, "The scorer's opinion: samplers without noise of their own", "score",
                                   calls, level=level)
    if random:
        found["score-random"] = plot.draw(random, "The scorer's opinion: the others", "score", calls, level=level)
    return found


def _points(marks: Sequence[Mark], name: str) -> tuple[tuple[float, float], ...]:
    """Where two budgets come out as the same run, once."""
    held = {mark.asked: float(getattr(mark, name).mean()) for mark in marks}
    return tuple(sorted((float(calls), value) for calls, value in held.items()))


def sheet(measured: Measured) -> Image.Image:
    """The first prompt's first picture: a row for each sampler, a column for each number of calls, in three blocks; the
    reference at the end."""
    names, calls = [*measured.plan.names, "reference"], measured.plan.calls
    blocks = 3 if len(names) > 6 else 1
    high = -(-len(names) // blocks)
    wide = LABEL + len(calls) * (TILE + GAP) + 2 * GAP
    image = Image.new("RGB", (blocks * wide, 28 + high * (TILE + GAP)), PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for k, name in enumerate(names):
        left, top = k // high * wide, 28 + k % high * (TILE + GAP)
        if k % high == 0:
            for x, count in enumerate(calls):
                pen.text((left + LABEL + x * (TILE + GAP) + TILE / 2, 8), f"{count} calls", INK, font, anchor="mt")
        steps = f",\n{measured.plan.reference} steps" if name == "reference" else ""
        label = name.replace(" Heun", "\nHeun") + steps
        pen.multiline_text((left + 8, top + TILE / 2), label, INK, font, anchor="lm")
        marks = {mark.calls: mark for mark in measured.of(name)} if name in SAMPLERS else {calls[0]: measured.reference}
        for x, count in enumerate(calls):
            place = (left + LABEL + x * (TILE + GAP), top)
            if count in marks:
                image.paste(Image.fromarray(pixels(marks[count].files[0])).resize((TILE, TILE),
                                                                                  Image.Resampling.LANCZOS), place)
            elif name != "reference":
                pen.rectangle((*place, place[0] + TILE - 1, place[1] + TILE - 1), outline=FAINT)
    return image


def _save_jpeg(image: Image.Image, path: Path) -> None:
    """As good as LARGEST allows."""
    for quality in range(88, 40, -6):
        image.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST:
            return


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _words(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
