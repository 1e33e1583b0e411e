"""The texts inside a picture file, read without decoding a pixel and within bounds, whatever the file claims.

PNG: the chunks tEXt, zTXt and iTXt. JPEG and WebP: EXIF's UserComment, as Automatic1111 writes it, and the camera's
maker and model, where ComfyUI puts its graph.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from core.errors import BadRequest

MAX_TEXT = 1_000_000  # characters of a text that is read at all
MAX_TEXTS = 64  # texts of one file
MAX_CHUNKS = 200_000  # of a PNG; encoders write 8 kB to a chunk at least
MAX_PIXELS = 80_000_000  # of a picture that is opened; 4096 x 4096, the largest one made here, has 17 million
MAX_BYTES = 300_000_000  # of a file
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


class Carried(NamedTuple):
    """What a picture file says of itself."""

    width: int  # pixels
    height: int
    texts: dict[str, str]
    dropped: tuple[str, ...] = ()  # texts that are too long to be read, by their keys


def read(path: Path | str) -> Carried:
    """Raises BadRequest, in one line, for what is no picture, truncated, damaged or far too large."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadRequest(f"{_name(path)} has {size / 1e6:,.0f} MB: pictures of up to {MAX_BYTES / 1e6:.0f} MB are "
                             "read.")
        with path.open("rb") as file:
            carried = _png(path, file, size) if file.read(8) == _PNG else _exif(path)
    except UnidentifiedImageError:
        raise _unreadable(path, "of no known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _unreadable(path, "far too large") from None
    except (OSError, ValueError, SyntaxError, struct.error, zlib.error) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or _plain(error)) from None
    return carried


def _unreadable(path: Path, why: str) -> BadRequest:
    return BadRequest(f"{_name(path)} is not a picture that can be read ({why}): choose another file.")


def _name(path: Path) -> str:
    return "".join(c if c.isprintable() else "?" for c in path.name)[:80]


def _plain(error: Exception) -> str:
    return "".join(c if c.isprintable() else " " for c in str(error)[:80]) or type(error).__name__


def _sized(path: Path, width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise BadRequest(f"{_name(path)} claims to be {width} x {height} pixels: pictures of up to "
                         f"{MAX_PIXELS // 10**6} megapixels are read.")


# -- PNG


def _png(path: Path, file: BinaryIO, size: int) -> Carried:
    """The chunks one by one; the pixels' are passed over."""
    texts: dict[str, str] = {}
    dropped: list[str] = []
    width = height = 0
    for number in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise _unreadable(path, "truncated")
        length, kind = struct.unpack(">I4s", head)
        if file.tell() + length + 4 > size:
            raise _unreadable(path, "truncated")
        if (kind == b"IHDR") != (number == 0):
            raise _unreadable(path, "its header is damaged")
        if kind == b"IEND":
            return Carried(width, height, texts, tuple(dropped))
        if kind == b"IHDR":
            width, height = struct.unpack(">II", _checked(path, file, kind, length)[:8])
            _sized(path, width, height)
        elif kind in _TEXTS and len(texts) < MAX_TEXTS:
            if length > 4 * MAX_TEXT:
                dropped.append(file.read(80).split(b"\0")[0].decode("latin-1"))
                file.seek(length - min(80, length) + 4, os.SEEK_CUR)
                continue
            key, text = _text(kind, _checked(path, file, kind, length))
            if text is None:
                dropped.append(key)
            else:
                texts.setdefault(key, text)
        else:
            file.seek(length + 4, os.SEEK_CUR)
    raise _unreadable(path, "it has too many parts")


def _checked(path: Path, file: BinaryIO, kind: bytes, length: int) -> bytes:
    body = file.read(length)
    if struct.unpack(">I", file.read(4))[0] != zlib.crc32(kind + body):
        raise _unreadable(path, f"its {kind.decode('ascii', 'replace')} part is damaged")
    return body


def _text(kind: bytes, body: bytes) -> tuple[str, str | None]:
    """(key, text), as PNG's specification has it in 11.3.4; None for a text that is too long."""
    key, _, rest = body.partition(b"\0")
    name = key.decode("latin-1")[:80]
    coding = "latin-1"
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]  # the method: there is one
    elif kind == b"iTXt":
        packed, coding = rest[:1] == b"\1", "utf-8"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # language, translated key
    if packed:
        unpack = zlib.decompressobj()
        rest = unpack.decompress(rest, 4 * MAX_TEXT)
        if unpack.unconsumed_tail:  # a small file may unpack to gigabytes
            return name, None
    text = rest.decode(coding, "replace")
    return name, text if len(text) <= MAX_TEXT else None


# -- JPEG and WebP


def _exif(path: Path) -> Carried:
    with Image.open(path, formats=("JPEG", "WEBP")) as image:
        _sized(path, *image.size)
        exif = image.getexif()
        texts = {}
        if comment := _user_comment(exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")):
            texts["parameters"] = comment
        for tag in (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.ImageDescription):
            key, colon, text = str(exif.get(tag, "")).partition(":")
            if colon and key.strip().lower() in ("prompt", "workflow") and len(text) <= MAX_TEXT:
                texts[key.strip().lower()] = text.strip("\0 ")
        return Carried(*image.size, texts)


def _user_comment(value: object) -> str:
    """EXIF's UserComment: eight bytes that name the coding, then the text. "" if none."""
    if not isinstance(value, bytes) or len(value) > 2 * MAX_TEXT:
        return ""
    mark, text = value[:8], value[8:]
    if mark == b"UNICODE\0":  # the byte order is the writer's; a prompt's letters are mostly below U+0100
        order = "utf-16-be" if text[0::2].count(0) >= text[1::2].count(0) else "utf-16-le"
        return text.decode(order, "replace").strip("\0")
    return text.decode("utf-8", "replace").strip("\0") if mark == b"ASCII\0\0\0" else ""
