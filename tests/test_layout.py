"""Layouts: whose cell is whose, and what a run will cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.checks import check
from core.errors import BadRequest
from core.layout import boxes_of, layout_of, parts_of, predicted_evaluations, prompts_of, views_of
from core.masks import Mask, coverage
from core.models.catalogue import Catalogue
from core.request import Region, Request

LEFT = Region(name="left", prompt="a", box=(0, 0, 0.5, 1))
ALL = Region(name="all", prompt="b", box=(0, 0, 1, 1))


def request(*regions: Region, **rest) -> Request:
    return Request(model="eps", width=128, height=128, regions=regions, **rest)


def stroke(width: int) -> Mask:
    """A horizontal stroke of so many pixels."""
    pixels = np.zeros((128, 128))
    pixels[61:61 + width, 10:110] = 1
    return Mask.of(pixels)


@pytest.mark.parametrize("masks", ["area", "paper"])
@pytest.mark.parametrize("feather", [0, 12])
def test_weights_sum_to_one_in_every_cell(masks, feather):
    rng = np.random.default_rng(1)
    regions = [Region(name=str(k), prompt="x", feather=feather, weight=float(rng.uniform(0.1, 5)),
                      mask=Mask.of(rng.random((128, 128)) > rng.random())) for k in range(6)]
    weights = layout_of(request(*regions, masks=masks), 8).weights
    assert weights.min() >= 0
    assert np.abs(weights.sum(0) - 1).max() < 1e-6  # float32


def test_later_regions_are_painted_over_earlier_ones():
    layout = layout_of(request(ALL, LEFT), 8)
    assert layout.weights[2][:, :8].min() == 1 and layout.weights[1][:, 8:].min() == 1
    assert layout.visible == [1, 2] and layout.uncovered == 0


def test_a_region_under_others_is_hidden_and_asks_nothing(catalogue: Catalogue):
    covered = request(LEFT, ALL, guidance=1.0, steps=10, bootstrap=0)
    info = catalogue.get("eps")
    assert layout_of(covered, 8).hidden == [1]
    assert predicted_evaluations(covered, info) == 10  # the one region that can be seen
    assert any("'left' is fully hidden" in note.text for note in check(covered, info))


@pytest.mark.parametrize("feather", [0, 3])
@pytest.mark.parametrize("corner", [(0, 0), (0.4, 0.3), (0.85, 0.85)])
def test_a_crop_holds_every_cell_its_region_rules_and_some_around_it(catalogue: Catalogue, feather, corner):
    x, y = corner
    thing = Region(name="thing", prompt="a", box=(x, y, x + 0.1, y + 0.12), feather=feather)
    asked, info = request(thing, prompt="b").replace(width=512, height=384), catalogue.get("eps")
    (part,) = parts_of(asked, info)
    boxes = boxes_of(part, asked, info)
    assert list(boxes) == [1]  # the background is everywhere
    inside = np.zeros(part.weights[1].shape, bool)
    inside[np.ix_(boxes[1].rows, boxes[1].columns)] = True
    rules = part.weights[1] > 0
    assert inside[rules].all()
    for axis, cells in enumerate((boxes[1].rows, boxes[1].columns)):
        used = np.flatnonzero(rules.any(1 - axis))
        assert cells == tuple(range(cells[0], cells[-1] + 1)) and len(cells) % 8 == 0
        assert cells[0] <= max(used[0] - 2, 0) and cells[-1] >= min(used[-1] + 2, inside.shape[axis] - 1)


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_a_thin_stroke_survives(width):
    layout = layout_of(request(Region(name="line", prompt="x", mask=stroke(width))), 8)
    assert layout.visible == [0, 1]
    assert layout.weights[1].max() >= 0.5


def test_a_small_region_is_pointed_out(catalogue: Catalogue):
    small = request(Region(name="dot", prompt="x", box=(0, 0, 0.125, 0.125)))
    assert any("'dot' rules 4 latent cells" in note.text for note in check(small, catalogue.get("eps")))


def test_paper_masks_average_overlaps_and_leave_the_rest_to_the_background():
    top = Region(name="top", prompt="b", box=(0, 0, 1, 0.5))
    weights = layout_of(request(top, LEFT, masks="paper"), 8).weights
    assert weights[:, 0, 0].tolist() == [0, 0.5, 0.5]
    assert weights[:, 0, 15].tolist() == [0, 1, 0]
    assert weights[:, 15, 15].tolist() == [1, 0, 0]


def test_weight_decides_where_regions_meet_softly_only():
    heavy = Region(name="heavy", prompt="x", box=(0, 0, 0.5, 1), feather=16, weight=4)
    plain = Region(name="plain", prompt="x", box=(0, 0, 0.5, 1), feather=16)
    strong, even = (layout_of(request(r), 8).weights[1] for r in (heavy, plain))
    assert strong[0, 8] > even[0, 8] + 0.1
    assert strong[0, 0] == pytest.approx(even[0, 0], abs=0.02)


def test_a_stride_that_leaves_gaps_is_refused(catalogue: Catalogue):
    for stride in (136, 100):
        wide = Request(model="eps", width=512, height=128, panorama="smooth", stride=stride)
        with pytest.raises(BadRequest, match="stride"):
            views_of(wide, catalogue.get("eps"))


def test_a_picture_no_larger_than_the_model_is_one_window(catalogue: Catalogue):
    assert len(views_of(request(panorama="smooth"), catalogue.get("eps"))) == 1


@pytest.mark.parametrize(("box", "words"), [
    ((0, 0, 0.4, 1), "on the left"), ((0.3, 0.3, 0.7, 0.7), "in the centre"), ((0.6, 0.3, 1, 0.7), "on the right"),
    ((0.1, 0, 0.9, 0.4), "at the top"), ((0, 0.7, 0.3, 1), "at the bottom left"),
    ((0.7, 0, 1, 0.3), "at the top right")])
def test_a_region_says_where_it_lies_when_that_is_asked_for(box, words):
    region = Region(name="a", prompt="a (red:1.2) sofa <lora:ink:1>", box=box)
    asked = request(region, prompt="a room", say_places=True)
    assert prompts_of(asked, 1).prompt == f"a (red:1.2) sofa {words}"
    painted = replace(region, box=None, mask=Mask.of(coverage(box, 128, 128, 1) > 0.5))
    assert prompts_of(asked.replace(regions=(painted,)), 1).prompt == f"a (red:1.2) sofa {words}"
    assert prompts_of(asked.replace(join_prompts=True), 1).prompt == f"a (red:1.2) sofa {words}, a room"
    assert prompts_of(asked.replace(say_places=False), 1).prompt == region.prompt
    assert prompts_of(asked.replace(panorama="smooth"), 1).prompt == region.prompt  # a window sees another part
    told = replace(region, prompt=f"a sofa {words}, watercolour")
    assert prompts_of(asked.replace(regions=(told,)), 1).prompt == told.prompt


def test_each_regions_own_guidance_is_weighed_as_the_sampler_does(catalogue: Catalogue):
    asked = request(LEFT, replace(ALL, guidance=12.5, negative_prompt="fog"), guidance=5.0, negative_prompt="sea")
    assert [prompts_of(asked, k)[2:4] for k in (0, 1, 2)] == [(5, True), (5, True), (12.5, True)]
    asked = asked.replace(sampler="DDIM CFG++")
    assert [prompts_of(asked, k)[1:4] for k in (0, 1, 2)] == [("sea", 0.4, True), ("sea", 0.4, True), ("fog", 1, True)]
    plain = asked.replace(prompt="a", regions=(), guidance=1, steps=10)
    info = catalogue.get("eps")
    assert predicted_evaluations(plain, info) == 20 and not check(plain, info)  # the negative prompt is asked for
    assert predicted_evaluations(plain.replace(sampler="Euler"), info) == 10
    assert any("negative prompt is not asked" in note.text for note in check(plain.replace(sampler="Euler"), info))
