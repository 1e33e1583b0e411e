"""What people add to a model by words in the prompt: LoRAs and textual inversions, and where their files lie. No torch.

Beneath the models folder, and those of other studios, at any depth: LoRAs in `lora` (or Automatic1111's `Lora`,
ComfyUI's `loras`), textual inversions in `embeddings`. A name is the file's without its ending; of two files with one
name, each is called by its folder too, sub/name.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from core.errors import BadRequest, closest
from core.models import embedding, lora
from core.models.catalogue import Catalogue, ModelInfo
from core.models.embedding import EmbeddingInfo
from core.models.header import PICKLED, leads_out, shown
from core.models.lora import LoraInfo
from core.models.widths import Widths, widths_of
from core.prompts.chunks import Learned
from core.prompts.networks import Lora, loras_in
from core.request import Request

LORAS = ("lora", "loras", "lycoris")  # folders, however their letters are written
EMBEDDINGS = ("embeddings", "embedding", "textual_inversion")

Info = TypeVar("Info", LoraInfo, EmbeddingInfo)


class Extras:
    """Those of a models folder; it may be missing, or None: then there are none. also: roots of other studios."""

    def __init__(self, models_dir: Path | str | None, also: Iterable[Path] = ()):
        self.models_dir = None if models_dir is None else Path(models_dir)
        self.roots = [] if self.models_dir is None else [self.models_dir, *also]

    @classmethod
    def of(cls, catalogue: Catalogue) -> Extras:
        """Those beside a catalogue's models."""
        return cls(catalogue.models_dir, catalogue.folders.also)

    # -- LoRAs

    def loras(self) -> dict[str, Path]:
        """Name -> file."""
        return self._named(LORAS)

    def lora(self, name: str) -> LoraInfo:
        """By its file's name, or else by what its maker called it. Raises BadRequest, one line."""
        known = self.loras()
        if name not in known:
            alike = [other for other in known if other.rpartition("/")[2] == name] or \
                [other for other in known if self._alias(other, known[other]) == name]
            if len(alike) > 1:
                raise BadRequest(f"There are {len(alike)} LoRAs named {name[:60]!r}: write <lora:{shown(alike[0])}:1> "
                                 f"or <lora:{shown(alike[1])}:1>.")
            if not alike:
                raise BadRequest(f"No LoRA named {name[:60]!r}. " + (closest(name[:60], list(known)) if known else
                                 f"There is none yet: put it into the folder {self._place('lora')}."))
            name = alike[0]
        return self._described(lora.describe, name, known[name])

    def fitting(self, wanted: Lora, info: ModelInfo) -> LoraInfo:
        """The LoRA that a prompt asks for. Raises BadRequest, also for one of another family than the model."""
        found = self.lora(wanted.name)
        if found.misfit(widths_of(info)):
            model = f"{info.name} is {info.kind}" if info.kind else f"{info.name} is none"
            raise BadRequest(f"The LoRA {found.name[:60]!r} is made for {found.family or 'another family of models'}, "
                             f"and {model}: choose one that fits, or another model.")
        return found

    def files(self, request: Request, info: ModelInfo) -> dict[str, Path]:
        """The files of all LoRAs of a request that do something, by their names in its prompts. Raises as `fitting`."""
        prompts = (request.prompt, *(region.prompt for region in request.regions))
        asked = [lora for prompt in prompts for lora in loras_in(prompt) if lora.text or lora.unet]
        return {lora.name: Path(self.fitting(lora, info).path) for lora in asked}

    def _alias(self, name: str, path: Path) -> str:
        try:
            return self._described(lora.describe, name, path).alias
        except BadRequest:
            return ""

    # -- textual inversions

    def embeddings(self) -> dict[str, Path]:
        """Name -> file."""
        return self._named(EMBEDDINGS)

    def learned(self, info: ModelInfo) -> tuple[Learned, ...]:
        """The textual inversions, as a prompt for this model is read with them."""
        texts = widths_of(info).texts
        found = {}
        for name, path in self.embeddings().items():
            plain = name.rpartition("/")[2]
            if plain in found:
                found[plain] = Learned(plain, 1, f"There are two textual inversions named {plain[:60]!r}: rename one.")
                continue
            stamp = _stamp(path)
            try:
                told = self._described(embedding.describe, name, path)
            except BadRequest as error:
                found[plain] = Learned(plain, 1, str(error))
                continue
            problem = "" if not texts or told.widths == texts else \
                f"The textual inversion {plain[:60]!r} is made for {told.family or 'another family of models'} " \
                f"({_sizes(told.widths)} numbers a vector), and {info.name} reads {_sizes(texts)}: delete the word, " \
                "or choose another model."
            found[plain] = Learned(plain, told.vectors, problem, str(path), stamp[1])
        return tuple(found.values())

    # -- both

    def rows(self, info: ModelInfo | None = None) -> list[dict[str, Any]]:
        """One dictionary per file, for lists; one that cannot be used has an "error". fits: with the model of `info`;
        None where nobody asks, or nobody can tell."""
        widths = widths_of(info) if info else None
        rows: list[dict[str, Any]] = []
        for kind, files in (("lora", self.loras()), ("embedding", self.embeddings())):
            for name, path in files.items():
                row = {"kind": kind, "name": name}
                try:
                    rows.append(row | (_lora_row(self._described(lora.describe, name, path), widths)
                                       if kind == "lora" else
                                       _embedding_row(self._described(embedding.describe, name, path), widths)))
                except BadRequest as error:
                    rows.append(row | {"error": str(error)})
        return rows

    def _described(self, describe: Callable[[str, Path, tuple[int, int]], Info], name: str, path: Path) -> Info:
        if leads_out(path, self.roots):
            raise BadRequest(f"{shown(path.name)} is a link that leads out of the models folder: put the file itself "
                             "there.")
        return describe(name, path, _stamp(path))

    def _named(self, folders: Iterable[str]) -> dict[str, Path]:
        """Name -> file, in the order of their names: the shortest that no other file has."""
        files = list(self._files(folders))
        forms = [[path.stem for _, path in files],
                 [path.relative_to(root).with_suffix("").as_posix() for root, path in files],
                 [path.relative_to(root.parent).with_suffix("").as_posix() for root, path in files],
                 [path.relative_to(root.parent).as_posix() for root, path in files]]
        counts = [Counter(form) for form in forms]
        named = {next(form[k] for form, count in zip(forms, counts, strict=True) if count[form[k]] == 1): path
                 for k, (_, path) in enumerate(files)}
        return dict(sorted(named.items(), key=lambda item: item[0].lower()))

    def _files(self, folders: Iterable[str]) -> Iterator[tuple[Path, Path]]:
        """Folder of the models folder, and file. A pickled file whose safetensors lie beside it is passed over."""
        places = [*self.roots, *(root / "models" for root in self.roots[1:])]  # other studios have them at either
        for root in (folder for place in places for folder in sorted(place.glob("*/"))
                     if folder.name.lower() in folders):
            for at, inner, names in os.walk(root):
                inner[:] = sorted(name for name in inner if not name.startswith("."))
                for path in (Path(at, name) for name in sorted(names) if not name.startswith(".")):
                    pickled = path.suffix.lower() in PICKLED and path.with_suffix(".safetensors").name not in names
                    if pickled or path.suffix.lower() == ".safetensors":
                        yield root, path

    def _place(self, folder: str) -> str:
        return shown(Path(self.models_dir or "models") / folder)


def _lora_row(found: LoraInfo, model: Widths | None) -> dict[str, Any]:
    return {"family": found.family, "triggers": list(found.triggers), "alias": found.alias,
            "megabytes": round(found.megabytes, 1),
            "fits": None if model is None or not model.context else not found.misfit(model)}


def _embedding_row(found: EmbeddingInfo, model: Widths | None) -> dict[str, Any]:
    return {"family": found.family, "vectors": found.vectors, "megabytes": round(found.megabytes, 3),
            "fits": None if model is None or not model.texts else found.widths == model.texts}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0  # reading it will tell
    return stat.st_size, stat.st_mtime_ns


def _sizes(widths: tuple[int, ...]) -> str:
    return " and ".join(f"{width:,}" for width in widths)
