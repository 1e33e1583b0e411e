"""Which family a single file is of, what it predicts, and what is refused: from its header alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.engine import Engine
from core.errors import ModelError
from core.models.catalogue import Catalogue
from tests.lines import assert_one_line
from tests.originals import ask, finish


def bare(weights: dict[str, Any], *prefixes: str) -> None:
    for name in [name for name in weights if name.startswith(prefixes)]:
        del weights[name]


def widen(channels: int) -> Callable[[dict[str, Any]], None]:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    return lambda weights: weights.update({name: torch.zeros(weights[name].shape[0], channels, 3, 3)})


def only(**tensors: tuple[int, ...]) -> Callable[[dict[str, Any]], None]:
    def change(weights: dict[str, Any]) -> None:
        weights.clear()
        weights.update({name.replace("__", "."): torch.zeros(shape) for name, shape in tensors.items()})

    return change


REFUSED: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "inpainting": ("sd1", widen(9), "inpainting"),
    "InstructPix2Pix": ("sd1", widen(8), "InstructPix2Pix"),
    "depth": ("sd2", widen(5), "depth"),
    "upscaler": ("sd2", widen(7), "upscaler"),
    "inpainting XL": ("sdxl", widen(9), "inpainting"),
    "Playground": ("sdxl", lambda w: w.update({"edm_mean": torch.zeros(4)}), "Playground"),
    "unCLIP": ("sd2", lambda w: w.update({"model.diffusion_model.label_emb.0.0.weight": torch.zeros(2, 2)}), "unCLIP"),
    "no text encoder": ("sd1", lambda w: bare(w, "cond_stage"), "lacks its text encoder"),
    "no VAE": ("sd1", lambda w: bare(w, "first_stage"), "lacks its VAE"),
    "VAE alone": ("sd1", lambda w: bare(w, "model", "cond"), "is a VAE.*MODEL.mine"),
    "LoRA": ("sd1", only(lora_unet_down_blocks_0_attentions_0__lora_up__weight=(4, 4)), "is a LoRA"),
    "ControlNet": ("sd1", only(control_model__input_blocks__0__weight=(4, 4)), "ControlNet"),
    "textual inversion": ("sd1", only(emb_params=(4, 768)), "textual inversion"),
    "Flux": ("sd1", only(double_blocks__0__img_attn__weight=(4, 4)), "Flux"),
    "SD 3": ("sd1", only(model__diffusion_model__joint_blocks__0__x=(4,)), "Stable Diffusion 3"),
    "U-Net alone": ("sd1", only(down_blocks__0__resnets__0__norm1__weight=(4,)), "U-Net by itself"),
    "text encoder alone": ("sd1", only(text_model__embeddings__weight=(4,)), "text encoder by itself"),
    "something else": ("sd1", only(layers__0__weight=(4, 4)), "no checkpoint that is known"),
    "a U-Net of another build": ("sd1", lambda w: bare(w, "model.diffusion_model.input_blocks.3."), "build that"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_painted_with_is_one_line_from_its_header_alone(
        mine: Callable[..., Path], what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, change, says = REFUSED[what]
    path = mine(family, change)
    monkeypatch.setattr("core.models.original._weights", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match=says) as told:
        Catalogue(path.parent).get("mine")
    assert_one_line(told.value)
    assert "mine" in str(told.value)


@pytest.mark.parametrize("name, other", [
    ("model.diffusion_model.input_blocks.3.0.in_layers.2.bias", None),
    ("first_stage_model.decoder.conv_out.bias", None), ("cond_stage_model.transformer.text_model.final_layer_norm.bias",
                                                        None),
    ("first_stage_model.decoder.mid.block_1.norm1.weight", (7,))])
def test_a_file_that_lacks_a_weight_is_never_filled_with_random_numbers(
        mine: Callable[..., Path], name: str, other: tuple[int, ...] | None) -> None:
    path = mine("sd1", lambda w: w.pop(name) if other is None else w.update({name: torch.zeros(other)}))
    with pytest.raises(ModelError, match="mine could not be loaded.*(lacks 1 of its weights|another shape)") as told:
        Engine(Catalogue(path.parent), "cpu").load("mine", "fp32")
    assert_one_line(told.value)


def test_a_link_that_leads_out_of_the_models_folder_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    secret = shutil.copy(checkpoints / "sd1-file.safetensors", tmp_path / "secret.safetensors")
    (tmp_path / "models" / "mine.safetensors").symlink_to(secret)
    shutil.copy(secret, tmp_path / "models" / "inside.safetensors")
    (tmp_path / "models" / "alias.safetensors").symlink_to(tmp_path / "models" / "inside.safetensors")
    catalogue = Catalogue(tmp_path / "models")
    with pytest.raises(ModelError, match="leads out of the models folder") as told:
        catalogue.get("mine")
    assert_one_line(told.value)
    assert catalogue.get("alias").kind == "Stable Diffusion 1"
    (tmp_path / "linked").symlink_to(tmp_path / "models")  # the folder itself may be anywhere
    assert Catalogue(tmp_path / "linked").get("inside").kind == "Stable Diffusion 1"


def test_the_model_in_memory_stays_when_the_next_one_is_broken(mine: Callable[..., Path], checkpoints: Path) -> None:
    path = mine("sd1")
    shutil.copytree(checkpoints / "sdxl-folder", path.parent / "folder")
    engine = Engine(Catalogue(path.parent), "cpu")
    model = engine.load("mine", "fp32")
    broken = path.parent / "folder" / "unet" / "diffusion_pytorch_model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    (path.parent / "empty.safetensors").touch()
    for name in ("folder", "empty", "nowhere"):
        with pytest.raises(ModelError):
            engine.load(name, "fp32")
        assert engine.load("mine", "fp32") is model


HINTS: dict[str, tuple[str, dict[str, str], dict[str, str], bool, tuple[str, int]]] = {
    # family, files beside it, the header's notes, a marker tensor -> prediction, size
    "SD 2 without a hint": ("sd2", {}, {}, False, ("epsilon", 512)),
    "SD 1 without a hint": ("sd1", {}, {}, False, ("epsilon", 512)),
    "a yaml": ("sd2", {"mine.yaml": 'model:\n  params:\n    parameterization: "v"\n'}, {}, False,
               ("v_prediction", 768)),
    "a yaml of noise": ("sd2", {"mine.yaml": "    parameterization: eps"}, {}, True, ("epsilon", 512)),
    "a json": ("sd2", {"mine.json": '{"prediction_type": "v_prediction", "size": 640}'}, {}, False,
               ("v_prediction", 640)),
    "a json of another program": ("sd2", {"mine.json": '{"sd version": "SD2", "notes": "x"}'}, {}, False,
                                  ("epsilon", 512)),
    "the notes": ("sd2", {}, {"modelspec.prediction_type": "v", "modelspec.resolution": "768x768"}, False,
                  ("v_prediction", 768)),
    "the notes' architecture": ("sd2", {}, {"modelspec.architecture": "stable-diffusion-v2-768-v"}, False,
                                ("v_prediction", 768)),
    "a marker": ("sdxl", {}, {}, True, ("v_prediction", 1024)),
    "json before the notes": ("sd2", {"mine.json": '{"prediction_type": "epsilon"}'},
                              {"modelspec.prediction_type": "v"}, True, ("epsilon", 512)),
}


@pytest.mark.parametrize("what", HINTS)
def test_prediction_and_size_come_from_the_first_that_says_something(mine: Callable[..., Path], what: str) -> None:
    family, beside, notes, marked, expected = HINTS[what]

    def mark(weights: dict[str, Any]) -> None:
        weights.pop("v_pred", None)
        if marked:
            weights["v_pred"] = torch.zeros(1)

    path = mine(family, mark, notes)
    for name, text in beside.items():
        path.with_name(name).write_text(text)
    info = Catalogue(path.parent).get("mine")
    assert (info.prediction, info.width) == expected
    assert Engine(Catalogue(path.parent), "cpu").load("mine", "fp32").prediction == expected[0]


@pytest.mark.parametrize("spread, prediction", [(0.05, "epsilon"), (0.2, "v_prediction")])
def test_without_a_word_the_spread_of_a_layers_biases_tells_sd2_apart(
        mine: Callable[..., Path], spread: float, prediction: str) -> None:
    def change(weights: dict[str, Any]) -> None:
        del weights["v_pred"]
        weights["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"] = \
            spread * torch.randn(320, generator=torch.Generator().manual_seed(0)).half()

    assert Catalogue(mine("sd2", change).parent).get("mine").prediction == prediction


@pytest.mark.parametrize("text, says", [("{", "no JSON"), ('{"prediction_type": "flow"}', "prediction_type 'flow'"),
                                        ('{"size": 700}', "has the size '700'"), ('{"size": "big"}', "has the size")])
def test_a_hint_that_means_nothing_is_one_line(mine: Callable[..., Path], text: str, says: str) -> None:
    path = mine("sd2")
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=says) as told:
        Catalogue(path.parent).get("mine")
    assert_one_line(told.value)


def test_training_to_full_noise_reaches_the_schedulers(mine: Callable[..., Path]) -> None:
    path = mine("sdxl", lambda w: w.update(v_pred=torch.zeros(1), ztsnr=torch.zeros(1)))
    engine = Engine(Catalogue(path.parent), "cpu")
    model = engine.load("mine", "fp32")
    assert model.training["rescale_betas_zero_snr"] is True and model.info.zero_terminal
    assert np.isfinite(finish(engine, ask("mine", sampler="DDIM", schedule="SGM Uniform")).latents).all()
