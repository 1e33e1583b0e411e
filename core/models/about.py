"""What a model brings beside its weights: precision, licence, a preview picture. No torch.

Whatever is opened here lies in a folder that was scanned: a link that leads out of it is passed over.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from core.errors import ModelError
from core.files import save_jpeg
from core.models import header
from core.models.header import BITS, Header

if TYPE_CHECKING:
    from core.models.catalogue import ModelInfo

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md", "README.md")
SIDE = 256  # pixels of a preview picture in a list
MOST_TEXT = 64 * 1024  # bytes of a licence that are read
_FRONT = re.compile(r"\A\s*---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.S)
_TYPES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
          "I8": "int8", "U8": "int8"}


def precision(path: Path) -> str:
    """What most numbers of a model on disk are: fp16, bf16, fp32, fp8, ...; "" for one that cannot be read."""
    try:
        return _most(header.read(_weights(path)))
    except (ModelError, StopIteration):
        return ""


def _weights(path: Path) -> Path:
    return path if path.is_file() else next(iter(sorted((path / "unet").glob("*.safetensors"))))


def _most(read: Header) -> str:
    count: Counter[str] = Counter()
    for entry in read.tensors.values():
        count[entry.dtype] += (entry.end - entry.start) * 8 // BITS[entry.dtype]
    return _TYPES.get(count.most_common(1)[0][0], "") if count else ""


def licence(info: ModelInfo, roots: Iterable[Path]) -> tuple[str, str]:
    """(in a few words, as much of its text as there is) of a model's licence; both "" where nothing says.

    What its header notes (modelspec.license), else NAME.license.txt beside it, else LICENSE or the first lines of a
    README in its folder, if it has that to itself.
    """
    path, roots = Path(info.path), list(roots)
    notes = _clean(header.read(path).metadata.get("modelspec.license", "")) if info.is_file else ""
    texts = [(file, _clean(_text(file, roots))) for file in licence_files(path)]
    front = next((said for file, text in texts if file.name == "README.md" and (said := _front(text))), "")
    text = next((text for file, text in texts if file.name != "README.md" and text), "")
    first = next((line.strip(" #*\t") for line in text.splitlines() if line.strip(" #*\t")), "")
    words = " ".join((notes or front or first).split())
    return words if len(words) <= 80 else words[:79] + "…", text or notes or front


def licence_files(path: Path) -> list[Path]:
    """Where the text of a model's licence may stand."""
    if path.is_dir():
        return [path / name for name in LICENCES]
    own = path.with_name(f"{path.stem}.license.txt")
    return [own, *(path.with_name(name) for name in LICENCES)] if _alone(path) else [own]


def _alone(path: Path) -> bool:
    """Whether a checkpoint has a folder to itself; looked up no further than to the next one."""
    try:
        with os.scandir(path.parent) as found:
            return not any(one.name != path.name and one.name.lower().endswith((".safetensors", *header.PICKLED))
                           or one.is_dir() for one in found)
    except OSError:
        return False


def picture(path: Path, roots: Iterable[Path]) -> Path | None:
    """The preview picture of a model: NAME.png or NAME.preview.png (.jpg, .jpeg, .webp) beside it, as A1111 and its
    relatives have them, or preview.png in a diffusers folder."""
    base = path if path.is_dir() else path.with_suffix("")
    names = [f"{base.name}{middle}{ending}" for middle in ("", ".preview") for ending in PICTURES]
    beside = [path.with_name(name) for name in names]
    inside = [path / f"preview{ending}" for ending in PICTURES] if path.is_dir() else []
    roots = list(roots)
    return next((file for file in (*beside, *inside) if file.is_file() and not header.leads_out(file, roots)), None)


def shrink(picture: Path, out: Path) -> bool:
    """A small JPEG of a picture, whoever made it: its pixels and nothing else. False for what is no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as a picture of more pixels than anybody means to send
            with Image.open(picture, formats=("PNG", "JPEG", "WEBP")) as image:
                image.draft("RGB", (2 * SIDE, 2 * SIDE))
                small = image.convert("RGB")
                small.thumbnail((SIDE, SIDE))
        out.parent.mkdir(parents=True, exist_ok=True)
        save_jpeg(np.asarray(small), out)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return False
    return True


def _text(path: Path, roots: Iterable[Path]) -> str:
    if not path.is_file() or header.leads_out(path, roots):
        return ""
    try:
        with path.open("rb") as file:
            return file.read(MOST_TEXT).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _clean(text: str) -> str:
    """Printable lines."""
    return "\n".join("".join(c for c in line.expandtabs(4) if c.isprintable()).rstrip() for line in text.splitlines())


def _front(readme: str) -> str:
    """The licence in the front matter of a hub's README."""
    found = _FRONT.match(readme)
    said = dict(re.findall(r"^(license(?:_name)?):[ \t]*(\S.*)$", found[1], re.M)) if found else {}
    return str(said.get("license_name") or said.get("license", "")).strip(" \"'")
