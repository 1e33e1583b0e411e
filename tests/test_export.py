"""core.export: films and sheets, read back by somebody else's decoder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from core.errors import BadRequest, OutputError
from core.export import KINDS, ORDERS, SOURCES, Options, beside, export, fitted, timeline

SHADES = [0, 60, 120, 180, 240]
FRAMES = [np.full((48, 64, 3), shade, np.uint8) for shade in SHADES]
LABELS = [f"step {k + 1} · sigma {k}" for k in range(len(FRAMES))]


def shades(path: Path) -> list[int]:
    """The grey in the middle of each frame of a file that Pillow reads."""
    with Image.open(path) as film:
        return [still.convert("RGB").getpixel((still.width // 2, still.height // 2))[0]
                for still in ImageSequence.Iterator(film)]


def durations(path: Path) -> list[int]:
    with Image.open(path) as film:
        return [still.info["duration"] for still in ImageSequence.Iterator(film) if still.load() is not None]


@pytest.mark.parametrize("kind", ["webp", "gif"])
@pytest.mark.parametrize("order, expected", [("forward", SHADES), ("backward", SHADES[::-1]),
                                             ("loop", SHADES + SHADES[-2:0:-1])])
def test_frames_come_in_the_order_asked_for(tmp_path: Path, kind: str, order: str, expected: list[int]) -> None:
    path = export(FRAMES, [], LABELS, tmp_path / f"a.{kind}", Options(kind, order=order))
    assert np.abs(np.subtract(shades(path), expected)).max() <= 3  # WebP is lossy


def test_a_film_lasts_as_long_as_asked_and_rests_on_the_finished_picture(tmp_path: Path) -> None:
    path = export(FRAMES, [], LABELS, tmp_path / "a.webp", Options("webp", seconds=3))
    lasted = durations(path)
    assert sum(lasted) == pytest.approx(3000, abs=20)
    assert lasted[-1] > 2 * lasted[0]
    ways = timeline(5, Options("webp", order="loop"))
    assert max(ways, key=lambda entry: entry[1])[0] == 4


def test_a_film_of_a_single_step_is_a_film(tmp_path: Path) -> None:
    for kind in KINDS:
        for order in ORDERS:
            path = tmp_path / f"one-{order}{KINDS[kind].suffix}"
            assert export(FRAMES[:1], [], LABELS[:1], path, Options(kind, order=order)).stat().st_size > 0


def test_an_mp4_plays_in_order_at_its_size_even_for_odd_sides(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    odd = [np.full((47, 63, 3), shade, np.uint8) for shade in SHADES]
    path = export(odd, [], LABELS, tmp_path / "a.mp4", Options("mp4", seconds=2))
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    raw = subprocess.run([ffmpeg, "-loglevel", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "gray", "-"],
                         capture_output=True, check=True).stdout
    about = subprocess.run([ffmpeg, "-i", path], capture_output=True, text=True).stderr
    assert "h264" in about and "yuv420p" in about and " 64x48" in about
    [length] = re.findall(r"Duration: 00:00:(\d+\.\d+)", about)
    assert float(length) == pytest.approx(2, abs=0.4)  # whole frames
    seen = [int(grey.mean()) for grey in np.frombuffer(raw, np.uint8).reshape(-1, 48, 64)]
    assert sorted(seen) == seen
    assert np.abs(np.subtract([seen[0], seen[-1]], [0, 240])).max() <= 6  # 4:2:0, lossy
    assert path.read_bytes().find(b"moov") < path.read_bytes().find(b"mdat")  # plays while it loads


def test_without_ffmpeg_the_line_says_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(OutputError, match="requirements.txt"):
        export(FRAMES, [], LABELS, tmp_path / "a.mp4", Options("mp4"))
    assert list(tmp_path.iterdir()) == []


def test_a_contact_sheet_holds_every_step_with_its_label(tmp_path: Path) -> None:
    path = export(FRAMES, [], LABELS, tmp_path / "a.png", Options("sheet"))
    with Image.open(path) as image:
        page = np.asarray(image.convert("L")).astype(int)
    for shade in SHADES:
        assert (page == shade).sum() >= 48 * 64  # each frame whole, besides the letters
    bare = export(FRAMES, [], [""] * len(LABELS), tmp_path / "b.png", Options("sheet"))
    with Image.open(bare) as image:
        assert (np.asarray(image.convert("L")) != page).sum() > 100  # the letters


def test_two_sources_stand_side_by_side_and_sizes_are_kept_in_proportion(tmp_path: Path) -> None:
    left, right = FRAMES, [255 - frame for frame in FRAMES]
    path = export(left, right, LABELS, tmp_path / "a.webp", Options("webp", "both", side=64))
    with Image.open(path) as film:
        assert film.size == (64, 24)
    assert beside(left[1], right[1]).shape == (48, 128, 3)
    assert fitted(FRAMES[0], 0) is FRAMES[0]
    assert fitted(FRAMES[0], 128).shape == (96, 128, 3)


@pytest.mark.parametrize("values, line", [
    ({"kind": "avi"}, "No kind of export named 'avi'"), ({"source": "x1"}, "No source named 'x1'"),
    ({"order": "random"}, "No order named 'random'"), ({"seconds": 0}, "cannot last 0 seconds"),
    ({"seconds": float("nan")}, "cannot last nan seconds"), ({"seconds": "four"}, "cannot last four seconds"),
    ({"side": 7}, "cannot be 7 pixels"), ({"side": 10_000}, "cannot be 10000 pixels")])
def test_options_that_mean_nothing_are_refused_with_the_way_out(values: dict[str, object], line: str) -> None:
    with pytest.raises(BadRequest, match=line):
        Options(**values)  # type: ignore[arg-type]


def test_no_steps_and_no_room_are_said_and_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no step to export yet"):
        export([], [], [], tmp_path / "a.webp", Options())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        export(FRAMES, [], LABELS, tmp_path / "file" / "a.webp", Options())
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
    assert set(SOURCES) == {"x0", "xt", "both"}
