"""What the diffusion stage is shown: scenes as they are, things behind a colour, things in other scenes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from core.engine import Engine
from core.models.catalogue import Catalogue
from core.storybook import WEIGHTS
from core.storybook import data as d
from core.storybook import lessons as le
from core.storybook.export import unpack
from core.storybook.loop import Run


@pytest.fixture(scope="module")
def lessons(tmp_path_factory) -> le.Lessons:
    folder = tmp_path_factory.mktemp("lessons")
    unpack(WEIGHTS, folder)
    scenes = d.render_many(d.CANVASES[256], 0, 24)
    (folder / "scenes256").mkdir()
    words = np.frombuffer(json.dumps([scenes.captions, scenes.boxes]).encode(), np.uint8)
    np.savez(d.shard_path(folder, 256, 0), pictures=scenes.pictures, labels=scenes.labels, words=words)
    return le.Lessons(Run(folder, 5, batch=400), 256)


def of_one_thing() -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (1, 4, 32, 32) and labels of a thing in columns 8 to 15 and rows 4 to 11."""
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    labels[:, 4:12, 8:16] = 5
    return torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)), labels


def test_the_extent_of_a_thing_is_a_box_of_fractions():
    _, labels = of_one_thing()
    assert le.extents(labels).tolist() == [[8 / 32, 4 / 32, 16 / 32, 12 / 32]]


@pytest.mark.parametrize("side", [16, 32])
def test_a_thing_is_seen_and_all_around_it_is_one_colour(side):
    x0, labels = torch.randn(1, 4, side, side), of_one_thing()[1]
    colour = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    shown = le.hide(x0, le.extents(labels), torch.zeros(1, 4), colour, torch.tensor([True]))
    rows, columns = slice(4 * side // 32, 12 * side // 32), slice(8 * side // 32, 16 * side // 32)
    assert torch.equal(shown[..., rows, columns], x0[..., rows, columns])
    outside = torch.ones(side, side, dtype=torch.bool)
    outside[rows, columns] = False
    assert (shown[0][:, outside] == colour.T).all()
    assert torch.equal(le.hide(x0, le.extents(labels), torch.zeros(1, 4), colour, torch.tensor([False])), x0)


def test_a_margin_shows_more_on_its_own_side():
    x0, labels = of_one_thing()
    shown = le.hide(x0, le.extents(labels), torch.tensor([[0.0, 0.0, 1.0, 0.0]]), torch.zeros(1, 4),
                    torch.tensor([True]))
    used = (shown[0] != 0).any(0)
    assert used.any(0).nonzero()[[0, -1]].flatten().tolist() == [8, 18]  # 40 % of 8 columns more, to the right
    assert used.any(1).nonzero()[[0, -1]].flatten().tolist() == [4, 11]


def test_a_thing_is_set_into_another_scene_with_what_is_at_its_edge():
    x0, labels = of_one_thing()
    others, theirs = torch.full_like(x0, 9.0), torch.full_like(labels, 7)
    moved, named = le.moved_to(x0, labels, others, theirs, torch.tensor([True]))
    assert torch.equal(moved[..., 3:13, 7:17], x0[..., 3:13, 7:17]) and (moved[..., 13:, :] == 9).all()
    assert (named[:, 4:12, 8:16] == 5).all() and (named[:, 12:] == 7).all()
    kept, same = le.moved_to(x0, labels, others, theirs, torch.tensor([False]))
    assert torch.equal(kept, x0) and torch.equal(same, labels)


def test_colours_are_those_the_engine_bootstraps_with(lessons):
    """Both encode constant colours and take what is far from the border, so their spread is the same."""
    theirs = Engine(Catalogue(), "cpu").load("storybook").colour_latents()
    assert torch.allclose(lessons.colours.mean(0), theirs.mean(0), atol=3 * float(theirs.std()) / len(theirs) ** 0.5)
    assert torch.allclose(lessons.colours.std(0), theirs.std(0), rtol=0.5)


def test_a_batch_holds_its_shares_of_hidden_and_moved_things(lessons):
    batch = lessons.draw(torch.Generator().manual_seed(0))
    hidden = (batch["shown"] != batch["x0"]).any(-1).any(-1).any(-1)
    assert (batch["t"][hidden] >= le.HIDDEN_FROM).all()
    single = lessons.share.new_tensor([float(s) for s in lessons.single])
    expected = float((lessons.share * single).sum() / lessons.share.sum())
    assert float(hidden.float().mean()) == pytest.approx(le.HIDDEN_SHARE * expected, abs=0.08)
    known = {row.half().numpy().tobytes() for row in lessons.latents}
    changed = torch.tensor([row.half().numpy().tobytes() not in known for row in batch["x0"]])
    assert float(changed.float().mean()) == pytest.approx(le.MOVED_SHARE * expected, abs=0.06)
    assert not (hidden & changed).any()  # one lot decides both


def test_batches_of_one_seed_are_the_same(lessons):
    first, second = (lessons.draw(torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_junk_words_are_put_into_a_few_captions_only():
    captions = ["a red sofa in a living room"] * 400
    junk = le.add_junk(captions, torch.Generator().manual_seed(0))
    longer = [one for one in junk if one != captions[0]]
    assert 8 <= len(longer) <= 36 and all(len(one.split()) == 8 for one in longer)
