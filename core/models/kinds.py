"""Which model a single file in the original layout holds: read off its header's names and shapes alone. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import ModelError
from core.models.header import Header, shown

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP = "cond_stage_model.transformer."  # of SD 1
OPEN_CLIP = "cond_stage_model.model."  # of SD 2
CLIP_XL, OPEN_CLIP_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
OPEN_CLIP_REFINER = "conditioner.embedders.0.model."

# ComfyUI's observation (comfy/supported_models.py, class SD20): in SD 2 models that predict v this layer's biases
# spread wider than this, in those that predict the noise less.
_TELLING, _SPREAD = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09
_CONVERTED = "take a checkpoint of Stable Diffusion 1, 2 or XL"


@dataclass(frozen=True)
class Kind:
    """A family as single files come in it."""

    words: str  # as people call it
    family: str  # module in core.models
    side: int  # pixels it was trained at
    texts: tuple[str, ...]  # where its text encoders' names begin


KINDS = {
    "sd1": Kind("Stable Diffusion 1", "sd", 512, (CLIP,)),
    "sd2": Kind("Stable Diffusion 2", "sd", 512, (OPEN_CLIP,)),  # 768 where it predicts v
    "sdxl": Kind("Stable Diffusion XL", "sdxl", 1024, (CLIP_XL, OPEN_CLIP_XL)),
    "refiner": Kind("Refiner of Stable Diffusion XL", "refiner", 1024, (OPEN_CLIP_REFINER,)),
}
# input channels of the U-Net -> what it is for, when it is not for text alone
_OTHER_INPUTS = {9: "an inpainting model, which paints into holes of a picture", 8: "an InstructPix2Pix model, which "
                 "edits pictures", 5: "a depth-to-image model", 7: "an upscaler"}
# a name that holds this -> what the file is
_NO_CHECKPOINTS = (
    (r"lora_|\.lora|\.hada_|\.lokr_", "is a LoRA, a change to a model and no model by itself: put it into the "
     "folder lora beside the models and write <lora:NAME:1> into the prompt"),
    (r"^control_model\.|controlnet_cond_embedding|^zero_convs\.", "is a ControlNet, an addition to a model: "
     "ControlNets are not loaded yet"),
    (r"^emb_params$|^clip_[gl]$|^string_to_param", "is a textual inversion, a word and no model: put it into the "
     "folder embeddings beside the models and write its name into the prompt"),
    (r"double_blocks\.|double_stream_blocks\.", f"is a Flux model or one of its relatives, not known here yet: "
     f"{_CONVERTED}"),
    (r"joint_blocks\.", f"is a Stable Diffusion 3 model, not known here yet: {_CONVERTED}"),
    (r"^down_blocks\.\d+\.(resnets|attentions)", "is a U-Net by itself, without text encoder and VAE: take the whole "
     "checkpoint, or the diffusers folder it belongs to"),
    (r"^(text_model\.|transformer\.resblocks)", "is a text encoder by itself: take the whole checkpoint"),
)


def recognise(header: Header) -> Kind:
    """The family of a checkpoint. Raises ModelError, one line, for everything that cannot be painted with."""
    names, who = header.tensors, shown(header.path)
    if not names:
        raise ModelError(f"{who} holds no tensors: copy or download it anew.")
    conv_in = header.shape(UNET + "input_blocks.0.0.weight")
    if len(conv_in) != 4:
        if _is_vae(header) or _is_tiny(header):
            raise ModelError(f"{who} is a VAE, a part of a model: put it into the folder vae beside the models and add "
                             f"it to a model's name, as in MODEL+{shown(Path(header.path.stem))}.")
        for pattern, what in _NO_CHECKPOINTS:
            if _any(pattern, names):
                raise ModelError(f"{who} {what}.")
        raise ModelError(f"{who} is no checkpoint that is known here: {_CONVERTED}.")
    if _any(r"lora_|\.lora", names):
        raise ModelError(f"{who} is a LoRA, a change to a model and no model by itself: put it into the folder lora "
                         "beside the models and write <lora:NAME:1> into the prompt.")
    if conv_in[1] != 4:
        what = _OTHER_INPUTS.get(conv_in[1], f"a model whose network takes {conv_in[1]} channels")
        raise ModelError(f"{who} is {what}: such models are not loaded yet, {_CONVERTED}.")
    if "edm_mean" in names:
        raise ModelError(f"{who} is a Playground 2.5 model, whose noise is counted otherwise: {_CONVERTED}.")
    kind = next((kind for kind in KINDS.values() if all(_begins(text, names) for text in kind.texts)), None)
    if kind is None:
        raise ModelError(f"{who} lacks its text encoder: take the whole checkpoint.")
    if not _begins(VAE, names):
        raise ModelError(f"{who} lacks its VAE: take the whole checkpoint.")
    if kind.family == "sd" and _begins(UNET + "label_emb.", names):
        raise ModelError(f"{who} is a Stable Diffusion 2 that takes more than text (unCLIP, upscaler): {_CONVERTED}.")
    if kind.family in ("sdxl", "refiner") and not _begins(UNET + "label_emb.", names):
        raise ModelError(f"{who} has the text encoders of Stable Diffusion XL, but another U-Net: {_CONVERTED}.")
    return kind


@dataclass(frozen=True)
class Hints:
    """What the shapes do not tell."""

    prediction: str  # epsilon or v_prediction
    side: int  # pixels
    zero_terminal: bool = False  # trained to full noise: rescale_betas_zero_snr


def hints(header: Header, kind: Kind) -> Hints:
    """Prediction and size of a checkpoint. The first that says something wins: a file NAME.json beside it, then
    NAME.yaml, the header's notes (ModelSpec), marker tensors, and for SD 2 the spread of one layer's biases.

    Raises ModelError for a file beside it that means nothing.
    """
    notes, beside = header.metadata, _beside(header.path)
    told = [beside.get("prediction"), _short(notes.get("modelspec.prediction_type", "")),
            "v_prediction" if re.search(r"768-v|v-pred", notes.get("modelspec.architecture", "")) else None,
            "v_prediction" if "v_pred" in header.tensors else None, _measured(header, kind)]
    prediction = next((str(word) for word in told if word), "epsilon")
    side = 768 if kind is KINDS["sd2"] and prediction == "v_prediction" else kind.side
    said = re.fullmatch(r"(\d{2,4})x(\d{2,4})", notes.get("modelspec.resolution", ""))
    if said and said[1] == said[2] and int(said[1]) % 64 == 0:
        side = int(said[1])
    return Hints(prediction, int(beside.get("side") or side),
                 bool(beside.get("zero_terminal") or "ztsnr" in header.tensors))


def _measured(header: Header, kind: Kind) -> str | None:
    if kind is not KINDS["sd2"] or header.tensors.get(_TELLING, (None,))[0] not in ("F16", "BF16", "F32"):
        return None
    return "v_prediction" if header.numbers(_TELLING).std() > _SPREAD else "epsilon"


def _short(word: str) -> str | None:
    return {"v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction", "eps": "epsilon",
            "epsilon": "epsilon"}.get(word.strip().lower())


def _beside(path: Path) -> dict[str, str | int | bool]:
    """What NAME.json and NAME.yaml beside a checkpoint say; other keys of theirs are other programs' business."""
    found: dict[str, str | int | bool] = {}
    yaml = _text(path.with_suffix(".yaml"))
    if said := re.search(r"^\s*parameterization:\s*[\"']?(v|eps)\b", yaml, re.M):
        found["prediction"] = str(_short(said[1]))
    notes = path.with_suffix(".json")
    if text := _text(notes):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise ModelError(f"{shown(notes)} is no JSON: mend or delete it.") from None
        if not isinstance(values, dict):
            return found
        if "prediction_type" in values:
            word = _short(str(values["prediction_type"]))
            if word is None:
                raise ModelError(f"{shown(notes)} has the prediction_type {str(values['prediction_type'])[:40]!r}: "
                                 "write epsilon or v_prediction.")
            found["prediction"] = word
        if "size" in values:
            if type(values["size"]) is not int or values["size"] % 64 or not 64 <= values["size"] <= 4096:
                raise ModelError(f"{shown(notes)} has the size {str(values['size'])[:40]!r}: write its pixels a side, "
                                 "like 512 or 768.")
            found["side"] = values["size"]
        found["zero_terminal"] = values.get("rescale_betas_zero_snr") is True
    return found


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(2**20)
    except OSError:
        return ""


def _is_vae(header: Header) -> bool:
    return bool(vae_prefix(header) is not None and not _begins(UNET, header.tensors))


def vae_prefix(header: Header) -> str | None:
    """What the names of a VAE in the original or in diffusers' layout begin with; None where there is none."""
    for prefix in ("", VAE):
        if {prefix + "encoder.conv_in.weight", prefix + "decoder.conv_in.weight"} <= header.tensors.keys():
            return prefix
    return None


def _is_tiny(header: Header) -> bool:
    """TAESD's decoder as its authors publish it, or an AutoencoderTiny."""
    return len(header.shape("1.weight")) == 4 and "3.conv.0.weight" in header.tensors or \
        "decoder.layers.0.weight" in header.tensors


def _begins(prefix: str, names: Iterable[str]) -> bool:
    return any(name.startswith(prefix) for name in names)


def _any(pattern: str, names: Iterable[str]) -> bool:
    found = re.compile(pattern)
    return any(found.search(name) for name in names)
