"""A picture tells how it was made: round trips, what other programs write, and files that mean harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from core import metadata
from core.errors import BadRequest
from core.request import MAX_SEED, Region, Request
from tests.lines import assert_one_line

PICTURE = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
PROMPTS = [
    "a red boat", "", "a red boat, on the sea: calm", 'the "big" one', "two\nlines", "tab\there", "ein grünes Häuschen",
    "红色的船 🐱", "back\\slash", "trailing, comma,", "Negative prompt: not really",
    "a\nNegative prompt: b\nNegative prompt: c",
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512", "  spaces around  ", "\u2028line separator",
    "a\nSteps: 99, Sampler: DDIM, CFG scale: 2, Seed: 5", "(weights:1.2) [less] <lora:x:1>", "x" * 2000]

# As Automatic1111 writes them: by version, newest first.
NEW = """a castle, (detailed:1.2), sunset
Negative prompt: lowres, bad anatomy
Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 3489123, Size: 512x768, \
Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, VAE hash: c6a580b13a, VAE: vae-ft-mse-840000-ema-pruned.ckpt, \
Denoising strength: 0.5, Clip skip: 2, Hires upscale: 2, Hires upscaler: Latent, \
Lora hashes: "add_detail: 7c6bad76eb54, x: 00", Version: v1.10.1"""
BEFORE_1_9 = """masterpiece, 1 cat
sitting on a mat
Negative prompt: blurry,
dark
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1, Size: 512x512, Model hash: abc, Model: deliberate_v2"""
NO_NEGATIVE = "a dog\nSteps: 28, Sampler: Euler a, CFG scale: 11, Seed: 4294967295, Size: 640x448, Model hash: 7460a6fa"
NO_PROMPT = "Steps: 20, Sampler: DDIM, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 81761151"


def png(folder: Path, **texts: str) -> Path:
    """A PNG with exactly these texts."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in texts.items():
        chunks.add_itxt(key, value)
    Image.fromarray(PICTURE).save(folder / "given.png", pnginfo=chunks)
    return folder / "given.png"


def info_of(path: Path) -> dict[Any, Any]:
    with Image.open(path) as image:
        return image.info


# -- our own


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_a_saved_picture_gives_back_its_request_and_its_pixels(tmp_path: Path, prompt: str) -> None:
    request = Request(prompt=prompt, negative_prompt=prompt[::-1], model="some/model, v2", sampler="DPM++ 2M SDE",
                      schedule="Exponential", steps=33, guidance=7.25, seed=MAX_SEED, width=512, height=320,
                      precision="bf16", regions=(Region(name="sky, left", prompt=prompt or "a", box=(0, 0, 0.5, 1)),))
    metadata.save_png(PICTURE, tmp_path / "a.png", request)
    assert metadata.read_png(tmp_path / "a.png") == request
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), PICTURE)


@pytest.mark.parametrize("prompt", [p for p in PROMPTS if "Negative prompt:" not in p and "Steps:" not in p])
def test_the_common_text_alone_gives_back_what_it_can_say(prompt: str) -> None:
    request = Request(prompt=prompt.strip(), negative_prompt="b, c", model="m: 1, \"x\"", sampler="DPM++ 3M SDE",
                      schedule="Exponential", steps=33, guidance=7.25, seed=12, width=512, height=320, clip_skip=2)
    values = metadata.from_text(metadata.to_text(request))
    other = values.pop("other")
    assert Request.parse(values) == request and list(other) == ["Version"]


def test_the_common_text_is_in_the_documented_form() -> None:
    text = metadata.to_text(Request(prompt="a", negative_prompt="b", model="models/my,model", steps=20, seed=5))
    assert text.split("\n") == [
        "a", "Negative prompt: b", "Steps: 20, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 5, Seed: 5, "
        'Size: 256x256, Model: "my,model", Version: Latent Loom 0.1.0']
    assert "Negative prompt" not in metadata.to_text(Request(prompt="a"))
    assert ", Clip skip: 2, Version" in metadata.to_text(Request(prompt="a", clip_skip=2))  # as there, only beyond 1


def test_latin_text_is_written_as_text_and_the_rest_as_international_text(tmp_path: Path) -> None:
    for prompt, kind in (("grün", b"tEXtparameters"), ("红色", b"iTXtparameters")):
        metadata.save_png(PICTURE, tmp_path / "a.png", Request(prompt=prompt))
        assert kind in (tmp_path / "a.png").read_bytes()
        assert info_of(tmp_path / "a.png")["parameters"].startswith(prompt)


def test_a_stopped_picture_says_after_how_many_steps(tmp_path: Path) -> None:
    metadata.save_png(PICTURE, tmp_path / "a.png", Request(prompt="a"), stopped_after=7)
    info = info_of(tmp_path / "a.png")
    assert info["parameters"].endswith(", Stopped after: 7") and json.loads(info["latent_loom"])["stopped_after"] == 7
    assert metadata.read_png(tmp_path / "a.png") == Request(prompt="a")


def test_nobody_ever_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    metadata.save_png(PICTURE, path, Request(prompt="before"))

    def full_disk(self: Any, file: Any, *args: Any, **options: Any) -> None:
        Path(file).write_bytes(b"\x89PNG half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError):
        metadata.save_png(PICTURE, path, Request(prompt="after"))
    assert metadata.read_png(path).prompt == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]  # and no draft is left behind


# -- what others write


