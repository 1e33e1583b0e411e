"""Hub id -> folder on disk. Needs the network once; afterwards the folder, or the hub's own cache, answers."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import LoomError, ModelError
from core.models.header import shown

# What the page offers to download; others are named on the command line. Diffusers repositories of safetensors.
OFFERED = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0",
           "stabilityai/sdxl-turbo", "Lykon/dreamshaper-8", "SimianLuo/LCM_Dreamshaper_v7")
_PARTS = ["model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors"]
# of a download: what a model is painted with, and what says whose it is
_WANTED = re.compile(r"(model_index\.json|README\.md|LICENSE(\.\w+)?"
                     r"|(unet|vae|text_encoder(_2)?|tokenizer(_2)?|scheduler)/[\w.-]+\.(json|txt|safetensors))")
_VARIANT = re.compile(r"\.(fp16|non_ema)[.-]")


class Stopped(LoomError):
    """Somebody pressed Stop."""


def fetch(name: str) -> Path:
    """Download (or find in the cache) the safetensors parts of a diffusers repository. Raises ModelError."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_PARTS, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=_PARTS, ignore_patterns=["*.fp16.*", "*.non_ema.*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, httpx.HTTPError) as error:
        reason = type(error).__name__
        raise ModelError(f"{name} could not be fetched from the hub ({reason}): check the name and the network, or "
                         "copy the model's folder into the models folder by hand.") from None


def target_of(name: str, models_dir: Path) -> Path:
    """Where a download goes: a folder with the repository's name."""
    return models_dir / name.rpartition("/")[2]


def download(name: str, models_dir: Path, told: Callable[[int, int], object], cancel: threading.Event,
             endpoint: str | None = None) -> Path:
    """A diffusers repository into the models folder; what an earlier try got is not fetched again.

    told(bytes that are here, bytes in all). Small files come first, so that a repository of another kind costs little.
    Raises ModelError, one line, with what is to do by hand; Stopped once `cancel` is set.
    """
    from huggingface_hub import HfApi, hf_hub_download

    from core.models.catalogue import pipeline_of

    target = target_of(name, models_dir)
    if target.exists():
        raise ModelError(f"{shown(target)} is there already: choose it in the list, or take it away first.")
    draft = models_dir / f".{target.name}.part"
    try:
        about = HfApi(endpoint=endpoint).model_info(name, files_metadata=True)
        wanted = _wanted({one.rfilename: one.size or 0 for one in about.siblings or []})
        total, done = sum(wanted.values()), 0
        for file, size in sorted(wanted.items(), key=lambda one: (one[0].endswith(".safetensors"), one[0])):
            if file.endswith(".safetensors"):
                pipeline_of(draft)
            hf_hub_download(name, file, local_dir=draft, revision=about.sha, endpoint=endpoint,
                            tqdm_class=_progress(partial(_tell, told, done, total), cancel))
            done += size
            told(done, total)
        pipeline_of(draft)
        shutil.rmtree(draft / ".cache", ignore_errors=True)
        return draft.rename(target)
    except LoomError:
        raise
    except Exception as error:  # whatever three libraries make of a network that is not there, or breaks off
        raise ModelError(f"{name} could not be downloaded ({type(error).__name__}): check the network, or place it by "
                         f"hand: its folder (model_index.json, unet, vae, ...) as {shown(target)}.") from None


def _wanted(files: dict[str, int]) -> dict[str, int]:
    """Name -> bytes of what is downloaded: of each part the ordinary weights, or those of its fp16 variant where there
    are no others."""
    known = {name: size for name, size in files.items() if _WANTED.fullmatch(name)}
    plain = {name.rpartition("/")[0] for name in known if name.endswith(".safetensors") and not _VARIANT.search(name)}
    return {name: size for name, size in known.items()
            if not _VARIANT.search(name) or ".fp16" in name and name.rpartition("/")[0] not in plain}


def _tell(told: Callable[[int, int], object], before: int, total: int, taken: int) -> None:
    told(before + taken, total)


def _progress(told: Callable[[int], object], cancel: threading.Event) -> Any:
    """A progress bar that nobody sees: it tells the bytes of one file, and ends it when that is wished."""
    from tqdm.std import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any):
            self.bytes = int(options.get("initial") or 0)
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if cancel.is_set():
                raise Stopped("The download was stopped; what is here is kept for the next try.")
            self.bytes += int(n or 0)
            told(self.bytes)

    return Bar


@dataclass(eq=False)
class Download:
    """One download, as its thread writes it and everybody may read it."""

    name: str
    taken: int = 0  # bytes
    total: int = 0
    over: bool = False
    error: str = ""
    cancel: threading.Event = field(default_factory=threading.Event)


class Downloads:
    """At most one at a time, of the ids that are allowed. Ids never come from anywhere else."""

    def __init__(self, models_dir: Path, named: Sequence[str] = (), endpoint: str | None = None):
        self.models_dir, self.allowed, self.endpoint = models_dir, tuple(dict.fromkeys((*named, *OFFERED))), endpoint
        self.now: Download | None = None
        self._lock = threading.Lock()

    def offered(self) -> list[str]:
        """The ids that are allowed and not here yet."""
        return [name for name in self.allowed if not target_of(name, self.models_dir).exists()]

    def start(self, name: str) -> Download:
        """Raises ModelError for an id that is not allowed, or while another is on its way."""
        if name not in self.allowed:
            raise ModelError(f"{name[:80]!r} is not among the models that may be downloaded: choose one from the list, "
                             "or start with --hub and its id.")
        with self._lock:
            if self.now and not self.now.over:
                raise ModelError(f"{self.now.name} is on its way: wait for it, or stop it first.")
            self.now = Download(name)
        threading.Thread(target=self._run, args=(self.now,), name="download", daemon=True).start()
        return self.now

    def stop(self) -> None:
        if self.now:
            self.now.cancel.set()

    def _run(self, one: Download) -> None:
        def told(taken: int, total: int) -> None:
            one.taken, one.total = taken, total

        try:
            download(one.name, self.models_dir, told, one.cancel, self.endpoint)
        except LoomError as error:
            one.error = str(error)
        finally:
            one.over = True
