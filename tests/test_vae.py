"""Another VAE than a model's own, the small decoder of previews, and pictures that are never black."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.engine import Engine
from core.errors import ModelError
from core.models.catalogue import Catalogue
from core.models.fingerprint import fingerprint
from tests.lines import assert_one_line
from tests.originals import ask, finish, make_pipeline, tiny_decoder, vae_names


@pytest.fixture
def vaes(mine: Callable[..., Path]) -> Path:
    """A models folder: mine, vae/original.safetensors, vae/theirs.safetensors (diffusers' names), vae/folder."""
    folder = mine("sd1").parent
    other = make_pipeline("sd1", seed=1).vae
    (folder / "vae").mkdir()
    save_file({name: value.contiguous() for name, value in vae_names(other.state_dict()).items()},
              folder / "vae" / "original.safetensors")
    save_file(other.state_dict(), folder / "vae" / "theirs.safetensors")
    other.save_pretrained(folder / "vae" / "folder")
    return folder


def test_another_vae_is_part_of_a_models_name_and_decodes_as_diffusers_does(vaes: Path) -> None:
    engine = Engine(Catalogue(vaes), "cpu")
    plain = finish(engine, ask("mine"))
    own = fingerprint(engine.catalogue.get("mine"))
    other = diffusers.AutoencoderKL.from_pretrained(vaes / "vae" / "folder")
    with torch.inference_mode():
        wanted = other.decode(torch.from_numpy(plain.latents) / 0.18215, return_dict=False)[0][0].clamp(-1, 1)
    for name in ("original", "theirs", "folder"):
        done = finish(engine, ask(f"mine+{name}"))
        assert np.array_equal(done.latents, plain.latents)
        assert not np.array_equal(done.pictures[0], plain.pictures[0])
        pixels = done.pictures[0].astype(np.float32) / 127.5 - 1
        assert np.abs(pixels - wanted.permute(1, 2, 0).numpy()).max() < 1 / 127.5 + 1e-4
        assert fingerprint(engine.catalogue.get(f"mine+{name}")) != own
    taken = finish(engine, ask("mine+mine"))  # another checkpoint lends its own
    assert np.array_equal(taken.pictures[0], plain.pictures[0])
    path = str(vaes / "vae" / "original.safetensors")  # by its path only where it was named at the start
    assert Catalogue(vaes, f"mine+{path}").get(f"mine+{path}").vae == path
    with pytest.raises(ModelError, match="No VAE named"):
        engine.catalogue.get(f"mine+{path}")


def test_a_vae_named_like_its_model_is_taken_by_itself(vaes: Path) -> None:
    before = fingerprint(Catalogue(vaes).get("mine"))
    shutil.copy(vaes / "vae" / "original.safetensors", vaes / "mine.vae.safetensors")
    info = Catalogue(vaes).get("mine")
    assert info.vae.endswith("mine.vae.safetensors") and fingerprint(info) != before
    assert Catalogue(vaes).names() == ["storybook", "mine"]


@pytest.mark.parametrize("name, says", [("mine+orginal", "Did you mean 'original'"), ("mine+taesd", "No VAE"),
                                        ("storybook+original", "its own VAE"), ("nothing+original", "No model named"),
                                        ("mine+", "No model"), ("+original", "No model"), ("mine+../x", "No VAE")])
def test_a_vae_that_does_not_go_with_the_model_is_one_line(vaes: Path, name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as told:
        Catalogue(vaes).get(name)
    assert_one_line(told.value)


@pytest.mark.parametrize("family, name", [("sd1", "taesd"), ("sdxl", "taesdxl")])
@pytest.mark.parametrize("place", ["", "vae_approx/", "folder"])
def test_taesd_beside_a_single_file_is_its_quick_preview(mine: Callable[..., Path], family: str, name: str,
                                                         place: str) -> None:
    folder = mine(family).parent
    assert not Catalogue(folder).get("mine").tiny
    (folder / "vae_approx").mkdir()
    if place == "folder":
        torch.manual_seed(0)
        diffusers.AutoencoderTiny().save_pretrained(folder / name)
    else:
        tiny_decoder(folder / f"{place}{name}_decoder.safetensors")
    assert Catalogue(folder).names() == ["storybook", "mine"] and Catalogue(folder).get("mine").tiny
    model = Engine(Catalogue(folder), "cpu").load("mine", "fp32")
    torch.manual_seed(0)
    wanted, x = diffusers.AutoencoderTiny(), torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        assert torch.allclose(model.tiny.decode(x)[0], wanted.decode(x)[0], atol=1e-5)


def test_a_vae_that_overflows_in_fp16_goes_on_in_float32_and_says_so_once(
        checkpoints: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = Engine(Catalogue(checkpoints), "cpu").load("sdxl-file", "fp32")
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model.decode(x)
        model.vae = make_pipeline("sdxl").vae.requires_grad_(False).half()
        model.vae.decoder.conv_norm_out.weight.mul_(0)  # every picture is the last layer's bias ...
        model.vae.decoder.mid_block.resnets[0].conv1.weight.fill_(60_000)  # ... unless something overflows before
        assert not torch.isfinite(model.vae.decode(x.half())[0]).all()
        first, second = model.decode(x), model.decode(x)
    assert torch.isfinite(first).all() and torch.equal(first, second) and first.shape == wanted.shape
    told = [record.message for record in caplog.records if "overflows in fp16" in record.message]
    assert len(told) == 1 and "sdxl-file" in told[0]


def test_the_vae_of_sdxl_is_kept_in_float32_where_it_asks_for_it(checkpoints: Path) -> None:
    from core.models.parts import _dtypes

    info = Catalogue(checkpoints).get("sdxl-file")
    assert _dtypes(info, torch.device("cuda"), "fp16", True) == (torch.float16, torch.float32, torch.float16)
    assert _dtypes(info, torch.device("cuda"), "bf16", True)[1] == torch.bfloat16
    assert _dtypes(info, torch.device("cuda"), "fp16", False)[1] == torch.float16
