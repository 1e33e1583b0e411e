"""The steps of a run as one file: animated WebP, GIF, MP4, or a contact sheet. Pictures in, file out; no torch."""

from __future__ import annotations

import contextlib
import math
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.errors import BadRequest, OutputError
from core.files import disk_errors
from core.registry import Registry

Frame = np.ndarray  # (H, W, 3) uint8

SOURCES = ("x0", "xt", "both")
ORDERS = ("forward", "backward", "loop")  # loop: there and back again
MIN_SECONDS, MAX_SECONDS = 0.5, 60.0
MIN_SIDE, MAX_SIDE = 32, 2048  # pixels of the longer side
LAST_STAYS = 0.25  # share of the time that the film rests on its last frame
GIF_TICK = 10  # ms: a GIF counts in hundredths of a second
LEAST_FRAME = 20  # ms; browsers slow down GIFs that are faster


@dataclass(frozen=True)
class Options:
    """How to export. Raises BadRequest for a value that means nothing."""

    kind: str = "webp"
    source: str = "x0"
    order: str = "forward"
    seconds: float = 4.0  # of the whole film
    side: int = 0  # pixels of a frame's longer side; 0: as it is

    def __post_init__(self) -> None:
        KINDS[self.kind]
        for name, value, known in (("source", self.source, SOURCES), ("order", self.order, ORDERS)):
            if value not in known:
                raise BadRequest(f"No {name} named {str(value)[:40]!r}: choose from {', '.join(known)}.", name)
        if not isinstance(self.seconds, (int, float)) or not MIN_SECONDS <= self.seconds <= MAX_SECONDS:
            raise BadRequest(f"A film cannot last {str(self.seconds)[:20]} seconds: choose from {MIN_SECONDS:g} to "
                             f"{MAX_SECONDS:g}.", "seconds")
        if not isinstance(self.side, int) or not (self.side == 0 or MIN_SIDE <= self.side <= MAX_SIDE):
            raise BadRequest(f"A frame cannot be {str(self.side)[:20]} pixels long: choose from {MIN_SIDE} to "
                             f"{MAX_SIDE}, or 0 for its own size.", "side")


def export(left: Sequence[Frame], right: Sequence[Frame], labels: Sequence[str], path: Path, options: Options) -> Path:
    """Write the frames of a run, in step order, to `path`.

    right: with source "both" it stands beside `left`, else it is empty. labels: one for each step, on the sheet.
    Raises BadRequest without frames, OutputError for a disk (or an ffmpeg) that refuses.
    """
    if not left:
        raise BadRequest("There is no step to export yet: wait for the first one.")
    frames = [fitted(frame, options.side) for frame in (map(beside, left, right) if right else left)]
    draft = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")  # the suffix tells ffmpeg the format
    try:
        with disk_errors("export", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            KINDS[options.kind].write(frames, labels, draft, options)
            draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return path


def beside(left: Frame, right: Frame) -> Frame:
    return np.concatenate([left, right], axis=1)


def fitted(frame: Frame, side: int) -> Frame:
    """The frame with `side` pixels on its longer side; 0 leaves it alone."""
    height, width = frame.shape[:2]
    if not side or side == max(height, width):
        return frame
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def timeline(count: int, options: Options) -> list[tuple[int, int]]:
    """(frame, ms) in the order of showing; the last one of the film rests for a while."""
    there = list(range(count))
    ways = {"forward": there, "backward": there[::-1], "loop": there + there[-2:0:-1]}[options.order]
    whole = 1000 * options.seconds
    rest = LAST_STAYS * whole
    each = max((whole - rest) / len(ways), LEAST_FRAME)
    turn = count - 1 if options.order == "loop" else len(ways) - 1  # there and back rests at the finished picture
    return [(frame, round(each + rest * (k == turn))) for k, frame in enumerate(ways)]


# -- the kinds of file


def _stills(frames: Sequence[Frame], options: Options) -> tuple[list[Image.Image], list[int]]:
    shown = timeline(len(frames), options)
    return [Image.fromarray(frames[k]) for k, _ in shown], [ms for _, ms in shown]


def _webp(frames: Sequence[Frame], labels: Sequence[str], path: Path, options: Options) -> None:
    stills, ms = _stills(frames, options)
    stills[0].save(path, "WEBP", save_all=True, append_images=stills[1:], duration=ms, loop=0, quality=86, method=3)


def _gif(frames: Sequence[Frame], labels: Sequence[str], path: Path, options: Options) -> None:
    stills, ms = _stills(frames, options)
    few = [still.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG) for still in stills]
    few[0].save(path, "GIF", save_all=True, append_images=few[1:], loop=0, optimize=False, disposal=1,
                duration=[max(LEAST_FRAME, round(t / GIF_TICK) * GIF_TICK) for t in ms])


