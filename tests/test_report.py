"""The samplers' page: its sentences follow from its numbers, and the command makes it, goes on, and says how."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.__main__ import _parser, main
from core.engine import Engine
from core.report import command_of, conclude, page, plot
from core.report.measure import CALLS, PROMPTS, REFERENCE, SEEDS, Mark, Measured, Plan
from core.report.pace import Pace
from core.samplers import SAMPLERS


def mark(sampler: str, calls: int, distance: float = 0.0, score: float = 30.0, noise: float = 0.001,
         psnr: float = 20.0) -> Mark:
    """Figures of eight pictures, spread a little."""
    spread = noise * np.random.default_rng(calls + len(sampler)).normal(size=8)
    made = Mark(sampler, calls, calls, calls, score=score + 100 * spread)
    if made.exact:
        made.distance, made.psnr, made.ssim = distance + spread, psnr + spread, 0.5 + spread
    return made


def measured(marks: list[Mark], paces: dict[str, Pace] | None = None, prompts: int = 4) -> Measured:
    names, calls = dict.fromkeys(m.sampler for m in marks), sorted({m.calls for m in marks})
    plan = Plan("storybook", tuple(names), PROMPTS[:prompts], 2, tuple(calls))
    return Measured(plan, marks, mark("Euler", 0), paces or {}, "fp32", 60.0)


def said(of: Measured) -> str:
    return "\n".join(sentence for _, sentences in conclude.conclusions(of) for sentence in sentences)


# -- the sentences


def test_the_closest_the_farthest_and_ties_are_named_from_the_distances() -> None:
    marks = [mark("Euler", 10, 0.5), mark("UniPC", 10, 0.1), mark("DPM++ 2M", 10, 0.1001, noise=0.05),
             mark("Heun", 10, 0.3)]
    text = said(measured(marks))
    first, second = re.findall(r"\*\*10 calls:\*\* ([^(]*) \(0.\d+\), then ([^(]*) \(0.\d+\) and Heun", text)[0]
    assert {first, second} == {"UniPC", "DPM++ 2M"}  # one of them, by chance
    assert f"Not told from it by these pictures: {second}." in text
    assert "farthest is Euler (0.500)" in text


def test_more_calls_that_bring_nothing_are_named_and_a_quick_one_that_beats_slow_ones() -> None:
    marks = [mark("Euler", 10, 0.5), mark("Euler", 20, 0.25), mark("UniPC", 10, 0.1), mark("UniPC", 20, 0.095)]
    text = said(measured(marks))
    assert "From 10 to 20 calls the distance of UniPC falls by less than 10 %." in text
    assert "UniPC at 10 calls is closer than Euler at 20." in text
    assert "Within 20 calls no sampler's pictures come to 30 dB" in text


def test_the_calls_that_make_the_references_picture_are_named() -> None:
    marks = [mark("Euler", 10, 0.5), mark("Euler", 20, 0.2, psnr=31), mark("Heun", 10, 0.4, psnr=33)]
    text = said(measured(marks))
    assert "(30 dB) takes 10 calls of Heun." in text and "(30 dB) takes 20 calls of Euler." in text


def test_scores_below_the_references_are_named_only_beyond_chance() -> None:
    marks = [mark("Euler", 5, 0.5, score=20), mark("Euler", 10, 0.4), mark("Euler a", 5, score=29, noise=0.2),
             mark("Euler a", 10, noise=0.2)]
    text = said(measured(marks))
    assert "**5 calls** are too few for Euler (20.0): they score lower" in text.replace("20.1", "20.0")
    assert "With **10 calls** none is shown to score lower" in text
    assert "raise the score" not in text  # of Euler's certainly, of Euler a's that cannot be told


def test_more_calls_are_said_to_bring_nothing_only_where_the_interval_says_so() -> None:
    marks = [mark("Euler", 5, 0.5, score=30), mark("Euler", 10, 0.4, score=31)]
    assert "More than 5 calls raise the score of Euler by less than 5 %" in said(measured(marks))  # of 30: 1.5
    marks = [mark("Euler", 5, 0.5, score=0), mark("Euler", 10, 0.4, score=0)]
    assert "raise the score" not in said(measured(marks))  # nothing helps, which is another thing
    marks = [mark("Euler", 5, 0.5, score=30), mark("Euler", 10, 0.4, score=31, noise=0.1)]
    assert "raise the score" not in said(measured(marks))


def test_one_picture_proves_nothing() -> None:
    assert conclude.interval(np.array([3.0])) == (-np.inf, np.inf)
    assert not conclude.below(np.array([1.0]), np.array([9.0]))


def test_the_interval_is_students() -> None:
    low, high = conclude.interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), rel=1e-4)  # t of 2 degrees


def test_slow_samplers_are_named_where_every_round_says_so() -> None:
    even = Pace(0.98, 1.0, 1.02)
    marks = [mark("Euler", 10, 0.5), mark("Heun", 10, 0.4), mark("DPM++ SDE", 10)]
    text = said(measured(marks, {"Euler": even, "Heun": Pace(0.9, 1.2, 1.4), "DPM++ SDE": Pace(1.2, 1.5, 1.6)}))
    assert "than with Euler, in every round, with DPM++ SDE (1.50 times). Of no other can that be said." in text
    assert "With no sampler a network call costs more" in said(measured(marks, {"Euler": even, "Heun": even}))
    busy = said(measured(marks, {"Euler": Pace(1.11, 1.15, 1.2), "Heun": Pace(1.2, 1.5, 1.6)}))
    assert "too busy to tell: Euler against itself took 1.15 times" in busy and "with Heun" not in busy


# -- the plot


def test_a_curve_is_drawn_where_its_values_are_and_named() -> None:
    curve = plot.Curve("Heun", ((5, 0.4), (10, 0.1), (20, 0.025)))
    image = plot.draw([curve], "title", "distance", (5, 10, 20), log=True)
    blue = (np.abs(np.asarray(image, int) - np.array(plot.COLOURS[0])).sum(-1) < 30)
    rows, columns = np.nonzero(blue[:, plot.LEFT:plot.WIDTH - plot.RIGHT])
    left, right = rows[columns < 60].mean(), rows[columns > columns.max() - 8].mean()
    assert left < plot.HEIGHT / 3 and right > plot.HEIGHT * 2 / 3  # it falls
    middle = rows[(columns > 290) & (columns < 340)].mean()
    assert middle == pytest.approx((left + right) / 2, abs=12)  # a straight line
    assert blue[:, plot.WIDTH - plot.RIGHT + 10:].any()  # the name, in the same colour


def test_fifteen_names_at_one_height_do_not_cover_each_other() -> None:
    curves = [plot.Curve(f"S{k}", ((5, 1.0), (10, 1.0))) for k in range(15)]
    image = np.asarray(plot.draw(curves, "title", "score", (5, 10)))[:, plot.WIDTH - plot.RIGHT + 20:plot.WIDTH - 8]
    inked = (image < 200).any(-1).any(-1)
    runs = np.flatnonzero(np.diff(np.concatenate([[0], inked.astype(int)])) == 1)
    assert len(runs) >= 15  # lines of text with paper between them


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.draw([], "title", "score", (5,))


# -- the command


def test_the_commands_defaults_are_the_pages() -> None:
    options = _parser().parse_args(["samplers", "--report", "docs/samplers.md"])
    assert (options.calls, options.prompts, options.seeds, options.reference) == (
        list(CALLS), len(PROMPTS), SEEDS, REFERENCE)
    assert command_of(options) == "python -m core samplers --report docs/samplers.md"
    options = _parser().parse_args(["samplers", "--report", "a.md", "--calls", "5", "9", "--samplers", "DPM++ 2M"])
    assert command_of(options) == "python -m core samplers --report a.md --samplers 'DPM++ 2M' --calls 5 9"
    assert set(Plan().names) == set(SAMPLERS)  # a new sampler is on the page the moment it exists


@pytest.fixture
def arguments(tmp_path: Path, models_dir: Path) -> list[str]:
    return ["samplers", "--report", str(tmp_path / "page.md"), "--cells", str(tmp_path / "cells"), "--model", "eps",
            "--models-dir", str(models_dir), "--device", "cpu", "--prompts", "2", "--seeds", "2", "--calls", "4", "8",
            "--reference", "10", "--samplers", "Euler", "Heun", "Euler a", "Langevin"]


def test_the_page_is_written_and_the_same_command_makes_nothing_twice(
        tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = Engine.generate, []

    def counted(self: Engine, *rest):  # type: ignore[no-untyped-def]
        asked.append(rest[0])
        rest[2].set() if len(asked) == 5 else None
        return whole(self, *rest)

    monkeypatch.setattr(Engine, "generate", counted)
    assert main(arguments) == 130 and not (tmp_path / "page.md").exists()
    assert main(arguments) == 0
    # Heun wants 5 calls and Langevin 16 at least. Of the fifth run nothing was kept: it is made again. The pace: a run
    # for warming up, three rounds of four samplers and Euler in turns
    assert len(asked) == 2 * (2 + 1 + 2 + 1) + 1 + (1 + 4 * 3 * 2)
    text = (tmp_path / "page.md").read_text()
    asked.clear()
    assert main(arguments) == 0 and asked == []
    assert (tmp_path / "page.md").read_text() == text
    for said in ("--calls 4 8", "weights ", "torch ", "**8 calls:** ", "Langevin at 8 calls (",
                 "| **Euler** | 4 | 4 |"):
        assert said in text, said
    assert re.search(r"\b(fp32|bf16) on ", text)  # what suits the processor
    pictures = re.findall(r"\]\((pictures/.*?)\)", text)
    assert len(pictures) == 2  # distance and sheet: this model has no scorer
    for name in pictures:
        with Image.open(tmp_path / name) as image:
            assert image.size[0] > 300 and (tmp_path / name).stat().st_size < page.LARGEST


def test_the_sheet_shows_every_sampler_and_the_reference(tmp_path: Path) -> None:
    marks = [mark(name, calls, 0.1) for name in ("Euler", "Heun") for calls in (5, 10)]
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    of = measured(marks)
    for k, one in enumerate([*marks, of.reference]):
        one.files = [tmp_path / f"{k}.png"]
        Image.new("RGB", (64, 64), colours[k]).save(one.files[0])
    seen = page.sheet(of)
    found = [seen.getpixel((page.LABEL + x * (page.TILE + page.GAP) + 9, 28 + y * (page.TILE + page.GAP) + 9))
             for y, x in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))]
    assert found == colours


@pytest.mark.parametrize("change, said", [
    (["--report", "page.txt"], "must name a Markdown file"),
    (["--prompts", "9"], "--prompts must be 1 to 4"), (["--seeds", "0"], "--seeds must be 1 to 64"),
    (["--calls", "5", "5"], "different whole numbers"), (["--samplers", "Eulr"], "Did you mean 'Euler'?"),
    (["--reference", "1"], "reference_steps must be 0 (none) or"), (["--model", "nosuch"], "nosuch")])
def test_what_cannot_be_measured_is_refused_in_one_line(
        arguments: list[str], change: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, *change]) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and out == ""
