"""Storybook's judge, what the evaluation asks, and what it makes of the answers."""

from __future__ import annotations

import collections
import json
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from core.models.catalogue import Catalogue
from core.request import Request
from core.storybook import WEIGHTS, card, vocabulary
from core.storybook import judge as j
from core.storybook.cases import Case, single_cases, styled_cases, trios
from core.storybook.colours import colour_votes, name_colour
from core.storybook.confusion import Verdict, tables
from core.storybook.draw import PALETTE, jitter
from core.storybook.evaluate import BASELINES, Plan, Rate, evaluate, ways, worse_than
from core.storybook.scenes import render
from core.storybook.studio import Studio
from core.storybook.things import draw_thing
from ui import composition

CPU = torch.device("cpu")
needs_judge = pytest.mark.skipif(not (WEIGHTS / "judge").exists(), reason="no judge exported yet")


# --- judging -------------------------------------------------------------------------------------------------


def test_colours_of_plain_paint_are_named_rightly():
    rng = random.Random(0)
    for name, rgb in PALETTE.items():
        pixels = np.array([jitter(rgb, rng) for _ in range(50)], np.uint8)
        assert list(PALETTE)[int(colour_votes(pixels).argmax())] == name


@pytest.mark.parametrize("thing", ["flower", "boat", "painting", "cup"])
def test_a_thing_has_the_colour_it_was_painted_in_whatever_else_it_shows(thing):
    """A flower's stem is green and a boat's sail white, in any colour."""
    named = []
    for colour in PALETTE:
        tile = np.asarray(draw_thing(thing, colour, 70, 80, random.Random(1000)))
        named.append(name_colour(tile[tile[..., 3] > 127][:, :3], thing) == colour)
    assert sum(named) >= 11


def test_backdrop_that_shows_through_a_thing_is_not_taken_for_its_colour():
    """Three pixels of grass for each of a palm tree's own, as its cells hold them."""
    grass = np.array([jitter(PALETTE["green"], random.Random(k)) for k in range(300)], np.uint8)
    named = {"alone": 0, "with the backdrop known": 0}
    for colour in PALETTE:
        tile = np.asarray(draw_thing("palm tree", colour, 70, 80, random.Random(1000)))
        own = tile[tile[..., 3] > 127][:, :3]
        pixels = np.concatenate([own, np.resize(grass, (3 * len(own), 3))])
        named["alone"] += name_colour(pixels, "palm tree") == colour
        named["with the backdrop known"] += name_colour(pixels, "palm tree", grass) == colour
    assert named["with the backdrop known"] >= 11 > named["alone"]


def test_what_is_small_is_named_from_near():
    asked = []

    class Two(j.Judge):
        """Says the first thing of a whole picture, the second of one that is filled by bright pixels."""

        def forward(self, pictures):
            bright = torch.nn.functional.avg_pool2d((pictures.mean(1) > 0).float(), 8)
            asked.append(float(bright.mean()))
            thing = 1 if bright.mean() < 0.3 else 2
            logits = torch.full((len(pictures), 1 + len(vocabulary.THINGS), j.CELLS, j.CELLS), -30.0)
            logits[:, 0] = 0
            logits[:, thing] = bright * 40 - 20
            return logits

    names, picture = list(vocabulary.THINGS), torch.zeros(256, 256, 3, dtype=torch.uint8)
    picture[32:96, 160:224] = 255
    found, cells = j.look(Two(), picture)
    assert (found.thing, len(asked)) == (names[1], 2) and asked[1] > 0.5
    assert found.x > 0.6 and found.y < 0.4 and found.share < 0.1  # where it is, of the whole picture
    picture[:] = 255
    assert j.look(Two(), picture)[0].thing == names[1] and len(asked) == 3  # large: one look


def test_no_pixels_have_no_colour():
    assert name_colour(np.zeros((0, 3), np.uint8), "cat") == ""


