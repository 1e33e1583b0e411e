"""LoRAs in the network: diffusers' pictures, sums computed by hand, and a model that stays what it was."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from core.engine import Engine
from core.errors import BadRequest
from core.layout import layout_of, predicted_evaluations
from core.models import adapters
from core.models.catalogue import Catalogue
from core.prompts.networks import Lora
from core.request import Region, Request
from core.samplers import SAMPLERS
from core.samplers.build import build
from core.trajectory import Past, Trajectory
from tests.lines import assert_one_line
from tests.loras import kohya, layers, matrices
from tests.originals import FAMILIES, PROMPT, ask, finish
from tests.test_course import resumed, run, same_run
from tests.test_engine import watched

Merged = Callable[..., Any]


def pipeline(checkpoints: Path, family: str) -> Any:
    kind = diffusers.StableDiffusionXLPipeline if family == "sdxl" else diffusers.StableDiffusionPipeline
    pipe = kind.from_pretrained(checkpoints / f"{family}-folder", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipes(checkpoints: Path) -> dict[str, Any]:
    """diffusers' pipelines; beside their checkpoints two LoRAs for each."""
    found = {family: pipeline(checkpoints, family) for family in FAMILIES}
    for family, pipe in found.items():
        kohya(pipe, checkpoints / f"lora/{family}-one.safetensors", seed=1, sgm=family == "sdxl")
        kohya(pipe, checkpoints / f"lora/more/{family}-two.safetensors", rank=8, alpha=None, seed=2)
    return found


@pytest.fixture(scope="module")
def engine(checkpoints: Path, pipes: dict[str, Any]) -> Engine:
    return Engine(Catalogue(checkpoints), "cpu")


def theirs(pipe: Any) -> np.ndarray:
    return pipe(PROMPT, num_inference_steps=4, guidance_scale=5.0, width=128, height=64, output_type="latent",
                negative_prompt="blurry", generator=torch.Generator("cpu").manual_seed(3)).images.numpy()


def ours(engine: Engine, family: str, tags: str = "") -> np.ndarray:
    return finish(engine, ask(f"{family}-file", prompt=PROMPT + tags, negative_prompt="blurry")).latents


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_the_picture_is_that_of_diffusers_pipeline_and_without_a_lora_the_one_of_before(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path, family: str) -> None:
    pipe = copy.deepcopy(pipes[family])
    before = ours(engine, family)
    pipe.load_lora_weights(str(checkpoints / f"lora/{family}-one.safetensors"), adapter_name="one")
    pipe.load_lora_weights(str(checkpoints / f"lora/more/{family}-two.safetensors"), adapter_name="two")
    texts = ["text_encoder", "text_encoder_2"][:1 + (family == "sdxl")]
    cases: list[tuple[str, dict[str, Any]]] = [
        (f"<lora:{family}-one:0.7>", {"one": 0.7}),
        (f"<lora:{family}-one:0.3:0.8> <lyco:{family}-two:-0.5>", {"one": {"unet": 0.8} | dict.fromkeys(texts, 0.3),
                                                                   "two": -0.5}),
        (f"<lora:{family}-two:te=0:unet=1>", {"two": {"unet": 1.0} | dict.fromkeys(texts, 0.0)})]
    for tags, scales in cases:
        pipe.set_adapters(list(scales), list(scales.values()))
        wanted, found = theirs(pipe), ours(engine, family, tags)
        # as without a LoRA: float32 in another order, 1e-4 of what the latents are
        assert np.abs(found - wanted).max() < 1e-4 * float(wanted.std()), tags
        assert np.abs(found - before).max() > 0.1 * float(wanted.std())
    assert np.array_equal(ours(engine, family), before)
    assert np.array_equal(ours(engine, family, f"<lora:{family}-one:0>"), before)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_what_diffusers_and_peft_saved_is_read_with_its_alphas(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path, rslora: bool) -> None:
    pipe = copy.deepcopy(pipes["sd1"])
    torch.manual_seed(5)
    config = {"r": 4, "lora_alpha": 6, "use_rslora": rslora, "init_lora_weights": False}
    pipe.unet.add_adapter(LoraConfig(**config, target_modules=["to_q", "to_v", "ff.net.2"], rank_pattern={"to_v": 2},
                                     alpha_pattern={"to_v": 3}))
    pipe.text_encoder.add_adapter(LoraConfig(**config, target_modules=["q_proj", "fc1"]))
    parts = {name: get_peft_model_state_dict(getattr(pipe, name)) for name in ("unet", "text_encoder")}
    pipe.save_lora_weights(checkpoints / "lora", unet_lora_layers=parts["unet"],
                           text_encoder_lora_layers=parts["text_encoder"], weight_name=f"saved-{rslora}.safetensors",
                           **_collate_lora_metadata({"unet": pipe.unet, "text_encoder": pipe.text_encoder}))
    wanted, found = theirs(pipe), ours(engine, "sd1", f"<lora:saved-{rslora}:1>")
    assert np.abs(found - wanted).max() < 1e-4 * float(wanted.std())


