"""Close-ups: what a region on a crop sees is what the engine would show it, and its words are its thing's alone."""

from __future__ import annotations

import random

import pytest
import torch

from core.layout import boxes_of, parts_of
from core.models.catalogue import Catalogue
from core.request import Region, Request
from core.storybook import WEIGHTS
from core.storybook import closeups as c
from core.storybook import data as d
from core.storybook.export import unpack
from core.storybook.loop import Run
from core.storybook.scenes import sample_scene
from core.storybook.tokens import make_tokenizer
from core.storybook.vocabulary import COLOURS, STYLES, THINGS

CANVAS = d.CANVASES[256]


@pytest.fixture(scope="module")
def closeups(tmp_path_factory) -> c.CloseUps:
    """Of one shard, as the render stage names and numbers it; its last scenes are none of this grammar's."""
    folder = tmp_path_factory.mktemp("closeups")
    unpack(WEIGHTS, folder)
    scenes = d.render_many(CANVAS, CANVAS.first_seed, 24)
    scenes.captions[20:] = ["words of another grammar"] * 4
    (folder / "scenes256").mkdir()
    d.write_shard(d.shard_path(folder, 256, 0), scenes)
    return c.CloseUps(Run(folder, 5, batch=64))


def found(count: int) -> list[tuple[c.CloseUp, c.Scene, c.Thing]]:
    rng, made = random.Random(0), []
    for seed in range(count):
        scene = sample_scene(seed)
        made += [(one, scene, thing) for thing in scene.things if (one := c.close_up(seed, scene, thing, rng))]
    return made


def test_a_close_up_is_the_crop_that_the_engine_shows_a_region_painted_there():
    info = Catalogue().get("storybook")
    for x0, y0, wide, tall in [(0.0, 0.0, 0.3, 0.3), (0.35, 0.3, 0.3, 0.45), (0.69, 0.5, 0.3, 0.4)]:
        cat = Region(name="cat", prompt="a cat", box=(x0, y0, x0 + wide, y0 + tall))
        asked = Request(prompt="a beach", regions=(cat,), crop_after=0.0)
        (part,) = parts_of(asked, info)
        seen = boxes_of(part, asked, info)[1]
        rows, columns = (c.span_of_crop(*c.cells_of(low, high), c.CELLS, c.CELLS // 2)
                         for low, high in ((y0, y0 + tall), (x0, x0 + wide)))
        assert (seen.rows, seen.columns) == (rows, columns)


def test_it_holds_its_thing_and_no_other_and_is_small():
    for one, scene, thing in found(300):
        x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) * c.CELLS for edge in thing.box())
        assert one.left <= x0 and one.top <= y0 and x1 <= one.left + one.width and y1 <= one.top + one.height
        across, down = (one.left, one.left + one.width), (one.top, one.top + one.height)
        assert not any(across[0] < other.x * c.CELLS < across[1] and down[0] < other.y * c.CELLS < down[1]
                       for other in scene.things if other is not thing)
        assert 16 <= one.height <= 24 and 16 <= one.width <= 24 and one.height % 8 == one.width % 8 == 0


def test_its_words_name_its_thing_and_no_other():
    def said(name: str, words: str) -> bool:
        return any(f" {word} " in f" {words.replace(',', ' ')} " for word in (name, *THINGS[name]))

    for one, scene, thing in found(300):
        assert said(thing.name, one.words), one.words
        own = " ".join((thing.name, *THINGS[thing.name]))
        others = [other.name for other in scene.things if other.name != thing.name and not said(other.name, own)]
        assert not any(said(name, one.words) for name in others), one.words
        coloured = any(word in one.words for word in (thing.colour, *COLOURS[thing.colour]))
        assert coloured or not thing.named_colour
        assert scene.style == "flat" or any(word in one.words for word in (scene.style, *STYLES[scene.style]))


def test_a_batch_is_parts_of_scenes_of_one_shape(closeups):
    for seed in range(6):
        batch = closeups.draw(torch.Generator().manual_seed(seed))
        count, _, height, width = batch["x0"].shape
        assert (height, width) in closeups.shapes and batch["labels"].shape == (count, height, width)
        windows = closeups.latents.unfold(2, height, 1).unfold(3, width, 1)  # (N, 4, rows, columns, height, width)
        for x0, labels in zip(batch["x0"], batch["labels"], strict=True):
            same = (windows == x0.half()[None, :, None, None]).all(1).flatten(3).all(3).nonzero().tolist()
            assert len(same) == 1
            scene, top, left = same[0]
            assert torch.equal(labels, closeups.labels[scene, top:top + height, left:left + width])
            assert labels.any(), "nothing is there"
        assert batch["noise"].shape == batch["x0"].shape and len(batch["t"]) == len(batch["ids"]) == count


def test_shapes_cost_about_the_same(closeups):
    sizes = [closeups.draw(torch.Generator().manual_seed(seed))["x0"][:, 0].numel() for seed in range(12)]
    assert 64 * 16 * 16 * 0.8 <= min(sizes) and max(sizes) <= 64 * 16 * 16


def test_scenes_of_another_grammar_are_left_out(closeups):
    assert max(int(places[:, 0].max()) for places in closeups.of) < 20


def test_a_folder_of_another_grammar_says_what_to_do(closeups, tmp_path, monkeypatch):
    monkeypatch.setattr(c, "load_latents", lambda paths: (closeups.latents, ["other words"] * 24, closeups.labels))
    monkeypatch.setattr(c, "encode_shards", lambda *_: [d.shard_path(tmp_path, 256, 0)])
    with pytest.raises(FileNotFoundError, match="--stage render"):
        c.CloseUps(Run(tmp_path, 1))


def test_batches_of_one_seed_are_the_same(closeups):
    first, second = (closeups.draw(torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_its_words_name_what_is_in_it(closeups):
    tokenizer, names = make_tokenizer(), list(THINGS)
    batch = closeups.draw(torch.Generator().manual_seed(5))
    for ids, labels in zip(batch["ids"], batch["labels"], strict=True):
        words = f" {tokenizer.decode(ids, skip_special_tokens=True)} ".replace(",", " ")
        seen = {names[k - 1] for k in labels.unique().tolist() if k}
        assert any(f" {word} " in words for name in seen for word in (name, *THINGS[name])), (words, seen)
