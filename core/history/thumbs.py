"""Small pictures for the gallery: made when first looked at, kept as JPEG files."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from core.errors import BadRequest
from core.files import disk_errors
from core.infotext.container import MAX_PIXELS

if TYPE_CHECKING:
    from core.history import Entry, History

SIDE = 320  # pixels: tiles are up to 220 wide, on screens with two dots to a pixel a bit soft
QUALITY = 82


def name(entry: Entry) -> str:
    """Another one for every change of the file; the same in the trash."""
    return hashlib.sha256(f"{entry.place}|{entry.stamp}|{entry.bytes}".encode()).hexdigest()[:24] + ".jpg"


def thumb(history: History, entry: Entry, spare: Path) -> Path:
    """The small picture of an entry. spare: a folder for those of outputs that cannot be written.

    Raises BadRequest for a picture that is gone or cannot be decoded, OutputError.
    """
    path = spare / name(entry) if history.note else history.thumb_path(entry)
    if path.exists():
        return path
    try:
        with Image.open(history.path(entry), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadRequest(f"{entry.place} is too large for the gallery.")
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRequest(f"{entry.place} cannot be shown ({str(error)[:60]}): its file is damaged.") from None
    with disk_errors("small pictures", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{secrets.token_hex(4)}.part")
        small.save(draft, "JPEG", quality=QUALITY)
        draft.replace(path)
    return path