# -- by hand


SOME = re.compile(r"(attn[12]\.to_[qkv]|ff\.net\.2|proj_in|resnets\.\d\.conv1)$")


def merged(part: Any, weights: dict[str, Any], scale: float, begin: str) -> Any:
    """A network whose weights are W + scale * alpha / rank * up @ down: the LoRA's definition (arXiv:2106.09685)."""
    part = copy.deepcopy(part)
    for name, module in part.named_modules():
        key = begin + name.replace(".", "_")
        if f"{key}.lora_up.weight" not in weights:
            continue
        up, down = (weights[f"{key}.lora_{which}.weight"].double() for which in ("up", "down"))
        change = up.flatten(1) @ down.flatten(1)
        factor = scale * float(weights.get(f"{key}.alpha", down.shape[0])) / down.shape[0]
        module.weight.data += (factor * change).reshape(module.weight.shape).float()
    return part


def test_every_layers_own_rank_and_alpha_counts_and_convolutions_too(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path) -> None:
    path = kohya(pipes["sd1"], checkpoints / "lora/odd.safetensors", convolutions=True, seed=3)
    weights, rng = load_file(path), torch.Generator().manual_seed(4)
    for k, (name, module) in enumerate(layers(pipes["sd1"].unet, SOME).items()):
        key, rank = "lora_unet_" + name.replace(".", "_"), 1 + k % 5
        down, up = matrices(module, rank, rng)
        weights[f"{key}.lora_down.weight"], weights[f"{key}.lora_up.weight"] = down.half(), up.half()
        weights[f"{key}.alpha"] = torch.tensor(0.5 + k % 3)
        if k % 7 == 0:
            del weights[f"{key}.alpha"]
    save_file(weights, path)
    model = engine.load("sd1-file", "fp32")
    x, t = torch.randn(2, 4, 8, 16, generator=rng), torch.tensor(500)
    model.adapters.fetch({"odd": path})
    with torch.inference_mode():
        plain = model.read("a boat", 1, ())
        text = model.read("a boat", 1, (Lora("odd", 0.5, 0.7),))
        found = model.predict(x, t, text.repeat(2, 1, 1))
        model.adapt(())
        encoder = merged(pipes["sd1"].text_encoder, weights, 0.5, "lora_te_text_model_")
        ids = model.encode_prompt.tokenizer("a boat", padding="max_length", return_tensors="pt").input_ids
        assert torch.allclose(text, encoder(ids)[0], atol=1e-4)
        wanted = merged(pipes["sd1"].unet, weights, 0.7, "lora_unet_")(x, t, text.repeat(2, 1, 1)).sample
        assert not torch.allclose(text, plain, atol=1e-2)
    assert (found - wanted).abs().max() < 1e-4 * wanted.std()


def stepped(pipe: Any, request: Request, asked: list[dict[str, Any]], weights: list[torch.Tensor]) -> np.ndarray:
    """MultiDiffusion by hand: every region's own guided pass through a network with its LoRAs merged in, fused."""
    euler = SAMPLERS["Euler"]
    scheduler = build(euler, euler.automatic, request.steps, dict(pipe.scheduler.config), seed=3)
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator("cpu").manual_seed(request.seed))
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        seen, fused = scheduler.scale_model_input(x, t), torch.zeros_like(x)
        for one, weight in zip(asked, weights, strict=True):
            away, towards = (one["unet"](seen, t, one[name]).sample for name in ("negative", "prompt"))
            fused += weight * (away + request.guidance * (towards - away))
        x = scheduler.step(fused, t, x, return_dict=False)[0]
    return x.numpy()


@pytest.mark.parametrize("common, own, asks", [
    ({"one": 0.6}, {}, 4),  # the whole picture's, in every region: the negative pass is shared as ever
    ({}, {"one": 0.8}, 5),  # one region's own: its negative pass is another network's
    ({"one": 0.6}, {"two": -0.4}, 5), ({"one": 0.6}, {"one": 0, "two": 0.5}, 5)])