def test_the_judge_reads_any_size_and_finds_in_windows():
    judge = j.Judge().eval()
    cells = j.cells_of(judge, torch.randint(256, (2, 256, 256, 3), dtype=torch.uint8))
    assert cells.shape == (2, 1 + len(vocabulary.THINGS), j.CELLS, j.CELLS)
    assert torch.allclose(cells.sum(1), torch.ones(2, j.CELLS, j.CELLS), atol=1e-5)
    seen = torch.zeros(1 + len(vocabulary.THINGS), j.CELLS, j.CELLS)
    seen[1 + 3, 4:8, 0:4] = 1  # the fourth thing on the left, the sixth on the right
    seen[1 + 5, 4:8, 10:16] = 1
    seen[0] = 1 - seen[1:].sum(0)
    picture = torch.zeros(256, 256, 3, dtype=torch.uint8)
    names = list(vocabulary.THINGS)
    found = j.find(picture, seen)
    assert found.thing == names[5] and found.x > 0.6 and found.colour == "black"
    assert j.find(picture, seen, (0.0, 0.0, 0.5, 1.0)).thing == names[3]


def test_a_box_is_looked_at_from_near():
    """A judge that answers with brightness: only the box's own part counts, wherever the square had to move."""

    class Bright(j.Judge):
        def forward(self, pictures):
            cells = torch.nn.functional.avg_pool2d(pictures.mean(1), 8) * 20
            zeros = torch.zeros_like(cells)
            return torch.stack([zeros, cells, -cells] + [zeros - 30] * (len(vocabulary.THINGS) - 2), 1)

    names = list(vocabulary.THINGS)
    picture = torch.zeros(256, 256, 3, dtype=torch.uint8)
    picture[64:160, 0:64] = 255
    assert j.find_in(Bright(), picture, (0.0, 0.25, 0.25, 0.625)).thing == names[0]
    assert j.find_in(Bright(), picture, (0.26, 0.25, 0.5, 0.625)).thing == names[1]
    assert j.find_in(Bright(), picture, (0.0, 0.7, 0.3, 1.0)).thing == names[1]


def test_unseen_scenes_are_single_and_held_out():
    scenes = j.unseen_scenes(30)
    assert all(vocabulary.held_out(t.name, t.colour) for scene in scenes for t in scene.things)
    assert {len(scene.things) for scene in scenes} == {1} and len(scenes) == 30


def test_a_saved_judge_judges_the_same(tmp_path):
    judge = j.Judge().half().float().eval()  # what float16 can hold
    j.save_judge(judge, tmp_path)
    picture = torch.randint(256, (1, 128, 128, 3), dtype=torch.uint8)
    assert torch.allclose(j.cells_of(judge, picture), j.cells_of(j.load_judge(tmp_path), picture), atol=1e-5)
    assert (tmp_path / "judge.safetensors").stat().st_size <= 1.9 * 2**20


@needs_judge
def test_the_judge_names_most_things_on_unseen_renders():
    """What the card says of it, on fewer scenes; a judge that cannot is no judge."""
    held = json.loads((WEIGHTS / "figures.json").read_text())["judge on renders"]
    seen = j.on_renders(j.load_judge(WEIGHTS / "judge"), 60)
    assert Rate(round(60 * seen.thing), 60).interval()[1] >= held["thing"]
    counted = [int(re.search(r": (\d+) of \d+ taken for", row)[1]) for row in seen.confused]
    assert sum(counted) == round(60 * (1 - seen.thing))


# --- what is asked -------------------------------------------------------------------------------------------


def test_evaluation_asks_only_for_what_training_never_saw():
    assert all(vocabulary.held_out(c.thing, c.colour) for c in single_cases(100, False) + single_cases(100, True))
    pairs = {f"{colour} {thing}" for thing, colour in vocabulary.held_out_pairs()}
    for trio in trios(20):
        assert len(trio.boxes) == len(set(trio.things)) == 3
        assert {phrase.split(" ", 1)[1] for phrase in trio.phrases} <= pairs
        assert vocabulary.unknown_words(trio.described().prompt + " " + trio.composed(0.2).prompt) == []


