"""What the diffusion stage is shown."""

from __future__ import annotations

import pytest
import torch

from core.storybook import WEIGHTS
from core.storybook import data as d
from core.storybook import lessons as le
from core.storybook.export import unpack
from core.storybook.loop import Run
from core.storybook.train_text import HARD_WEIGHT


@pytest.fixture(scope="module")
def lessons(tmp_path_factory) -> le.Lessons:
    folder = tmp_path_factory.mktemp("lessons")
    unpack(WEIGHTS, folder)
    scenes = d.render_many(d.CANVASES[256], 0, 24)
    (folder / "scenes256").mkdir()
    d.write_shard(d.shard_path(folder, 256, 0), scenes)
    return le.Lessons(Run(folder, 5, batch=400), 256)


def test_a_batch_holds_scenes_as_they_are_each_with_its_own_words(lessons):
    batch = lessons.draw(torch.Generator().manual_seed(0))
    of = {row.half().numpy().tobytes(): k for k, row in enumerate(lessons.latents)}
    for x0, ids, labels in zip(batch["x0"], batch["ids"], batch["labels"], strict=True):
        k = of[x0.half().numpy().tobytes()]
        assert torch.equal(ids, lessons.ids[k]) and torch.equal(labels, lessons.labels[k])


def test_noisy_steps_and_plain_single_things_come_more_often(lessons):
    batch = lessons.draw(torch.Generator().manual_seed(0))
    assert float((batch["t"] >= 500).float().mean()) == pytest.approx(1 - 0.5 ** (4 / 3), abs=0.08)  # P(u^0.75 > 1/2)
    assert sorted(set(lessons.share.tolist())) == pytest.approx([HARD_WEIGHT, 1.0]) and batch["t"].max() < 1000


def test_batches_of_one_seed_are_the_same(lessons):
    first, second = (lessons.draw(torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_junk_words_are_put_into_a_few_captions_only():
    captions = ["a red sofa in a living room"] * 400
    junk = le.add_junk(captions, torch.Generator().manual_seed(0))
    longer = [one for one in junk if one != captions[0]]
    assert 8 <= len(longer) <= 36 and all(len(one.split()) == 8 for one in longer)
