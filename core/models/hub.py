"""Hub id -> folder on disk. Needs the network once; afterwards the hub's own cache answers."""

from __future__ import annotations

from pathlib import Path

from core.errors import ModelError

_PARTS = ["model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors"]


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
