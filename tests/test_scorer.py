"""The scorer: what it makes of pictures and prompts, trained for a few steps here, and the shipped one if there is."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from core.engine import Engine
from core.errors import ModelError
from core.jobs import Jobs
from core.masks import Mask
from core.models.catalogue import Catalogue
from core.request import Done, Preview, Region, Request
from core.scorer import NEUTRAL, Preparation, Scorer, scorer_folder
from core.storybook import WEIGHTS, vocabulary
from core.storybook import data as d
from core.storybook.scorer_data import NOTHING, PHRASES, cut, load_examples, phrase, spoil
from tests.fakes import FakeRunner

needs_weights = pytest.mark.skipif(not (WEIGHTS / "model_index.json").exists(), reason="no weights exported yet")


@pytest.fixture(scope="module")
def training_folder(tmp_path_factory):
    """24 scenes and an untrained text tower."""
    from core.storybook.train_text import new_text_encoder

    folder = tmp_path_factory.mktemp("storybook")
    for size, count in ((128, 16), (256, 8)):
        canvas = d.CANVASES[size]
        scenes = d.render_many(canvas, canvas.first_seed, count)
        (folder / f"scenes{size}").mkdir()
        words = np.frombuffer(json.dumps([scenes.captions, scenes.boxes]).encode(), np.uint8)
        np.savez(d.shard_path(folder, size, 0), pictures=scenes.pictures, labels=scenes.labels, words=words)
    new_text_encoder().save_pretrained(folder / "text")
    return folder


@pytest.fixture(scope="module")
def folder(training_folder):
    """A scorer of two steps, written as the stage writes it."""
    from core.storybook import train_scorer
    from core.storybook.loop import Run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_scorer, "REGIONS", 40)
        train_scorer.scorer_stage(Run(training_folder, 5, batch=8, steps=2))
    return training_folder / "scorer"


@pytest.fixture(scope="module")
def scorer(folder):
    return Scorer.load(folder)


@pytest.fixture()
def picture():
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


# --- what it learns from -------------------------------------------------------------------------------------


def test_a_spoilt_caption_differs_in_one_word_that_storybook_knows():
    rng = random.Random(0)
    for caption in ("a red sofa", "a crimson house plant on the left and a cup", "a tree at the bottom"):
        spoilt = spoil(caption, rng)
        assert spoilt != caption and vocabulary.unknown_words(spoilt) == []


def test_nothing_that_is_never_true_is_learnt_as_wrong():
    from core.storybook.train_scorer import part_loss

    pairs = {f"{colour} {thing}" for thing, colour in vocabulary.held_out_pairs()}
    rng = random.Random(1)
    spoilt = [spoil(caption, rng) for caption in ["a red sofa and a blue cat", "a green tree"] * 300]
    assert not [one for one in spoilt if any(pair in one for pair in pairs)]
    phrases = torch.randn(len(PHRASES), 8, requires_grad=True)
    part_loss(torch.randn(4, 8), phrases, torch.tensor([0, 1, NOTHING, 0]), torch.tensor(1.0))[0].backward()
    unseen = [i for i, (colour, what) in enumerate(PHRASES[:NOTHING]) if vocabulary.held_out(what, colour)]
    assert len(unseen) == len(pairs) and not phrases.grad[unseen].any() and phrases.grad[2].any()


def test_parts_show_the_thing_that_their_phrase_names(training_folder):
    from core.storybook.tokens import make_tokenizer

    examples = load_examples(training_folder, make_tokenizer())
    assert len(examples.boxes) >= 20 and len(examples.empty) >= 5
    parts = examples.draw_parts(200, torch.Generator().manual_seed(0))
    pictures, things, colours = cut(examples, parts.scenes, parts.windows, 64, 16)
    assert pictures.shape == (200, 3, 64, 64) and pictures.abs().max() <= 1
    names, paints = list(vocabulary.THINGS), list(vocabulary.COLOURS)
    for k, (thing, colour) in enumerate(zip(things, colours, strict=True)):
        said, what = PHRASES[int(parts.phrases[k])]
        if int(parts.phrases[k]) >= NOTHING:
            assert what in vocabulary.SCENES and not thing.any()
        else:
            assert (thing == 1 + names.index(what)).any()
            assert set(colour[thing == 1 + names.index(what)].tolist()) == {1 + paints.index(said)}


def test_a_window_shows_what_pillow_cuts_out(training_folder):
    from core.storybook.tokens import make_tokenizer

    examples = load_examples(training_folder, make_tokenizer())
    windows = torch.tensor([[0.25, 0.5, 0.625, 0.875], [0.25, 0.25, 1.0, 1.0]])
    near, *_ = cut(examples, torch.tensor([20]), windows[:1], 96, 8)
    far, *_ = cut(examples, torch.tensor([20]), windows[1:], 96, 8)
    whole = d.render_many(d.CANVASES[256], d.CANVASES[256].first_seed + 4, 1).pictures[0]
    for seen, wanted in ((near, whole[128:224, 64:160]),
                         (far, np.asarray(Image.fromarray(whole).reduce(2))[32:, 32:])):
        assert np.abs((seen[0].numpy().transpose(1, 2, 0) + 1) * 127.5 - wanted).max() <= 1.01


def test_phrases_in_other_wordings_mean_the_same():
    assert phrase(0) == "a red sofa" and phrase(NOTHING) == "a living room"
    said = {phrase(0, np.random.default_rng(k)) for k in range(40)}
    assert "a crimson couch" in said and "a red sofa" in said and len(said) == 9


def test_calibration_finds_the_temperature_that_was_lost():
    """Logits of known odds, multiplied by five: divided by about five, they say how often they are right."""
    from core.storybook.train_scorer import TEMPERATURES, _calibration_error, _log_loss, _own_share

    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, (4000, 3))
    odds = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    truth = rng.random(4000) < odds[:, 0]
    best = min(TEMPERATURES, key=lambda t: _log_loss(_own_share(5 * true / t), truth))
    assert 4 < best < 6
    assert _calibration_error(_own_share(5 * true / best), truth) < 0.03 < _calibration_error(
        _own_share(5 * true), truth)


# --- what it is ----------------------------------------------------------------------------------------------


def test_plain_transformers_loads_it_and_agrees(folder, scorer, picture):
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    prompts = ["a red sofa", "a blue cup on a meadow"]
    small = np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.BILINEAR), np.float32)
    pixels = torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        found = model(pixel_values=pixels, **tokenizer(prompts, padding="max_length", return_tensors="pt"))
    assert np.allclose(scorer.score([picture], prompts).probability, found.logits_per_image.softmax(1), atol=1e-4)


def test_an_ordinary_clip_is_prepared_as_openai_does_it(tmp_path, picture):
    """Shorter side to 224 pixels, the middle, OpenAI's means: the file as transformers writes it for CLIP."""
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    (tmp_path / "p.json").write_text(json.dumps({
        "size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
        "resample": 3, "image_mean": mean, "image_std": std}))
    wide = np.concatenate([picture, picture], 1)
    seen = Preparation.read(tmp_path / "p.json")(wide)
    image = Image.fromarray(wide).resize((448, 224), Image.Resampling.BICUBIC).crop((112, 0, 336, 224))
    wanted = (np.asarray(image, np.float32) / 255 - mean) / std
    assert seen.shape == (3, 224, 224) and np.allclose(seen, wanted.transpose(2, 0, 1), atol=1e-5)


