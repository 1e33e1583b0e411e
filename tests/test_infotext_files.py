"""Picture files that carry settings, whole or broken, and those that mean harm: one line for each, and soon."""

from __future__ import annotations

import dataclasses
import io
import json
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core import metadata
from core.errors import BadRequest
from core.infotext import container
from core.masks import Mask
from core.request import (
    MASKS,
    MAX_BATCH,
    MAX_BOOTSTRAP,
    MAX_CLIP_SKIP,
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    PANORAMAS,
    PRECISIONS,
    Region,
    Request,
)
from core.samplers import SAMPLERS, SCHEDULES
from tests.lines import assert_one_line
from tests.test_infotext import CORPUS, EXPECTED, graph

PICTURE = np.zeros((16, 24, 3), np.uint8)
HEAD = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I", len(body) if length is None else length) + kind + body + \
        struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int = 24, height: int = 16) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png(*chunks: bytes, head: bytes | None = None) -> bytes:
    """A PNG with these chunks before its pixels."""
    pixels = zlib.compress(b"".join(b"\0" + bytes(72) for _ in range(16)))
    return HEAD + (head or ihdr()) + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def itxt(key: str, text: str, packed: bool = False) -> bytes:
    body = text.encode()
    return chunk(b"iTXt", key.encode() + (b"\0\1\0" if packed else b"\0\0\0") + b"\0\0" +
                 (zlib.compress(body) if packed else body))


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(BadRequest) as told:
        metadata.read_png(path)
    assert_one_line(told.value)
    return str(told.value)


# -- Request -> PNG -> Request

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\r\t"), max_size=200)
NAMES = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=40).filter(
    lambda name: bool(name.strip()) and name.isprintable())
BOXES = st.tuples(*[st.integers(0, 99)] * 4).map(
    lambda b: (b[0] / 200, b[1] / 200, (b[2] + 101) / 200, (b[3] + 101) / 200))


Values = dict[str, st.SearchStrategy[Any]]  # field -> whatever may stand there


def of_region(width: int, height: int) -> Values:
    masks = st.integers(0, 2**16).map(lambda seed: Mask.of(np.random.default_rng(seed).integers(
        0, 2, (height, width)).astype(bool) | np.eye(height, width, dtype=bool)))
    return {"name": NAMES, "prompt": TEXTS.filter(str.strip), "negative_prompt": TEXTS, "box": BOXES, "mask": masks,
            "guidance": st.none() | st.floats(1, 30), "weight": st.floats(0.05, 20), "feather": st.floats(0, 256)}


def regions(width: int, height: int) -> st.SearchStrategy[Region]:
    values = of_region(width, height)
    return st.one_of(*[st.builds(Region, **{name: value for name, value in values.items() if name != other})
                       for other in ("box", "mask")])


def of_request(width: int, height: int) -> Values:
    share = st.floats(0, 1)
    return {"prompt": TEXTS, "negative_prompt": TEXTS, "model": NAMES, "sampler": st.sampled_from(list(SAMPLERS)),
            "schedule": st.sampled_from(list(SCHEDULES)), "steps": st.integers(1, MAX_STEPS),
            "guidance": st.floats(1, 30), "seed": st.integers(0, MAX_SEED), "width": st.just(width),
            "height": st.just(height), "batch": st.integers(1, MAX_BATCH), "precision": st.sampled_from(PRECISIONS),
            "refiner": st.just("") | NAMES, "refiner_from": share, "clip_skip": st.integers(1, MAX_CLIP_SKIP),
            "regions": st.lists(regions(width, height), max_size=3).map(tuple),
            "bootstrap": st.floats(0, MAX_BOOTSTRAP), "masks": st.sampled_from(MASKS), "crop_after": share,
            "say_places": st.booleans(), "join_prompts": st.booleans(), "panorama": st.sampled_from(PANORAMAS),
            "stride": st.integers(8, MAX_SIDE), "wrap": st.booleans()}


def requests() -> st.SearchStrategy[Request]:
    sizes = st.sampled_from([(64, 64), (72, 128), (8, 4096)])
    return sizes.flatmap(lambda size: st.builds(Request, **of_request(*size)))


def test_every_field_is_among_those_that_must_come_back() -> None:
    assert set(of_request(8, 8)) == {field.name for field in dataclasses.fields(Request)}
    assert set(of_region(8, 8)) == {field.name for field in dataclasses.fields(Region)}


def test_hypothesis_tries_the_same_examples_every_time() -> None:
    assert settings.default is not None and settings.default.derandomize


@settings(max_examples=50)
@given(requests())
def test_any_request_comes_back_out_of_its_picture(tmp_path: Path, made: Request) -> None:
    metadata.save_png(PICTURE, tmp_path / "a.png", made)
    assert metadata.read_png(tmp_path / "a.png") == made
    found = metadata.read(tmp_path / "a.png")
    assert found.request == made and (found.width, found.height) == (24, 16)


# -- what others write


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("kind", ["tEXt", "iTXt", "packed", "zTXt", "JPEG", "WEBP"])
def test_every_way_to_carry_a_text_gives_the_same(tmp_path: Path, kind: str, name: str) -> None:
    text, path = CORPUS[name], tmp_path / "a.png"
    if kind in ("JPEG", "WEBP"):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
        Image.fromarray(PICTURE).save(path, kind, exif=exif)
    elif kind in ("tEXt", "zTXt"):
        try:
            body = text.encode("latin-1")
        except UnicodeEncodeError:
            return
        path.write_bytes(png(chunk(kind.encode(), b"parameters\0" + (b"\0" + zlib.compress(body) if kind == "zTXt"
                                                                     else body))))
    else:
        path.write_bytes(png(itxt("parameters", text, kind == "packed")))
    found = metadata.read(path)
    assert found.settings and found.settings.text == text and found.settings.values["steps"] == 20
    assert (found.width, found.height) == (24, 16)