def test_each_region_is_computed_by_the_network_with_its_loras(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path, common: dict[str, float], own: dict[str, float],
        asks: int) -> None:
    def tags(scales: dict[str, float]) -> str:
        return "".join(f" <lora:sd1-{name}:{scale}>" for name, scale in scales.items())

    boxes = [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 0.5)]
    prompts = ["the sea", "a red boat", "a blue sofa"]
    request = ask("sd1-file", prompt=prompts[0] + tags(common), negative_prompt="blurry", bootstrap=0.0, steps=3,
                  height=128, regions=(Region(name="a", prompt=prompts[1] + tags(own), box=boxes[0]),
                                       Region(name="b", prompt=tags({}) + prompts[2], box=boxes[1])))
    done = finish(engine, request)
    assert done.evaluations == 3 * asks == predicted_evaluations(request, engine.catalogue.get("sd1-file"))
    pipe, files = pipes["sd1"], {"one": "lora/sd1-one", "two": "lora/more/sd1-two"}
    loaded = {name: load_file(checkpoints / f"{path}.safetensors") for name, path in files.items()}
    asked = []
    with torch.inference_mode():
        for prompt, scales in zip(prompts, (common, common | own, common), strict=True):
            unet, encoder = pipe.unet, pipe.text_encoder
            for name, scale in scales.items():
                unet = merged(unet, loaded[name], scale, "lora_unet_")
                encoder = merged(encoder, loaded[name], scale, "lora_te_text_model_")
            read = {word: encoder(pipe.tokenizer(text, padding="max_length", return_tensors="pt").input_ids)[0]
                    for word, text in (("prompt", prompt.strip()), ("negative", "blurry"))}
            asked.append({"unet": unet, **read})
        weights = [torch.as_tensor(weight)[None, None] for weight in layout_of(request, 8).weights]
        wanted = stepped(pipe, request, asked, weights)
    assert np.abs(done.latents - wanted).max() < 2e-4 * float(wanted.std())  # three guided passes a step more


# -- what does not change, and what is not read again


