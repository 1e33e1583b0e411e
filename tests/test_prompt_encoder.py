"""Embeddings of prompts against numpy on the text encoder's raw output, and what they were before there was a grammar.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from core.engine import Engine
from core.errors import BadRequest
from core.models.catalogue import STORYBOOK
from core.prompts.counting import Count, counter_of
from core.prompts.encoder import PromptEncoder, weighted
from core.request import MAX_CLIP_SKIP
from tests.lines import assert_one_line

PLAIN = ["", "a red boat", "a red boat, on the sea: calm", "two\nlines", "红色的船", "don't <stop> {now} 10:30",
         "A  B"]


@pytest.fixture(scope="module", params=["eps", "storybook"])
def encoder(engine: Engine, request: pytest.FixtureRequest) -> PromptEncoder:
    loaded = engine.load(request.param, "fp32").encode_prompt
    network = copy.deepcopy(loaded.text_encoder)
    norm = getattr(network, "text_model", network).final_layer_norm
    if bool((norm.weight == 1).all()):  # as if trained: else the mean of its output is zero, with nothing to restore
        generator = torch.Generator().manual_seed(0)
        norm.weight.data = torch.rand(norm.weight.shape, generator=generator) + 0.5
        norm.bias.data = torch.randn(norm.bias.shape, generator=generator) * 0.3 + 0.2
    return PromptEncoder(loaded.tokenizer, network)


def states(encoder: PromptEncoder, ids: list[int]) -> list[np.ndarray]:
    """The raw outputs of all layers for one chunk, each (tokens, width) float64; the first is the embedding."""
    tokenizer, missing = encoder.tokenizer, encoder.room - len(ids)
    row = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * missing]
    with torch.inference_mode():
        found = encoder.text_encoder(torch.tensor([row]), output_hidden_states=True).hidden_states
    return [state[0].double().numpy() for state in found]


def normed(encoder: PromptEncoder, state: np.ndarray) -> np.ndarray:
    """The final layer norm, by its formula."""
    norm = getattr(encoder.text_encoder, "text_model", encoder.text_encoder).final_layer_norm
    centred = state - state.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + norm.eps)
    return scaled * norm.weight.double().numpy() + norm.bias.double().numpy()


def emphasised(z: np.ndarray, weights: list[float]) -> np.ndarray:
    full = np.ones(len(z))
    full[1:1 + len(weights)] = weights
    weighed = z * full[:, None]
    return weighed * (z.mean() / weighed.mean())


def ids_of(encoder: PromptEncoder, text: str) -> list[int]:
    return list(encoder.tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("prompt", PLAIN)
def test_a_plain_prompt_is_encoded_bit_for_bit_as_by_diffusers(encoder: PromptEncoder, prompt: str) -> None:
    tokenizer = encoder.tokenizer
    tokens = tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt",
                       max_length=tokenizer.model_max_length)
    with torch.inference_mode():
        expected = encoder.text_encoder(tokens.input_ids)[0]
    assert torch.equal(encoder(prompt), expected)


def test_emphasis_multiplies_and_brings_the_mean_back(encoder: PromptEncoder) -> None:
    words = ("a ", 1.0), ("red", 1.3), (" boat ", 1.1), ("sea", 0.5)
    ids = [ids_of(encoder, text) for text, _ in words]
    weights = [weight for part, (_, weight) in zip(ids, words, strict=True) for _ in part]
    z = normed(encoder, states(encoder, sum(ids, []))[-1])
    expected = emphasised(z, weights)
    found = encoder("a (red:1.3)( boat )(sea:0.5)")[0].numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()  # float32 through a few layers
    assert found.mean() == pytest.approx(z.mean(), abs=1e-5)
    assert np.abs(found - z).max() > 0.05 * np.abs(z).max()


@pytest.mark.parametrize("brackets", ["a (red:1.0) boat", "(a red boat:1)", r"a (red:1.25) boat"])
def test_a_weight_of_one_changes_the_words_at_most_never_their_embedding(encoder: PromptEncoder, brackets: str) -> None:
    plain = torch.equal(encoder(brackets), encoder("a red boat"))
    assert plain is ("1.25" not in brackets)


def test_a_long_prompt_is_encoded_chunk_by_chunk_and_nothing_is_cut(encoder: PromptEncoder) -> None:
    prompt = "red boat, " * 40 + "(blue sofa:1.4) on the sea"
    chunks = encoder.chunks(prompt)
    assert len(chunks) > 2 and max(len(chunk) for chunk in chunks) <= encoder.room
    ids = [[token.id for token in chunk] for chunk in chunks]
    assert sum(ids, []) == ids_of(encoder, "red boat, " * 40) + ids_of(encoder, "blue sofa") + ids_of(
        encoder, "on the sea")
    found = encoder(prompt)
    assert found.shape[:2] == (1, len(chunks) * (encoder.room + 2))
    for k, chunk in enumerate(chunks):
        z = normed(encoder, states(encoder, ids[k])[-1])
        expected = emphasised(z, [token.weight for token in chunk])
        part = found[0, k * (encoder.room + 2):(k + 1) * (encoder.room + 2)].numpy()
        assert np.abs(part - expected).max() < 1e-4 * np.abs(expected).max()


def test_break_puts_each_half_into_a_chunk_of_its_own(encoder: PromptEncoder) -> None:
    halves = torch.cat([encoder("a red boat"), encoder("(blue:1.2) sea")], 1)
    assert torch.equal(encoder("a red boat BREAK (blue:1.2) sea"), halves)


def test_clip_skip_takes_an_earlier_layer_behind_the_final_norm(encoder: PromptEncoder) -> None:
    layers = states(encoder, ids_of(encoder, "a red boat"))
    for skip in (1, 2):
        expected = normed(encoder, layers[-skip])
        assert np.abs(encoder("a red boat", skip)[0].numpy() - expected).max() < 1e-4 * np.abs(expected).max()
    assert not torch.equal(encoder("a red boat", 2), encoder("a red boat", 1))
    with pytest.raises(BadRequest, match="has 2 layers: choose from 1 to 2") as told:
        encoder("a red boat", MAX_CLIP_SKIP)
    assert_one_line(told.value)


def test_a_mean_that_is_but_rounding_is_not_restored() -> None:
    z = torch.randn(1, 77, 64, generator=torch.Generator().manual_seed(0))
    z = torch.nn.functional.layer_norm(z, (64,))
    weights = torch.ones(77)
    weights[3:9] = 1.7
    assert torch.equal(weighted(z, weights), z * weights[None, :, None])
    assert torch.isfinite(weighted(torch.zeros(1, 77, 64), weights)).all()


def test_weights_are_applied_in_full_precision_whatever_the_text_encoders() -> None:
    z = torch.randn(1, 77, 64, generator=torch.Generator().manual_seed(0)) + 0.1
    weights = torch.ones(77)
    weights[3:9] = 1.7
    low = weighted(z.bfloat16(), weights)
    assert low.dtype == torch.bfloat16
    assert torch.equal(low, weighted(z.bfloat16().float(), weights).bfloat16())


# -- counting, by the tokenizer alone


@pytest.mark.parametrize("name", ["eps", "storybook"])
@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json and merges.txt"])
def test_the_counter_cuts_a_prompt_as_the_encoder_does(engine: Engine, tmp_path: Path, name: str, files: str) -> None:
    encoder, info = engine.load(name, "fp32").encode_prompt, engine.catalogue.get(name)
    folder = tmp_path / "tokenizer"
    shutil.copytree(Path(info.path) / "tokenizer", folder)
    if files != "tokenizer.json":
        _older(folder)
    counter = counter_of(tmp_path, info.tokens)
    rng = random.Random(1)
    texts = [*PLAIN, "<|endoftext|> a", "ÀÉ ﬁ Ω …", "a" * 300, "(red boat, :1.2) " * 40, "a BREAK b"]
    texts += ["".join(rng.choices("abc é,.:!?'🐱0123 \n", k=120)) for _ in range(50)]
    for text in texts:
        assert counter.chunks(text) == encoder.chunks(text), text


def _older(folder: Path) -> None:
    """The layout before tokenizer.json."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    assert CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def test_tokens_are_counted_over_the_longest_text_of_the_run() -> None:
    counter = counter_of(STORYBOOK, 40)
    assert counter.count("", 20) == Count(0, 38)
    assert counter.count("a (red:1.2) boat", 20) == Count(3, 38)
    assert counter.count("a [boat:red sofa on the sea:0.5]", 20) == Count(6, 38)
    assert counter.count("a AND a red sofa AND a boat", 20) == Count(3, 38)
    assert counter.count("a AND a red sofa AND a boat", 20, joined=False) == Count(8, 38)
    long = counter.count("red boat, " * 13 + "a blue sofa", 20)
    assert long == Count(42, 76, ("boat, red boat",))
    assert counter.count("a boat BREAK b BREAK the sea", 20) == Count(78, 114, ("a boat", "b"))


def test_counting_and_checking_need_no_torch_and_a_broken_tokenizer_no_counter(tmp_path: Path) -> None:
    code = ("import sys; from core.checks import check; from core.models.catalogue import STORYBOOK, describe\n"
            "from core.request import Request\nfrom core.prompts.counting import counter_of\n"
            "info = describe('storybook', STORYBOOK)\ncheck(Request(prompt='a (boat:1.2)'), info)\n"
            "print(counter_of(info.path, info.tokens).count('a boat', 20).tokens)\n"
            "print('torch' in sys.modules, 'transformers' in sys.modules)")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=Path(__file__).parent.parent)
    assert ran.stdout.split() == ["2", "False", "False"]
    assert counter_of(tmp_path, 40) is None
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{")
    assert counter_of(tmp_path, 40) is None
