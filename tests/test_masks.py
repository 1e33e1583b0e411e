"""Painted masks: runs there and back, and how much of each latent cell they cover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import BadRequest
from core.masks import Mask, coverage, painted


@pytest.mark.parametrize("seed", range(4))
def test_runs_hold_exactly_what_was_painted(seed):
    shape = [(1, 1), (7, 3), (64, 96), (5, 40)][seed]
    pixels = np.random.default_rng(seed).random(shape) > 0.6
    mask = Mask.of(pixels)
    assert np.array_equal(mask.to_array(), pixels)
    assert Mask.parse(mask.to_dict()) == mask
    assert mask.empty == (not pixels.any())


@pytest.mark.parametrize("pixels", [np.zeros((4, 6)), np.ones((4, 6))])
def test_all_and_nothing_are_runs_too(pixels):
    assert np.array_equal(Mask.of(pixels).to_array(), pixels.astype(bool))


@pytest.mark.parametrize("broken", [
    {"width": 4, "height": 4, "runs": "3 5"}, {"width": 4, "height": 4, "runs": "20 -4"}, {"width": 4, "runs": "16"},
    {"width": 0, "height": 4, "runs": ""}, {"width": 10**6, "height": 10**6, "runs": "1"}, "16", None,
    {"width": 4, "height": 4, "runs": "a b"}])
def test_a_damaged_mask_is_refused_in_one_line(broken):
    with pytest.raises(BadRequest) as error:
        Mask.parse(broken)
    assert "\n" not in str(error.value) and error.value.field == "regions"


def test_a_mask_file_counts_where_it_is_bright_and_opaque(tmp_path: Path):
    shades = np.zeros((4, 4, 4), np.uint8)
    shades[..., 3] = 255
    shades[1, 1] = (255, 255, 255, 255)
    shades[2, 2] = (255, 255, 255, 0)  # bright but transparent: not painted
    Image.fromarray(shades).save(tmp_path / "m.png")
    assert np.argwhere(Mask.read(tmp_path / "m.png").to_array()).tolist() == [[1, 1]]


def test_a_mask_file_that_is_missing_or_no_picture_says_so(tmp_path: Path):
    (tmp_path / "text.png").write_text("no picture")
    for name, words in (("gone.png", "missing"), ("text.png", "cannot be read|not a picture")):
        with pytest.raises(BadRequest, match=words):
            Mask.read(tmp_path / name)


def test_coverage_is_the_area_average_of_the_pixels():
    pixels = np.random.default_rng(0).random((64, 96)) > 0.5
    share = coverage(Mask.of(pixels), 96, 64, 8)
    assert share.shape == (8, 12)
    assert share[3, 5] == pytest.approx(pixels[24:32, 40:48].mean())


def test_a_box_covers_cells_exactly_not_by_whole_pixels():
    share = coverage((0.25, 0.0, 0.5625, 1.0), 64, 16, 8)  # columns 2 to 4.5 of 8
    assert share[0].tolist() == pytest.approx([0, 0, 1, 1, 0.5, 0, 0, 0])


def test_a_box_and_the_same_box_painted_cover_the_same():
    box = (0.125, 0.25, 0.75, 1.0)
    as_mask = Mask.of(painted(box, 64, 64))
    assert np.allclose(coverage(box, 64, 64, 8), coverage(as_mask, 64, 64, 8))