def test_scores_are_cosines_and_shares(scorer, picture):
    found = scorer.score([picture, 255 - picture], ["a red sofa", "a blue cup", "a tree"])
    assert found.cosine.shape == (2, 3) and np.abs(found.cosine).max() <= 1 + 1e-6
    assert np.allclose(found.probability.sum(1), 1, atol=1e-5)
    assert scorer.clip_score(picture, "a red sofa") == pytest.approx(max(0.0, 100 * found.cosine[0, 0]), abs=1e-3)


def test_a_broken_scorer_is_a_message_and_none_is_none(tmp_path, folder):
    assert scorer_folder(tmp_path) is None
    shutil.copytree(folder, tmp_path / "scorer")
    assert scorer_folder(tmp_path) == tmp_path / "scorer"
    (tmp_path / "scorer" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="could not be loaded"):
        Scorer.load(tmp_path / "scorer")


# --- regions -------------------------------------------------------------------------------------------------


class ByColour(Scorer):
    """Reads and sees the share of red, green and blue instead of asking a network."""

    def __init__(self):
        super().__init__(None, None, None, 1.0, ("grey",))

    scale = 20.0

    def see(self, pictures):
        values = np.stack([p.reshape(-1, 3).mean(0) for p in pictures]) + 1e-3
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    def read(self, prompts):
        table = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "grey": (0.58, 0.58, 0.58)}
        return np.array([table[prompt] for prompt in prompts])


def _region(prompt, box=None, mask=None):
    return Region(name=prompt, prompt=prompt, box=box, mask=mask)