def test_comfyui_in_a_webp_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(graph())
    Image.fromarray(PICTURE).save(tmp_path / "a.webp", "WEBP", exif=exif)
    found = metadata.read(tmp_path / "a.webp").settings
    assert found and found.values == EXPECTED


# -- files that are broken or mean harm


@pytest.mark.parametrize("width, height", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 5), (2**32 - 1, 1)])
def test_a_picture_that_claims_to_be_huge_is_refused_undecoded(tmp_path: Path, width: int, height: int) -> None:
    assert "pixels" in refused(tmp_path / "a.png", png(head=ihdr(width, height)))


def test_a_jpeg_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.fromarray(PICTURE).save(held, "JPEG")
    content = held.getvalue().replace(struct.pack(">HH", 16, 24), struct.pack(">HH", 60_000, 60_000), 1)
    refused(tmp_path / "a.jpg", content)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_text_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path, kind: bytes) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(10_000_000)) for _ in range(20)) + packer.flush()  # 200 MB in 200 kB
    start = b"parameters\0\0" if kind == b"zTXt" else b"parameters\0\1\0\0\0"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "holds no settings" in refused(tmp_path / "a.png", png(chunk(kind, start + bomb)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_text_of_a_hundred_megabytes_is_passed_over_and_told(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:  # the check sum of what is passed over is not looked at
        file.write(HEAD + ihdr() + struct.pack(">I", 100_000_000 + 8) + b"tEXtNonsense"[:4] + b"comment\0")
        file.seek(100_000_000, 1)
        file.write(bytes(4) + itxt("parameters", CORPUS["plain"]) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    found = metadata.read(tmp_path / "a.png").settings
    assert found and found.values["prompt"] == "a castle" and found.other["Too long to be read"] == "comment"


@pytest.mark.parametrize("content, says", [
    (png()[:-12], "truncated"), (png()[:60], "truncated"), (HEAD + chunk(b"tEXt", b"a\0b") + png()[8:], "header"),
    (HEAD + ihdr()[:-1] + b"x" + chunk(b"IEND", b""), "IHDR part is damaged"),
    (HEAD + ihdr() + chunk(b"tEXt", b"a\0b")[:-1] + b"x" + chunk(b"IEND", b""), "tEXt part is damaged"),
    (HEAD + ihdr() + ihdr() + chunk(b"IEND", b""), "header"),
    (HEAD + ihdr() + chunk(b"zTXt", b"parameters\0\0nonsense") + chunk(b"IEND", b""), "can be read"),
    (HEAD + chunk(b"IHDR", b"abc") + chunk(b"IEND", b""), "can be read"),
    (HEAD + ihdr() + struct.pack(">I", 2**32 - 1) + b"tEXt", "truncated"), (b"GIF89a" + bytes(100), "no known format"),
    (b"P6 9 9 255 " + bytes(300), "no known format"), (b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(20), "can be read")])
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in refused(tmp_path / "a.png", content)


def test_the_name_of_a_file_cannot_spoil_the_line(tmp_path: Path) -> None:
    path = tmp_path / ("a\n\x1b[31m" + "b" * 150 + ".png")
    assert_one_line(refused(path, b"x"))


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([b"", HEAD, HEAD + ihdr(), b"\xff\xd8\xff", b"RIFF____WEBP"]))
def test_whatever_bytes_come_are_refused_in_one_line(tmp_path: Path, content: bytes, start: bytes) -> None:
    (tmp_path / "a.png").write_bytes(start + content)
    try:
        metadata.read(tmp_path / "a.png")
    except BadRequest as error:
        assert_one_line(error)


def test_huge_texts_are_read_or_refused_without_taking_the_square_of_their_length() -> None:
    """In a process that may take a minute of its own time, however busy the machine: it takes one or two seconds, a
    pattern that backtracks takes hours."""
    texts = ["'a' * 900_000", "'a ' * 450_000", "' ' * 900_000 + 'b'", "'a:' * 450_000", "'a:\"' * 300_000",
             "'\"' * 900_000", "'a-/' * 300_000", "'ab: b,' * 120_000", "'ab:\"' * 200_000", "'ab:\"a,' * 150_000",
             "'a:\"\\\\' * 200_000", "'\\n' * 900_000 + 'a'", "'Negative prompt:\\n' * 50_000", "'ab: [,' * 150_000",
             "'ab: {\"a\":[' * 90_000", "'[' * 900_000", "'ab: ' * 200_000", "'ab:' + '[' * 900_000", "',' * 900_000",
             "'ab:\"\\\\,' * 120_000", "'Template: a: b, c: d\\n' * 40_000"]
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from core import metadata
from core.errors import BadRequest
for text in ({', '.join(texts)}):
    try:
        metadata.from_text(text)
    except BadRequest as error:
        assert len(str(error)) < 300
print("done")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True,
                         check=False)
    assert run.stdout == "done\n", run.stderr[-500:] or "it took more than a minute"


def test_the_pictures_this_project_shows_are_within_the_limits() -> None:
    assert container.MAX_PIXELS > 4096 * 4096
