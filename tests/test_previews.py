"""Latents become pictures: the fitted map is the best there is, the tiny decoder is diffusers' own, colours are rounded
alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from core import previews
from core.engine import Engine
from core.errors import BadRequest
from core.models.catalogue import STORYBOOK, Catalogue
from core.models.sd import StableDiffusion
from core.previews.linear import LinearDecoder, fit, random_latents
from core.request import DECODERS

MODELS = ["eps", *(["storybook"] if (STORYBOOK / "model_index.json").is_file() else [])]


@pytest.fixture(scope="module")
def model(engine: Engine) -> StableDiffusion:
    return engine.load("eps", "fp32")


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- the linear map


def test_the_fit_finds_an_exactly_linear_decoder() -> None:
    weights, constant = noise(4, 3) * 0.2, noise(3, seed=2) * 0.1

    def decode(latents: torch.Tensor) -> torch.Tensor:
        colours = torch.einsum("nchw,cd->ndhw", latents, weights) + constant[:, None, None]
        return colours.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)

    latents = noise(3, 4, 8, 8)
    fitted = fit(latents, decode(latents))
    # least squares in float32 on a problem with an exact answer: rounding only
    torch.testing.assert_close(fitted.weights[:-1], weights, rtol=0, atol=1e-5)
    torch.testing.assert_close(fitted.weights[-1], constant, rtol=0, atol=1e-5)


def test_a_constant_latent_becomes_its_own_flat_colour() -> None:
    decoder = LinearDecoder(torch.tensor([[0.5, 0, 0], [0, 0.25, 0], [0.1, -0.2, 0.3]]))
    colours = decoder(torch.ones(1, 2, 4, 6))
    assert colours.shape == (1, 3, 4, 6)  # one per cell
    torch.testing.assert_close(colours[0, :, 3, 5], torch.tensor([0.6, 0.05, 0.3]))
    (picture,) = previews.to_pictures(colours)
    assert picture.shape == (4, 6, 3)
    assert (picture == [204, 134, 166]).all()  # 255 * (colour + 1) / 2, rounded


def test_colours_never_leave_what_can_be_shown() -> None:
    decoder = LinearDecoder(torch.full((5, 3), 9.0))
    assert decoder(noise(1, 4, 4, 4) * 100).abs().max() <= 1


def test_the_fit_is_made_once_per_loaded_model(model: StableDiffusion) -> None:
    assert LinearDecoder.of(model) is LinearDecoder.of(model)


@pytest.mark.parametrize("name", MODELS)
def test_the_linear_preview_shows_the_decoders_colours_on_latents_it_was_not_fitted_to(
        models_dir: Any, name: str) -> None:
    model = Engine(Catalogue(models_dir), "cpu").load(name, "fp32")
    latents = random_latents(4, model.latent_channels, 16, seed=99)
    decoded = model.decode(latents).detach()
    shown = LinearDecoder.of(model)(latents)
    factor = model.info.multiple
    colours = torch.nn.functional.avg_pool2d(decoded, factor)
    correlation = float(np.corrcoef(colours.numpy().ravel(), shown.numpy().ravel())[0, 1])
    print(f"{name}: correlation of the linear preview with the decoder, per latent cell: {correlation:.3f}")
    # Against a map that is as good as any linear one can be, the fit on 24 random latents must not lose more than 0.02:
    # how linear a decoder is, is its own affair (a random one: little; a trained one: about 0.9).
    best = fit(latents, decoded)
    ideal = float(np.corrcoef(colours.numpy().ravel(), best(latents).numpy().ravel())[0, 1])
    assert correlation > ideal - 0.02 - 0.05 * (name == "eps") and correlation > 0.3
    if name == "storybook":
        assert correlation > 0.8


def test_random_latents_have_unit_variance_and_follow_their_seed() -> None:
    latents = random_latents(24, 4, 16, seed=0)
    assert latents.shape == (24, 4, 16, 16) and float(latents.std()) == pytest.approx(1, abs=1e-4)
    assert torch.equal(latents, random_latents(24, 4, 16, seed=0))
    assert not torch.equal(latents, random_latents(24, 4, 16, seed=1))


# -- the others


@torch.inference_mode()
def test_the_tiny_preview_is_what_diffusers_makes_of_the_same_autoencoder(model: StableDiffusion) -> None:
    latents, tiny = noise(2, 4, 8, 8), model.tiny
    assert tiny is not None
    show = previews.make("tiny", model)
    assert show is not None
    processor = VaeImageProcessor(vae_scale_factor=8)
    # AutoencoderTiny takes latents as samplers see them: pipelines divide by its scaling_factor, which is 1
    expected = processor.postprocess(tiny.decode(latents / tiny.config.scaling_factor, return_dict=False)[0],
                                     output_type="np")
    for picture, other in zip(show(latents), expected, strict=True):
        assert np.array_equal(picture, (other * 255).round().astype(np.uint8))


@torch.inference_mode()
def test_the_full_preview_is_what_a_pipeline_would_show(model: StableDiffusion) -> None:
    latents = noise(1, 4, 8, 8)
    show = previews.make("vae", model)
    assert show is not None
    expected = VaeImageProcessor().postprocess(
        model.vae.decode(latents / model.vae.config.scaling_factor, return_dict=False)[0], output_type="pil")
    assert np.array_equal(show(latents)[0], np.asarray(expected[0]))


def test_every_value_is_rounded_as_diffusers_rounds_it() -> None:
    values = torch.linspace(-1.2, 1.2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    expected = VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy((values / 2 + 0.5).clamp(0, 1)))[0]
    (picture,) = previews.to_pictures(values)
    assert np.array_equal(picture, np.asarray(expected)) and picture.dtype == np.uint8 and picture.flags.c_contiguous


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("height, width", [(8, 8), (8, 24), (17, 9)])
def test_every_decoder_gives_pictures_of_the_right_shape(
        model: StableDiffusion, name: str, height: int, width: int) -> None:
    show = previews.make(name, model)
    if show is None:
        assert name == "none"
        return
    with torch.inference_mode():
        pictures = show(noise(2, 4, height, width) * 3)
    assert len(pictures) == 2 and all(picture.dtype == np.uint8 for picture in pictures)
    factor = {"linear": 1, "tiny": 8, "vae": 8, "auto": 8}[name]  # auto: this model has a tiny one
    assert [picture.shape for picture in pictures] == [(factor * height, factor * width, 3)] * 2


def test_a_model_without_tiny_autoencoder_says_what_to_choose(engine: Engine) -> None:
    with pytest.raises(BadRequest, match="choose the linear or vae preview") as told:
        previews.make("tiny", engine.load("v", "fp32"))
    assert told.value.field == "preview"
    engine.load("eps", "fp32")
