"""core.views: numbers, pictures and phases of steps, on runs made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core import views
from core.errors import BadRequest
from core.request import Region, Request, StepInfo
from core.views import VIEWS, Numbers, Told, channels, heat, layout, look, numbers, phase, progress, relative, travelled

SIDE = 16  # cells


class Run:
    """Steps made by hand: x0 as given, x_t = x0 + sigma noise."""

    def __init__(self, x0s: list[np.ndarray], sigmas: list[float] | None = None, unguided: bool = True,
                 request: Request | None = None):
        self.estimates, self.taken, self.total = x0s, len(x0s), len(x0s)
        self.request = request or Request(steps=len(x0s), width=8 * SIDE, height=8 * SIDE, batch=len(x0s[0]))
        self.unguided = unguided
        levels = sigmas or [2.0 ** (3 - k) for k in range(self.total)]
        self.steps = [StepInfo(k, self.total, 900 - 10 * k, s, 0.1 * (k + 1), 2 * k + 2)
                      for k, s in enumerate(levels)]

    def x0(self, k: int) -> np.ndarray:
        return self.estimates[k]

    def noise(self, k: int) -> np.ndarray:
        return np.random.default_rng(k).standard_normal(self.estimates[k].shape).astype(np.float32)

    def x_t(self, k: int) -> np.ndarray:
        return self.estimates[k] + self.steps[k].sigma * self.noise(k)

    def unguided_x0(self, k: int) -> np.ndarray | None:
        return 0.5 * self.estimates[k] if self.unguided else None

    def regions_x0(self, k: int) -> dict[int, np.ndarray]:
        return {k: self.estimates[0] + k for k in range(len(self.request.regions) + 1)} if self.request.regions else {}


def latents(seed: int = 0, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 4, SIDE, SIDE)).astype(np.float32)


def decode(z: np.ndarray) -> np.ndarray:
    assert z.shape == (1, 4, SIDE, SIDE)
    return np.full((8 * SIDE, 8 * SIDE, 3), np.clip(128 + 40 * z.mean(), 0, 255), np.uint8)


def test_the_layout_is_what_is_left_of_blocks() -> None:
    smooth = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2).repeat(8, 2).repeat(8, 3)
    assert np.allclose(layout(smooth), smooth)
    checks = np.indices((SIDE, SIDE)).sum(0)[None, None] % 2 * 2.0 - 1
    assert np.allclose(layout(checks), 0)
    wide = np.ones((1, 4, 5, 19))  # no multiple of a block
    assert np.allclose(layout(wide), 1)
    assert layout(np.full((1, 1, 1, 1), 3.0)).item() == 3  # a single cell


def test_numbers_are_relative_changes_and_do_not_hang_on_how_fine_the_steps_are() -> None:
    a, b = latents(0), latents(1)
    seen = numbers(Run([a, b]), 1)
    assert seen.change == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(b), rel=1e-5)
    assert seen.guidance == pytest.approx(0.5)
    assert seen.milliseconds == pytest.approx(100)
    assert seen.sigma == 4
    coarse = Run([a, a + 0.02 * b], [8.0, 2.0])  # two halvings in one step
    fine = Run([a, a + 0.01 * b], [8.0, 4.0])  # half of the way in one
    assert numbers(coarse, 1).layout == pytest.approx(numbers(fine, 1).layout, rel=0.05)


def test_what_has_nothing_to_compare_with_has_no_number() -> None:
    first = numbers(Run([latents()], unguided=False), 0)
    assert (first.change, first.layout, first.detail, first.guidance) == (None, None, None, None)
    assert relative(np.zeros(3), np.zeros(3)) == 0
    assert numbers(Run([latents(), latents(1)], [1.0, 0.0]), 1).layout > 0  # no noise is left at the end


def test_the_whole_way_is_measured_along_the_path() -> None:
    run = Run([np.full((1, 4, SIDE, SIDE), v, np.float32) for v in (0, 3, 2, 4)])  # 3 there, 1 back, 2 there
    assert travelled(run) == pytest.approx([0, 0.5, 4 / 6, 1])
    assert travelled(Run([latents()])) == [1.0]


@pytest.mark.parametrize("layout_change, detail, name", [
    (2.0, 2.0, "deciding"), (0.4, 0.9, "settling"), (0.1, 0.5, "drawing"), (0.1, 0.15, "finishing"),
    (0.01, 0.01, "finished")])
def test_phases_are_what_was_measured(layout_change: float, detail: float, name: str) -> None:
    seen = Numbers(1.0, 90, 0.123, layout_change, detail, None)
    assert phase(seen, 20) == Told(name)
    assert progress(seen, way=0.64) == Told("changed-of", {"change": "12 %", "way": "64 %"})
    assert progress(seen) == Told("changed", {"change": "12 %"})  # still running


def test_the_first_step_and_bootstrapping_are_phases_of_their_own() -> None:
    first = Numbers(14.6, 90, None, None, None, None)
    assert phase(first, 20) == Told("first", {"noise": "99.5 %"}) and progress(first) is None
    assert phase(first, 1) == Told("only")
    assert phase(Numbers(9.0, 90, 0.4, 2.0, 2.0, None), 20, bootstrapping=True) == Told("bootstrapping")


def test_a_run_that_settles_is_told_so_from_its_latents_alone() -> None:
    """Large blocks first, then finer and finer noise on them."""
    large = latents(0)[:, :, :2, :2].repeat(8, 2).repeat(8, 3)
    fine = latents(1) - layout(latents(1))
    run = Run([-large, large, large + fine, large + 1.0001 * fine])
    assert [phase(numbers(run, k), run.total).name for k in range(run.total)] == [
        "first", "deciding", "drawing", "finished"]


def test_channels_share_one_scale_and_it_is_stated() -> None:
    z = np.zeros((4, 2, 2), np.float32)
    z[0, 0, 0], z[1, 0, 0] = 2.1, -2.5
    grey, scale = channels(z, 3)
    assert scale == 2.5
    assert grey[1][0, 0, 0] == 0 and grey[0][0, 0, 0] == round(127.5 + 127.5 * 2.1 / 2.5)
    assert grey[2].shape == (6, 6, 3) and set(grey[2].ravel()) == {128}
    assert channels(np.zeros((4, 2, 2)))[1] > 0  # nothing at all has a scale too


def test_heat_grows_with_change_from_black() -> None:
    shown = heat(np.linspace(0, 1, 9)[None], 1.0)
    light = shown.astype(int).sum(2)[0]
    assert (np.diff(light) > 0).all() and light[0] < 10 and light[-1] > 600
    assert (heat(np.zeros((2, 2)), 0.0) == heat(np.zeros((2, 2)), 1.0)).all()


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_shows_pictures_of_the_runs_size_and_says_what_they_are(name: str) -> None:
    request = Request(prompt="sea", steps=2, width=8 * SIDE, height=8 * SIDE, batch=2, regions=(
        Region(name="boat", prompt="a boat", box=(0, 0, 0.5, 1)),))
    seen = look(name, Run([latents(0, 2), latents(1, 2)], request=request), 1, 1, decode)
    assert seen.pictures and seen.words.name == name
    for picture in seen.pictures:
        assert picture.label and picture.pixels.shape == (8 * SIDE, 8 * SIDE, 3) and picture.pixels.dtype == np.uint8


def test_the_view_of_change_is_brightest_where_it_changed() -> None:
    then, now = latents(), latents()
    now[0, :, 3, 5] += 2
    *_, picture = look("change", Run([then, now]), 1, 0, decode).pictures
    light = picture.pixels.astype(int).sum(2)
    assert light[3 * 8: 4 * 8, 5 * 8: 6 * 8].min() > 600 and np.delete(light, range(24, 32), 0).max() < 10
    assert look("change", Run([then, now]), 1, 0, decode).words.values["peak"] == "2.00"


def test_regions_bear_their_names() -> None:
    request = Request(prompt="sea", steps=1, width=8 * SIDE, height=8 * SIDE, regions=(
        Region(name="boat", prompt="a boat", box=(0, 0, 0.5, 1)),))
    seen = look("regions", Run([latents()], request=request), 0, 0, decode)
    assert [picture.label for picture in seen.pictures] == [Told("rest"), "boat"]


@pytest.mark.parametrize("name, step, picture, line", [
    ("change", 0, 0, "Nothing comes before"), ("guidance", 1, 0, "no unguided estimate"),
    ("regions", 1, 0, "no estimates of regions"), ("channels", 2, 0, "no step 3"), ("channels", -1, 0, "no step 0"),
    ("channels", 0, 1, "no picture 2"), ("colours", 0, 0, "No view named 'colours'")])
def test_what_is_not_there_is_refused_in_one_line(name: str, step: int, picture: int, line: str) -> None:
    run: Any = Run([latents(0), latents(1)], unguided=False)
    with pytest.raises(BadRequest, match=line):
        look(name, run, step, picture, decode)


def test_views_are_one_registry() -> None:
    assert list(VIEWS) == ["channels", "noise", "guidance", "change", "regions"]
    assert views.COARSE > 1
