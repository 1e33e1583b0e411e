"""InvokeAI's JSON: "invokeai_metadata" since version 3, "sd-metadata" before.

Source: InvokeAI, app/invocations/metadata.py (CoreMetadataInvocation) and docs/features of version 2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from core.infotext.settings import MAX_OTHERS, Settings, number, solver

NEW, OLD = "invokeai_metadata", "sd-metadata"
_FIELDS = {"positive_prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed", "steps": "steps",
           "cfg_scale": "guidance", "width": "width", "height": "height"}
_WORDLESS = ("app_version", "generation_mode", "rand_device")  # of the machinery, not of the picture


def read(texts: Mapping[str, str]) -> Settings | None:
    """None when neither is there."""
    for key, take in ((NEW, _new), (OLD, _old)):
        try:
            found = json.loads(texts[key]) if key in texts else None
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            values, other = take(found)
            if values:
                return Settings("InvokeAI", values, other, texts[key])
    return None


def _new(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    other: dict[str, str] = {}
    for key, value in found.items():
        if key in _FIELDS and value is not None:
            values[_FIELDS[key]] = str(value) if "prompt" in key else number(value)
        elif key == "model" and isinstance(value, dict):
            values["model"] = str(value.get("name") or value.get("model_name") or "")
        elif key == "clip_skip" and isinstance(value, int) and not isinstance(value, bool):
            values["clip_skip"] = value + 1  # layers that are left out, there
        elif key != "scheduler" and key not in _WORDLESS and value not in (None, [], {}, "") and \
                len(other) < MAX_OTHERS:
            other[str(key)] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if "scheduler" in found:
        solver(values, other, found["scheduler"])
    return {name: value for name, value in values.items() if value != "" or "prompt" in name}, other


def _old(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The negative words stand in brackets inside the prompt."""
    image = found.get("image")
    if not isinstance(image, dict):
        return {}, {}
    prompt = image.get("prompt", "")
    if isinstance(prompt, list):
        prompt = ", ".join(str(part.get("prompt", "")) for part in prompt if isinstance(part, dict))
    negative = re.findall(r"\[([^\[\]]*)\]", str(prompt))
    values: dict[str, Any] = {"prompt": re.sub(r"\s*\[[^\[\]]*\]", "", str(prompt)).strip(),
                              "negative_prompt": ", ".join(negative)}
    other: dict[str, str] = {}
    for key, value in image.items():
        if key in ("seed", "steps", "cfg_scale", "width", "height"):
            values[_FIELDS[key]] = number(value)
        elif key not in ("prompt", "sampler") and value not in (None, [], {}, "") and len(other) < MAX_OTHERS:
            other[str(key)] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    solver(values, other, image.get("sampler"))
    if weights := found.get("model_weights"):
        values["model"] = str(weights)
    return values, other