def test_a_weight_is_changed_without_reading_the_file_and_old_ones_go(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(3):
        kohya(pipes["sd1"], checkpoints / f"lora/many-{k}.safetensors", seed=10 + k, rank=1, text=False)
    read, load = [], adapters.Adapters._converted
    monkeypatch.setattr(adapters.Adapters, "_converted", lambda self, path: read.append(path.stem) or load(self, path))
    monkeypatch.setattr(adapters, "KEPT", 2)
    model = engine.load("sd1-file", "fp32")
    model.adapters.fetch({})
    first = ours(engine, "sd1", "<lora:many-0:0.5>")
    assert not np.array_equal(first, ours(engine, "sd1", "<lora:many-0:0.6>"))
    ours(engine, "sd1", "<lora:many-1:1><lora:many-0:1>")
    assert read == ["many-0", "many-1"] and engine.load("sd1-file", "fp32") is model
    assert np.array_equal(first, ours(engine, "sd1", "<lora:many-0:0.5>"))  # whatever else is in memory
    ours(engine, "sd1", "<lora:many-2:1>")
    ours(engine, "sd1", "<lora:many-0:1>")
    assert read == ["many-0", "many-1", "many-2"]
    ours(engine, "sd1", "<lora:many-1:1>")
    assert read[3:] == ["many-1"]
    kohya(pipes["sd1"], checkpoints / "lora/many-1.safetensors", seed=99, rank=2, text=False)  # another file now
    ours(engine, "sd1", "<lora:many-1:1>")
    assert read[4:] == ["many-1"]


def test_a_run_with_loras_is_resumed_in_the_same_bits(
        engine: Engine, tmp_path: Path, pipes: dict[str, Any]) -> None:
    request = ask("sd1-file", prompt="a boat <lora:sd1-one:0.7>", height=128, sampler="Euler a", regions=(
        Region(name="x", prompt="the sea <lora:sd1-two:0.5>", box=(0, 0, 0.5, 1)),))
    whole = run(engine, request, tmp_path / "whole.safetensors")
    run(engine, request, tmp_path / "part.safetensors", stop_after=2)
    with watched(engine, model=request.model) as forwards:
        same_run(whole, resumed(engine, tmp_path / "part.safetensors"))
    assert sum(forwards) == whole[1].evaluations - whole[0][1].evaluations
    past = Past.fork(Trajectory(tmp_path / "whole.safetensors"), 2, {"prompt": "a boat"})
    *_, done = engine.generate(past.request, past=past)
    assert not np.array_equal(done.latents, whole[1].latents)


# -- what is refused leaves the model as it was


def break_(checkpoints: Path, name: str, change: Callable[[dict[str, Any]], Any], source: str = "sd1-one") -> str:
    weights = load_file(checkpoints / f"lora/{source}.safetensors")
    change(weights)
    save_file({key: value.contiguous() for key, value in weights.items()}, checkpoints / f"lora/{name}.safetensors")
    return name


LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize("name, change, says", [
    ("strange-layer", lambda w: w.update({LAYER.replace("blocks_0", "blocks_7", 1) + end: w[LAYER + end] + 0 for end
                                          in (".lora_up.weight", ".lora_down.weight")}), "no down_blocks.7"),
    ("strange-size", lambda w: w.update({f"{LAYER}.lora_up.weight": torch.zeros(7, 4)}), "has another size"),
    ("one-matrix", lambda w: w.pop(f"{LAYER}.lora_up.weight"), "could not be loaded"),
    ("two-ranks", lambda w: w.update({f"{LAYER}.lora_up.weight": torch.zeros(32, 3)}), "do not belong together"),
    ("loha", lambda w: w.update({f"{LAYER}.hada_w1_a": torch.zeros(4, 4)}), "is a LoHa"),
    ("dora", lambda w: w.update({f"{LAYER}.dora_scale": torch.zeros(4, 1)}), "is a DoRA"),
    ("odd-tensor", lambda w: w.update({"x.bias": torch.zeros(4)}), "no plain LoRA does"),
    ("flux", lambda w: w.update({"lora_unet_double_blocks_0_x.lora_up.weight": torch.zeros(4, 4)}), "Flux")])
def test_what_does_not_fit_is_one_line_and_never_half_applied(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path, name: str, change: Any, says: str) -> None:
    break_(checkpoints, name, change)
    model = engine.load("sd1-file", "fp32")
    before = ours(engine, "sd1"), ours(engine, "sd1", "<lora:sd1-one:0.7>")
    with pytest.raises(BadRequest, match=says) as told:
        ours(engine, "sd1", f"<lora:{name}:1>")
    assert_one_line(told.value, longest=400)
    assert told.value.field == "prompt" and engine.load("sd1-file", "fp32") is model
    assert np.array_equal(ours(engine, "sd1"), before[0])
    assert np.array_equal(ours(engine, "sd1", "<lora:sd1-one:0.7>"), before[1])


@pytest.mark.parametrize("family, other", [("sd1", "sd2"), ("sd1", "sdxl"), ("sd2", "sdxl"), ("sdxl", "sd1")])
def test_a_lora_of_another_family_is_told_before_the_run_and_by_its_layers_alone(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path, family: str, other: str) -> None:
    model = engine.load(f"{family}-file", "fp32")
    before = ours(engine, family)
    with pytest.raises(BadRequest, match=f"'{other}-one' is made for .*{family}-file is Stable Diffusion") as told:
        ours(engine, family, f"<lora:{other}-one:1>")
    assert_one_line(told.value)
    with pytest.raises(BadRequest, match=f"{other}-one.*is made for another family"):
        model.adapters.fetch({"x": checkpoints / f"lora/{other}-one.safetensors"})
    assert np.array_equal(ours(engine, family), before)


def test_a_lora_that_fails_in_the_middle_leaves_nothing_behind(
        engine: Engine, pipes: dict[str, Any], checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, put_in = ours(engine, "sd1", "<lora:sd1-two:0.7>"), adapters.Adapters._put_in

    def fails(self: Any, k: int, *rest: Any) -> None:
        put_in(self, k, *rest)
        if k == 1:
            raise RuntimeError("out of luck")

    path = kohya(pipes["sd1"], checkpoints / "lora/late.safetensors", seed=20)
    monkeypatch.setattr(adapters.Adapters, "_put_in", fails)
    with pytest.raises(BadRequest, match="late.safetensors could not be loaded .out of luck"):
        ours(engine, "sd1", "<lora:late:1>")
    assert np.array_equal(ours(engine, "sd1", "<lora:sd1-two:0.7>"), before)
    parts = engine.load("sd1-file", "fp32").adapters.parts
    assert path.is_file() and [len(part.peft_config) for part in parts] == \
        [len({name for module in part.modules() for name in getattr(module, "lora_A", {})}) for part in parts]


def test_weights_are_those_of_the_definition() -> None:
    found = adapters._scaled({"unet.x.lora_A.weight": torch.ones(4, 2), "unet.x.lora_B.weight": torch.ones(3, 4)},
                             {"unet.lora_alpha": 8, "unet.alpha_pattern": {"x": 6}, "unet.use_rslora": True})
    assert torch.allclose(found["unet.x.lora_B.weight"], torch.full((3, 4), 6 / math.sqrt(4)))