@pytest.mark.parametrize("text, expected, other", [
    (NEW, {"prompt": "a castle, (detailed:1.2), sunset", "negative_prompt": "lowres, bad anatomy", "steps": 30,
           "sampler": "DPM++ 2M", "schedule": "Karras", "guidance": 7, "seed": 3489123, "width": 512, "height": 768,
           "model": "v1-5-pruned-emaonly", "clip_skip": 2},
     {"Lora hashes": "add_detail: 7c6bad76eb54, x: 00", "Version": "v1.10.1"}),
    (BEFORE_1_9, {"prompt": "masterpiece, 1 cat\nsitting on a mat", "negative_prompt": "blurry,\ndark", "steps": 20,
                  "sampler": "DPM++ 2M", "schedule": "Karras", "guidance": 7.5, "model": "deliberate_v2"},
     {"Model hash": "abc"}),
    (NO_NEGATIVE, {"prompt": "a dog", "negative_prompt": "", "sampler": "Euler a", "seed": MAX_SEED, "width": 640}, {}),
    (NO_PROMPT, {"prompt": "", "negative_prompt": "", "sampler": "DDIM", "seed": 965400086}, {}),
    (NO_PROMPT.replace("DDIM", "DPM2 a Karras"), {"sampler": "DPM2 a", "schedule": "Karras"}, {}),
    (NO_PROMPT.replace("DDIM", "DPM++ 2M SDE Exponential"), {"sampler": "DPM++ 2M SDE", "schedule": "Exponential"}, {}),
    ("a\r\nNegative prompt: b\r\n" + NO_PROMPT, {"prompt": "a", "negative_prompt": "b", "steps": 20}, {}),
    ("a\n\n" + NO_PROMPT + "\n", {"prompt": "a", "steps": 20}, {})])
def test_texts_of_automatic1111_are_read(tmp_path: Path, text: str, expected: dict[str, Any],
                                         other: dict[str, str]) -> None:
    values = metadata.from_text(text)
    assert {name: values.get(name) for name in expected} == expected
    assert other.items() <= values["other"].items()
    request = metadata.read_png(png(tmp_path, parameters=text))
    assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize("text", ["", "just words", "a: b", "Steps: 20, Sampler: Euler", "x" * 500, "\n\n\n", ",,,:::"])
def test_a_text_without_settings_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadRequest, match="no settings") as told:
        metadata.read_png(png(tmp_path, parameters=text))
    assert_one_line(told.value)


@pytest.mark.parametrize("setting, says", [
    ("Steps: many", "whole number"), ("Steps: 9999", "1 to 150"), ("Steps: 1e999", "whole number"),
    ("Seed: -1", "0 to"), ("CFG scale: nan", "must be a number"), ("Size: 9x9, Steps: 5", "8 to|steps|9x9"),
    ("Clip skip: 0", "1 to 12"), ("Clip skip: two", "whole number"), ("Seed: " + "9" * 5000, "seed"),
    ("Sampler: \"\\u0000\"", "must be a name")])
def test_a_setting_no_model_could_use_is_refused_in_one_line(tmp_path: Path, setting: str, says: str) -> None:
    label = setting.partition(":")[0]
    rest = ", ".join(part for part in NO_PROMPT.split(", ") if not part.startswith(label))
    text = f"a\n{setting}, {rest}"
    if label == "Size":
        assert metadata.read_png(png(tmp_path, parameters=text)).width == 9  # legal; whether it fits, the model says
        return
    with pytest.raises(BadRequest, match=says) as told:
        metadata.read_png(png(tmp_path, parameters=text))
    assert_one_line(told.value)


# -- files that are broken or mean harm


@pytest.mark.parametrize("tampered", [
    "", "{", "[]", "null", "{}", '{"request": 5}', '{"request": {"steps": 0}}', '{"request": {"colour": "red"}}',
    '{"request": null}', "[" * 100_000, '{"request": {"steps": 1' + "0" * 400 + "}}", '{"request": {"regions": [{}]}}'],
    ids=range(12))
def test_when_our_own_text_is_broken_the_common_one_is_read(tmp_path: Path, tampered: str) -> None:
    path = png(tmp_path, latent_loom=tampered, parameters=NO_NEGATIVE)
    assert metadata.read_png(path).sampler == "Euler a"
    with pytest.raises(BadRequest, match="no settings") as told:
        metadata.read_png(png(tmp_path, latent_loom=tampered))
    assert_one_line(told.value)


def test_a_text_beyond_a_million_characters_is_not_read(tmp_path: Path) -> None:
    path = png(tmp_path, parameters="a" * 1_000_001 + "\n" + NO_PROMPT)
    with pytest.raises(BadRequest) as told:
        metadata.read_png(path)
    assert_one_line(told.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\x00" * 1000])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadRequest, match=r"a\.png is not a picture that can be read") as told:
        metadata.read_png(tmp_path / "a.png")
    assert_one_line(told.value)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_picture_is_refused_in_one_line(tmp_path: Path, part: float) -> None:
    metadata.save_png(PICTURE, tmp_path / "a.png", Request(prompt="a"))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(BadRequest) as told:
        metadata.read_png(tmp_path / "a.png")
    assert_one_line(told.value)


def test_a_missing_file_and_a_picture_without_text_are_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.png", png(tmp_path), tmp_path):
        with pytest.raises(BadRequest) as told:
            metadata.read_png(path)
        assert_one_line(told.value)


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])  # piexif writes the first, some others the second
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_settings_in_the_exif_comment_are_read(tmp_path: Path, kind: str, order: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + ("ein grünes Haus 🐱\n" + NEW.partition("\n")[2]).encode(order)
    Image.fromarray(PICTURE).save(path, kind, exif=exif)
    request = metadata.read_png(path)
    assert (request.prompt, request.seed, request.height) == ("ein grünes Haus 🐱", 3489123, 768)


def test_an_exif_comment_of_another_kind_is_no_settings(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"JIS\0\0\0\0\0abc"
    Image.fromarray(PICTURE).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(BadRequest, match="holds no settings"):
        metadata.read_png(tmp_path / "a.jpg")