def test_each_region_is_asked_for_its_own_part():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32, 0] = picture[:, 32:, 2] = 255
    left, right = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
    right_ones = ByColour().region_scores(picture, [_region("red", left), _region("blue", right)])
    swapped = ByColour().region_scores(picture, [_region("blue", left), _region("red", right)])
    assert min(right_ones.values()) > 0.9 > 0.1 > max(swapped.values())


def test_a_region_is_judged_where_no_later_one_covers_it():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32, 0] = picture[:, 32:, 2] = 255
    whole, right = (0.0, 0.0, 1.0, 1.0), (0.5, 0.0, 1.0, 1.0)
    scores = ByColour().region_scores(picture, [_region("red", whole), _region("blue", right)])
    assert min(scores.values()) > 0.9
    assert set(ByColour().region_scores(picture, [_region("red", right), _region("blue", whole)])) == {2}


def test_equal_prompts_do_not_compete_and_a_dot_is_enough():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = 255
    dot = np.zeros((64, 64), bool)
    dot[63, 63] = True
    regions = [_region("red", (0.0, 0.0, 0.4, 1.0)), _region("red", mask=Mask.of(dot))]
    assert min(ByColour().region_scores(picture, regions).values()) > 0.9


def test_scores_of_the_real_kind_are_shares(scorer, picture):
    scores = scorer.region_scores(picture, [_region("a red sofa", (0.1, 0.1, 0.4, 0.9)),
                                            _region("a tree", (0.5, 0.2, 0.9, 0.8))])
    assert set(scores) == {1, 2} and all(0 <= value <= 1 for value in scores.values())
    assert scorer.neutral != NEUTRAL and "a meadow" in scorer.neutral


# --- in the studio -------------------------------------------------------------------------------------------


@pytest.fixture()
def weights(tmp_path):
    """The shipped weights without their scorer."""
    for part in WEIGHTS.iterdir():
        if part.name != "scorer":
            (tmp_path / part.name).symlink_to(part)
    return tmp_path


def _run(weights, **changes):
    engine = Engine(Catalogue(extra=str(weights)), "cpu")
    request = Request(prompt="a meadow", model=str(weights), steps=2, batch=2,
                      regions=(_region("a red sofa", (0.0, 0.0, 0.5, 1.0)),)).replace(**changes)
    done = list(engine.generate(request, Preview("none")))[-1]
    assert isinstance(done, Done)
    return done.pictures, engine.scores(done, request)


@needs_weights
def test_a_run_has_scores_where_the_model_brings_a_scorer_and_the_same_pictures_without(weights, folder):
    plain, none = _run(weights)
    (weights / "scorer").symlink_to(folder)
    pictures, scores = _run(weights)
    assert none == [] and [set(one) for one in scores] == [{1}, {1}]
    assert all(np.array_equal(a, b) for a, b in zip(plain, pictures, strict=True))
    assert _run(weights, regions=())[1] == []


def test_a_job_keeps_the_scores_of_its_pictures(tmp_path):
    jobs = Jobs(lambda: FakeRunner(0), tmp_path / "outputs", tmp_path / "frames")
    regions = (_region("a cat", (0.0, 0.0, 0.5, 1.0)), _region("a dog", (0.5, 0.0, 1.0, 1.0)))
    with_regions = jobs.submit(Request(width=64, height=64, steps=1, batch=2, regions=regions))
    without = jobs.submit(Request(width=64, height=64, steps=1))
    assert jobs.wait(with_regions, 20).scores == [{1: 1.0, 2: 0.5}] * 2 and jobs.wait(without, 20).scores == []
    jobs.close()


@needs_weights
def test_a_broken_scorer_costs_no_picture(weights, tmp_path_factory, caplog):
    broken = tmp_path_factory.mktemp("broken")
    (broken / "config.json").write_text("{}")
    (weights / "scorer").symlink_to(broken)
    assert _run(weights)[1] == [] and "could not be loaded" in caplog.text


@pytest.mark.skipif(not (WEIGHTS / "scorer").exists(), reason="no scorer exported yet")
def test_the_shipped_scorer_tells_things_and_colours_apart():
    """What the card says of it, on fewer renders than there."""
    from core.storybook.evaluate import Rate, retrieval

    recorded = json.loads((WEIGHTS / "figures.json").read_text())["figures"]
    for name, rate in retrieval(Scorer.load(WEIGHTS / "scorer"), 40).items():
        assert isinstance(rate, Rate) and rate.value > 0.25  # by chance 0.06 and 0.08
        assert rate.interval()[1] >= recorded[name]