def _mp4(frames: Sequence[Frame], labels: Sequence[str], path: Path, options: Options) -> None:
    """H.264 that every browser and phone plays: even sides, 4:2:0, the index first."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise OutputError("MP4 needs the package imageio-ffmpeg, which is not installed: install requirements.txt "
                          "again, or choose WebP or GIF.") from error
    even = [np.pad(f, ((0, f.shape[0] % 2), (0, f.shape[1] % 2), (0, 0)), mode="edge") for f in frames]
    shown = timeline(len(frames), options)
    tick = min(ms for _, ms in shown)
    height, width = even[0].shape[:2]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
               "-s", f"{width}x{height}", "-r", f"{1000 / tick:.6f}", "-i", "-", "-an", "-c:v", "libx264",
               "-pix_fmt", "yuv420p", "-crf", "17", "-preset", "fast", "-movflags", "+faststart", str(path)]
    with tempfile.TemporaryFile() as said:
        broken = None
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as ffmpeg:
            assert ffmpeg.stdin is not None
            try:
                for k, ms in shown:
                    frame = np.ascontiguousarray(even[k]).tobytes()
                    for _ in range(max(1, round(ms / tick))):
                        ffmpeg.stdin.write(frame)
                ffmpeg.stdin.close()
            except OSError as error:  # it ended before it had all frames; what it said tells why
                broken = error
        if ffmpeg.returncode or broken:
            said.seek(0)
            why = " ".join(said.read().decode(errors="replace").split())[-160:] or str(broken)
            raise OutputError(f"ffmpeg could not write this film ({why}): choose WebP or GIF.")


def _sheet(frames: Sequence[Frame], labels: Sequence[str], path: Path, options: Options) -> None:
    """All steps in rows, each with its label below it, on white."""
    height, width = frames[0].shape[:2]
    size = max(11, round(height / 18))  # of the letters, pixels
    font = ImageFont.load_default(size)
    gap, below = max(4, size // 2), round(1.7 * size)
    columns = max(1, math.ceil(math.sqrt(len(frames) * height / width)))
    rows = math.ceil(len(frames) / columns)
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + below + gap) + gap), "white")
    draw = ImageDraw.Draw(page)
    for k, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        x, y = gap + k % columns * (width + gap), gap + k // columns * (height + below + gap)
        page.paste(Image.fromarray(frame), (x, y))
        draw.text((x + width / 2, y + height + below / 2), _short(label, font, width), "#33332f", font, "mm")
    page.save(path, "PNG")


def _short(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The label, or as many of its parts (between dots) as fit below a frame."""
    parts = label.split(" · ")
    while len(parts) > 1 and font.getlength(" · ".join(parts)) > width:
        parts.pop()
    return " · ".join(parts)


@dataclass(frozen=True)
class Kind:
    suffix: str
    write: Callable[[Sequence[Frame], Sequence[str], Path, Options], None]
    moves: bool = True


KINDS: Registry[Kind] = Registry("kind of export", "kind")
KINDS.add("webp", Kind(".webp", _webp))
KINDS.add("mp4", Kind(".mp4", _mp4))
KINDS.add("gif", Kind(".gif", _gif))
KINDS.add("sheet", Kind(".png", _sheet, moves=False))
