"""Picture files that mean harm, sent to a served page: wherever one can be opened it costs a line, and no memory."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFile

from core import metadata
from core.history import of
from core.infotext.container import MAX_PIXELS
from core.request import Request
from tests.events import Event, Visitor
from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.serving import THIRD_PARTY, Served, served
from tests.test_infotext_files import HEAD, chunk, ihdr, png

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]
ROOM = 40_000_000  # bytes that one question may take: the file, its longest text four times over, the page's answer


def packed(size: int) -> bytes:
    """So many zeros."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)) + packer.flush()


def jpeg(width: int, height: int) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (24, 16)).save(held, "JPEG")
    return held.getvalue().replace(struct.pack(">HH", 16, 24), struct.pack(">HH", height, width), 1)


def whole(width: int, height: int, pixels: bytes) -> bytes:
    return HEAD + ihdr(width, height) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


TEXT = packed(200_000_000)
HARMFUL = {
    "gigapixels.png": whole(60_000, 60_000, TEXT),
    "largest.png": whole(8_000, MAX_PIXELS // 8_000, packed(240_000_000)),  # as large as may be opened
    "gigapixels.jpg": jpeg(60_000, 60_000),
    "packed.png": png(chunk(b"zTXt", b"parameters\0\0" + TEXT)),
    "own.png": png(chunk(b"zTXt", b"latent_loom\0\0" + TEXT)),
    "packed-too.png": png(chunk(b"iTXt", b"parameters\0\1\0\0\0" + TEXT)),
    "many.png": png(*[chunk(b"iTXt", b"a%d\0\1\0\0\0" % k + packed(3_000_000)) for k in range(200)]),
    "truncated.png": png()[:60], "no-end.png": png()[:-12], "not-a-picture.png": b"hello",
    "wrong-sum.png": HEAD + ihdr()[:-1] + b"x" + chunk(b"IEND", b""),
    "longer-than-it-is.png": HEAD + ihdr() + struct.pack(">I", 2**31) + b"tEXt",
    "empty.png": b"", "brackets.json": b"[" * 19_000_000, "deep.json": b'{"regions":' + b'[{"mask":' * 100_000,
    "bomb.json": json.dumps({"prompt": "a", "regions": [
        {"name": "a", "prompt": "a", "mask": {"width": 10**6, "height": 10**6, "runs": f"0 {10**12}"}}]}).encode()}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("harmed"), lambda: FakeRunner(0)) as running:
        yield running


@pytest.fixture(scope="module")
def page(studio: Served) -> Iterator[Visitor]:
    with httpx.Client(base_url=studio.address, timeout=120) as person:
        yield Visitor(person)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The sizes of the pictures whose pixels were unpacked; what Python itself took must fit the room."""
    sizes: list[tuple[int, int]] = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: (sizes.append(image.size), load(image))[1])
    tracemalloc.start()
    yield sizes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ROOM, f"{peak:,} bytes"


def events_with_files(page: Visitor) -> list[Event]:
    """All that open a file that was sent: dropped onto the page, opened from its card, opened by the canvas."""
    return [event for event in page.events if event.name in ("dropped", "opened", "regions")
            and {"arrival-box", "painter-box"} & set(page.components[event.target].get("elem_classes") or ())]


def lines_of(answer: httpx.Response) -> list[str]:
    """What an answer says is wrong."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict) and isinstance(value.get("error"), str) and value["error"]:
            found.append(value["error"])
        elif isinstance(value, list) and len(value) == 2 and value[0] == "error":
            found.append(value[1])
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    look(answer.json())
    return found


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_file_costs_one_line_wherever_it_is_opened(page: Visitor, opened: list[tuple[int, int]],
                                                            name: str) -> None:
    path = page.upload(name, HARMFUL[name])
    events = events_with_files(page)
    assert [event.name for event in events] == ["dropped", "opened", "regions"]
    for event in events:
        answer = page.tell(event, {"path": path, "name": name})
        assert answer.status_code == 200, answer.text[:300]
        (line,) = lines_of(answer)
        assert_one_line(line)
        assert name in line or name == "bomb.json"
    assert opened == []


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_file_is_no_list_of_styles(page: Visitor, opened: list[tuple[int, int]], name: str) -> None:
    path = page.upload(f"{name}.csv", HARMFUL[name])
    (event,) = page.named("upload")
    values = [{"path": path, "meta": {"_type": "gradio.FileData"}} if page.components[number].get("file_types") else
              value for number, value in zip(event.inputs, page.values(event), strict=True)]
    answer = page.tell(event, values=values)
    assert answer.status_code == 200, answer.text[:300]
    (line,) = lines_of(answer)
    assert_one_line(line)
    assert opened == []


def test_harmful_files_among_the_outputs_are_passed_over_and_told(studio: Served, page: Visitor,
                                                                  opened: list[tuple[int, int]]) -> None:
    outputs = studio.studio.jobs.outputs
    outputs.mkdir(exist_ok=True)
    metadata.save_png(np.zeros((64, 64, 3), np.uint8), outputs / "sound.png", Request(prompt="sound"))
    for name, content in HARMFUL.items():
        if name != "largest.png":  # that one is a picture
            (outputs / name).with_suffix(".png").write_bytes(content)
    of(outputs).scan()
    questions = {name: number for number, name in page.questions if "history-box" in page.components[number][
        "elem_classes"]}
    found = page.ask(questions["look"], "look", {"count": 100}).json()
    assert_one_line(found["note"], 600)
    readable = [row["prompt"] for row in found["rows"]]
    assert "sound" in readable and len(readable) < 6  # those whose text alone is too long are pictures
    ids = [row["id"] for row in found["rows"]]
    urls = page.ask(questions["thumbs"], "thumbs", {"ids": ids}).json()["urls"]
    assert urls[str(next(row["id"] for row in found["rows"] if row["prompt"] == "sound"))]
    assert all(width * height <= 64 * 64 for width, height in opened)
    for identity in ids:
        for event in (*page.named("text"), *page.named("regions")):
            if "history-box" in page.components[event.target]["elem_classes"]:
                answer = page.tell(event, {"id": identity, "name": "a.png"})
                assert answer.status_code == 200, answer.text[:300]
                for line in lines_of(answer):
                    assert_one_line(line)