def test_all_ways_say_the_same_with_the_same_noise():
    trio = trios(1)[0]
    asked = ways(trio, seed=7, steps=9)
    assert {(request.seed, request.steps) for request in asked.values()} == {(7, 9)}
    assert all(phrase in asked["in one prompt"].prompt for phrase in trio.phrases)
    assert asked.pop("in one prompt").regions == ()
    assert all([region.prompt for region in request.regions] == list(trio.phrases) for request in asked.values())
    plain = asked["as published"]
    assert plain == Request(prompt=plain.prompt, regions=plain.regions, seed=7, steps=9)  # what Request begins with
    helped = {name: (request.bootstrap, request.say_places, request.crop_after) for name, request in asked.items()}
    assert helped == {"right thing in its box": (0.2, True, 0), "places not said": (0.2, False, 0),
                      "on whole pictures": (0.2, True, 1), "as published": (0.2, False, 1),
                      "without bootstrapping": (0, False, 1)}


def test_the_first_way_is_the_regions_tabs_own():
    trio = trios(1)[0]
    fresh = composition.first_request("storybook", Catalogue().get("storybook"))
    asked = ways(trio, steps=fresh.steps, guidance=fresh.guidance)["right thing in its box"]
    assert asked == fresh.replace(prompt=asked.prompt, regions=asked.regions)


def test_things_are_drawn_inside_their_boxes():
    for trio in trios(30):
        for thing, (x0, y0, x1, y1) in zip(trio.drawn(1).things, trio.boxes, strict=True):
            a0, b0, a1, b1 = thing.box()
            assert x0 - 1e-9 <= a0 < a1 <= x1 + 1e-9 and y0 - 1e-9 <= b0 < b1 <= y1 + 1e-9
            assert a1 - a0 == pytest.approx(x1 - x0) or b1 - b0 == pytest.approx(y1 - y0)


def test_captions_of_three_things_fit_the_text_tower():
    from core.storybook.networks import TEXT_LENGTH
    from core.storybook.tokens import make_tokenizer

    tokenizer = make_tokenizer()
    assert max(len(tokenizer(trio.described().prompt).input_ids) for trio in trios(100)) <= TEXT_LENGTH


def test_every_style_is_asked_for_alike_often():
    cases = styled_cases(50)
    counts = collections.Counter(case.style for case in cases)
    assert set(counts) == set(vocabulary.STYLES) - {"flat"} and len(set(counts.values())) == 1
    assert all(case.prompt.endswith(case.style) and vocabulary.held_out(case.thing, case.colour) for case in cases)


# --- what is made of it --------------------------------------------------------------------------------------


def test_wilson_interval_matches_the_published_example():
    # 15 of 148: 6.24 to 16.05 %: Newcombe (1998), Statistics in Medicine 17, table I, method 3, second example
    assert Rate(15, 148).interval() == pytest.approx((0.0624, 0.1605), abs=1e-4)


def test_what_is_below_the_card_is_said_and_what_chance_explains_is_not():
    recorded = {"right thing": 0.9, "autoencoder PSNR": 30.0, BASELINES[0]: 0.5}
    same, counts = Rate(108, 120), {"right thing": 120, BASELINES[0]: 150}
    assert worse_than(recorded, counts, {"right thing": same, "autoencoder PSNR": 29.95}) == []
    assert len(worse_than(recorded, counts, {"right thing": Rate(100, 120), "autoencoder PSNR": 29.0})) == 2
    assert worse_than(recorded, counts, {"right thing": Rate(8, 10)}) == []  # ten pictures do not tell 80 from 90 %
    assert worse_than(recorded, counts, {"right thing": Rate(2, 10)}) != []
    assert worse_than(recorded, counts, {BASELINES[0]: Rate(0, 150)}) == []  # what it is compared with may fall


def test_what_was_taken_for_what_is_counted_worst_first():
    cat, dog = Case("", "cat", "red", "left"), Case("", "dog", "blue", style="pixel art")
    found = tables([Verdict(cat, "cat", "red", True), Verdict(cat, "dog", "red", False),
                    Verdict(cat, "cup", "pink", True), Verdict(cat, "dog", "red", True),
                    Verdict(dog, "", "blue", None), Verdict(dog, "dog", "blue", None)])
    assert found["thing"] == ["cat: 3 of 4 taken for dog 2, cup 1", "dog: 1 of 2 taken for nothing 1"]
    assert found["colour"] == ["red: 1 of 4 taken for pink 1"]
    assert found["place"] == ["left: 1 of 4 missed"] and found["style"] == ["pixel art: 1 of 2 missed"]


