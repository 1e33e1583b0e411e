"""`python -m core convert`: a pickled checkpoint -> safetensors. The only place where a pickle is opened, and only by
torch's restricted reader (weights_only), which builds tensors and plain containers and runs nothing else.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.files import disk_errors
from core.models.header import shown


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a .ckpt, .pt, .pth or .bin, from a source you trust")
    parser.add_argument("--out", type=Path, help="the .safetensors to write; default: beside it, by its name")
    parser.set_defaults(run=command)


def command(options: argparse.Namespace) -> None:
    """Raises ModelError for a file that holds no weights, or more than weights."""
    from safetensors.torch import save_file

    out = options.out or options.file.with_suffix(".safetensors")
    if out.suffix != ".safetensors":
        raise ModelError(f"{shown(out)} must end in .safetensors, or nobody will know what it is.")
    if out.exists():
        raise ModelError(f"{shown(out)} is there already: name another place with --out.")
    weights = read_pickled(options.file)
    draft = out.with_name(f".{out.name}.part")
    with disk_errors("file", out.parent):
        try:
            save_file(weights, draft)
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)
    print(out)


def read_pickled(path: Path) -> dict[str, Any]:
    """The tensors of a pickled checkpoint, each in memory of its own."""
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"There is no file {shown(path)}: check the path.") from None
    except Exception as error:  # a broken or hostile file may break any line of it
        wants = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        if wants:
            raise ModelError(f"{shown(path)} holds more than weights, which opening it would run ({wants[1]}), so it "
                             "is not opened: look for its safetensors version.") from None
        raise ModelError(f"{shown(path)} is no checkpoint, or a broken one: copy or download it anew.") from None
    while isinstance(held, Mapping) and isinstance(held.get("state_dict"), Mapping):
        held = held["state_dict"]
    if isinstance(held, Mapping) and isinstance(held.get("string_to_param"), Mapping):  # a textual inversion
        held = {"emb_params": next(iter(held["string_to_param"].values()), None)}
    weights = {str(name): value.detach().contiguous().clone() for name, value in held.items()
               if isinstance(value, torch.Tensor)} if isinstance(held, Mapping) else {}
    if not weights:
        raise ModelError(f"{shown(path)} holds no weights by name: it is no checkpoint.")
    return weights