@pytest.mark.skipif(not (WEIGHTS / "model_index.json").exists(), reason="no weights exported yet")
def test_the_studio_paints_what_a_person_gets():
    from core.engine import Engine
    from core.request import Done, Preview

    studio = Studio(WEIGHTS, CPU)
    asked = Request(prompt="a red sofa", steps=2, seed=3, model=studio.model)
    painted = list(studio.paint([asked, asked.replace(seed=4)]))
    done = list(Engine(device="cpu").generate(asked.replace(model="storybook"), Preview("none")))[-1]
    assert isinstance(done, Done)
    assert np.abs(painted[0].astype(int) - done.pictures[0]).max() <= 2  # threads of other number may round otherwise
    assert not np.array_equal(painted[0], painted[1])


@pytest.fixture()
def small_weights(tmp_path):
    """The shipped weights with an untrained judge and no scorer."""
    for part in WEIGHTS.iterdir():
        if part.name not in ("judge", "scorer", "figures.json", "README.md", "samples.jpg", "renders.jpg"):
            (tmp_path / part.name).symlink_to(part)
    j.save_judge(j.Judge(), tmp_path / "judge")
    return tmp_path


@pytest.mark.skipif(not (WEIGHTS / "model_index.json").exists(), reason="no weights exported yet")
def test_an_evaluation_is_recorded_and_a_worse_one_fails(small_weights, monkeypatch, capsys):
    ceiling = j.Ceiling(0.5, 0.5, ["cat: 1 of 2 taken for dog 1"])
    monkeypatch.setattr("core.storybook.judge.on_renders", lambda judge: ceiling)
    monkeypatch.setattr("core.storybook.evaluate.RECONSTRUCTED", 10)
    plan = Plan(4, 1, steps=2)
    assert evaluate(small_weights, CPU, plan, keep=True) == 0
    held = json.loads((small_weights / "figures.json").read_text())
    assert set(BASELINES) < set(held["figures"]) and held["counts"]["right thing"] == 8
    assert held["counts"]["right thing in its box"] == 3 and "--count 4 --layouts 1" in held["command"]
    assert held["command"].endswith(" --steps 2") and held["steps"] == 2
    assert evaluate(small_weights, CPU, plan, confusion=True) == 0
    told = capsys.readouterr().out
    assert "cat: 1 of 2 taken for dog 1" in told and set(held["confused"]) == {"thing", "colour", "place", "style"}
    assert all(row in told for rows in held["confused"].values() for row in rows)
    held["figures"]["autoencoder PSNR"] += 3
    (small_weights / "figures.json").write_text(json.dumps(held))
    assert evaluate(small_weights, CPU, plan) == 1
    assert "WORSE autoencoder PSNR" in capsys.readouterr().out
    assert evaluate(small_weights, CPU, Plan(4, 1, steps=3)) == 0  # other settings are not compared
    assert "other settings" in capsys.readouterr().out


@pytest.mark.skipif(not (WEIGHTS / "model_index.json").exists(), reason="no weights exported yet")
def test_the_card_shows_renders_beside_samples_of_the_same_captions(small_weights, monkeypatch):
    monkeypatch.setattr(card, "SIDE", 1)
    (small_weights / "figures.json").symlink_to(WEIGHTS / "figures.json")
    card.write_card(small_weights, CPU)
    text = (small_weights / "README.md").read_text()
    renders, samples = (np.asarray(Image.open(small_weights / name), float) for name in ("renders.jpg", "samples.jpg"))
    assert renders.shape == samples.shape == (128, 128, 3) and np.abs(renders - samples).mean() > 3
    shown = [scene.caption for scene in (render(card.HELD_OUT_SEED + 1000 + i) for i in range(2)) if scene.caption]
    assert "| ![renders](renders.jpg) | ![samples](samples.jpg) |" in text and f"Row by row: {shown[0]}." in text
