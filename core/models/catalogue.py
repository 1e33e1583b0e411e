"""Which models are here: Storybook, what lies in the models folder, and one given by path or hub id.

Reads small JSON files and the headers of safetensors files only (no torch): the page lists models before any heavy
import. A model's name may say which VAE it decodes with: MODEL+VAE.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import ModelError, closest
from core.models import about, header, kinds, shapes
from core.models.distilled import Advice, advise
from core.models.folders import TINY, Folders
from core.models.header import PICKLED, leads_out, refusal, refuse_links, shown

STORYBOOK = Path(__file__).parent.parent / "storybook" / "weights"
# _class_name of model_index.json -> module in core.models
FAMILIES = {"StableDiffusionPipeline": "sd", "StableDiffusionXLPipeline": "sdxl",
            "LatentConsistencyModelPipeline": "sd", "StableDiffusionXLImg2ImgPipeline": "refiner"}
# a folder's text encoders
TEXTS = {"sd": ("text_encoder",), "sdxl": ("text_encoder", "text_encoder_2"), "refiner": ("text_encoder_2",)}
PREDICTIONS = ("epsilon", "v_prediction", "sample")  # what `core.denoise` turns into a clean picture


@dataclass(frozen=True)
class ModelInfo:
    """What can be said of a model without loading it."""

    name: str  # what a Request calls it
    path: str  # folder, file, or hub id
    family: str
    width: int  # pixels it was trained at
    height: int
    multiple: int  # width and height must be multiples of this many pixels
    tokens: int  # prompt tokens it reads, begin and end marks included
    tiny: bool  # has a tiny autoencoder for previews
    megabytes: float  # size of its weights on disk
    decoder_channels: int = 128  # of the decoder's last level, at full size: what its memory grows with
    kind: str = ""  # as people call it: Stable Diffusion 1, ...
    prediction: str = "epsilon"
    zero_terminal: bool = False  # trained to full noise
    vae: str = ""  # path of another VAE that it decodes with
    layers: int | None = None  # of its text encoder, the shallowest of several; None where nothing says
    small_decoder: str = ""  # path of the tiny autoencoder, for a single file
    advice: Advice | None = None  # for models distilled to few steps

    @property
    def is_storybook(self) -> bool:
        return Path(self.path) == STORYBOOK

    @property
    def crop_after(self) -> float:
        """The `Request.crop_after` that its small regions are best asked with: Storybook has learnt from close-ups."""
        return 0.0 if self.is_storybook else 1.0

    @property
    def is_refiner(self) -> bool:
        """It only takes over from a base model of SDXL."""
        return self.family == "refiner"

    @property
    def is_file(self) -> bool:
        return self.path.lower().endswith(".safetensors")


class Catalogue:
    """The models a person can choose. models_dir: a folder of diffusers folders and checkpoints; it may be missing.

    extra: a path or hub id given on the command line, offered beside the others; with "+" and a VAE's name or path.
    also: folders of other studios; see core.models.folders.
    """

    def __init__(self, models_dir: Path | str = "models", extra: str | None = None, also: Iterable[Path | str] = ()):
        self.models_dir = Path(models_dir)
        self.folders = Folders(models_dir, also)
        self.extra = extra if extra and extra != "storybook" else None

    def names(self) -> list[str]:
        """Storybook, the extra one, those of the folders, and at last what is there and never loaded."""
        found = list(self._found())
        return ["storybook", *([self.extra] if self.extra and self.extra not in found else []), *found,
                *sorted(self.refused())]

    def _found(self) -> dict[str, Path]:
        """Name -> diffusers folder or file."""
        return self.folders.scan().models

    def refused(self) -> dict[str, Path]:
        """Name -> pickled checkpoint or folder that leads out: shown, and never loaded."""
        found = self.folders.scan()
        return {**found.links, **found.refused}

    def rows(self) -> list[dict[str, Any]]:
        """`row` of every name, for lists."""
        return [self.row(name) for name in self.names()]

    def row(self, name: str) -> dict[str, Any]:
        """What a list says of a model; one that cannot be loaded has an "error" instead of its figures."""
        try:
            info = self.get(name)
            licence, _ = about.licence(info, self.roots(Path(info.path)))
        except ModelError as error:
            return {"name": name, "error": str(error)}
        return {"name": name, "family": info.family, "width": info.width, "height": info.height,
                "multiple": info.multiple, "tokens": info.tokens, "tiny_preview": info.tiny,
                "megabytes": round(info.megabytes, 1), "kind": info.kind, "prediction": info.prediction,
                "recommended": info.advice._asdict() if info.advice else None, "crop_after": info.crop_after,
                "precision": about.precision(Path(info.path)), "licence": licence}

    def roots(self, path: Path) -> list[Path]:
        """The folders in which files that belong to a model at `path` may lie: those that are scanned, and its own
        where the person who started the program named it."""
        own = [] if self.folders.lists(path) else [path.parent if path.is_file() else path]
        return [*self.folders.roots, *own]

    def get(self, name: str) -> ModelInfo:
        """Raises ModelError when there is no such model, or it is broken or of an unknown family."""
        if name == "storybook":
            return describe("storybook", STORYBOOK)
        if path := self._found().get(name):
            return self._describe_own(name, path)
        if path := self.refused().get(name):
            raise ModelError(refusal(path) if path.suffix.lower() in PICKLED and not path.is_dir() else
                             f"{shown(path)} is a link that leads out of the models folder: start with --also-models "
                             f"{shown(os.path.realpath(path))} for what lies there.")
        if name == self.extra and (os.path.exists(name) or "+" not in name):
            # only what the person who started the program named: never a path from the page
            return describe(name, Path(name)) if os.path.exists(name) or not _is_hub_id(name) else _hub(name)
        model, plus, vae = name.rpartition("+")
        if plus and model and vae:
            given = name == self.extra  # then both parts may be paths
            info = (Catalogue(self.models_dir, model, self.folders.also) if given else self).get(model)
            return with_vae(replace(info, name=name), self._vae(vae, given))
        raise ModelError(f"No model named {name[:80]!r}. {closest(name[:80], self.names())}")

    def _describe_own(self, name: str, path: Path) -> ModelInfo:
        if path.is_file() and leads_out(path, self.folders.roots):
            raise ModelError(f"{shown(path)} is a link that leads out of the models folder: put the file itself "
                             "there, or start with --model and its path.")
        if not path.is_file():
            refuse_links(path, self.folders.roots)
        info = describe(name, path)
        for part in filter(None, (info.vae, info.small_decoder)):  # what lies beside a file goes with it
            if leads_out(Path(part), self.folders.roots):
                raise ModelError(f"{shown(part)} is a link that leads out of the models folder: put the file itself "
                                 "there.")
        return info

    def vaes(self) -> dict[str, Path]:
        """Name -> a VAE: a file or diffusers folder in a folder `vae`, or a diffusers folder beside the models."""
        return self.folders.scan().vaes

    def _vae(self, name: str, given: bool) -> Path:
        known = self.vaes()
        path = known.get(name) or self._found().get(name)  # a VAE that lies among the models, or that of a whole one
        if path and (path / "model_index.json").is_file():
            path = path / "vae"
        if path is None and given and os.path.exists(name):
            return Path(name)
        if path is None:
            raise ModelError(f"No VAE named {name[:80]!r} in {shown(self.models_dir / 'vae')}. "
                             f"{closest(name[:80], sorted(known)) if known else 'There is none yet.'}")
        if path.is_file() and leads_out(path, self.folders.roots):
            raise ModelError(f"{shown(path)} is a link that leads out of the models folder: put the file itself there.")
        if not path.is_file():
            refuse_links(path, self.folders.roots)
        return path


def with_vae(info: ModelInfo, path: Path) -> ModelInfo:
    """A model that decodes with another VAE. Raises ModelError for one that cannot go with it."""
    if info.is_storybook:
        raise ModelError("Storybook decodes with its own VAE, whose latents no other knows: leave --vae away.")
    if path.is_file():
        read = header.read(path)
        if kinds.vae_prefix(read) is None:
            raise ModelError(f"{shown(path)} is no VAE: choose another.")
        config, megabytes = shapes.vae_config(read, kinds.vae_prefix(read) or ""), path.stat().st_size / 2**20
    else:
        config, weights = _json(path, "config.json"), weights_of(path)
        if not weights:
            raise ModelError(f"{shown(path)} holds no .safetensors weights: copy the VAE anew.")
        megabytes = sum(file.stat().st_size for file in weights) / 2**20
    try:
        latent, channels = int(config.get("latent_channels", 4)), [int(c) for c in config["block_out_channels"]]
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{shown(path)} has a configuration that means nothing: copy the VAE anew.") from None
    if latent != 4 or 2 ** (len(channels) - 1) != info.multiple:
        raise ModelError(f"The VAE {shown(path)} has {latent} channels at 1/{2 ** (len(channels) - 1)} of the size, "
                         f"{info.name} 4 at 1/{info.multiple}: choose another.")
    return replace(info, vae=str(path), decoder_channels=channels[0], megabytes=info.megabytes + megabytes)


def describe(name: str, path: Path) -> ModelInfo:
    """Reads a diffusers folder's configuration or a file's header. Raises ModelError for what is missing or broken."""
    if os.path.isfile(path):
        return _describe_file(name, path)
    if not os.path.isdir(path):  # Path.is_dir raises for a name that is too long
        raise ModelError(f"There is no model folder {shown(path)}: check the path, or put a diffusers folder there.")
    return _describe_folder(name, path)


def _describe_file(name: str, path: Path) -> ModelInfo:
    if path.suffix.lower() in PICKLED:
        raise ModelError(refusal(path))
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"{shown(path)} is no model: choose a .safetensors file or a diffusers folder.")
    read = header.read(path)
    kind = kinds.recognise(read)
    hints = kinds.hints(read, kind)
    shapes.unet_config(read, kind)
    vae = shapes.vae_config(read)
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    small = _small_decoder(path, TINY[kind.family]) if kind.family in TINY else None
    notes = [read.metadata.get(f"modelspec.{part}", "") for part in ("title", "tags", "architecture")]
    texts = [shapes.text_config(read, text) for text in kind.texts]
    info = ModelInfo(
        name=name, path=str(path), family=kind.family, width=hints.side, height=hints.side, multiple=factor,
        tokens=min(text["max_position_embeddings"] for text in texts),
        layers=min(text["num_hidden_layers"] for text in texts) - (kind is kinds.KINDS["sd2"]),  # its last is not asked
        tiny=small is not None, megabytes=path.stat().st_size / 2**20, decoder_channels=vae["block_out_channels"][0],
        kind=kind.words, prediction=hints.prediction, zero_terminal=hints.zero_terminal,
        small_decoder=str(small or ""), advice=advise([path.stem, *notes]))
    own = path.with_name(f"{path.stem}.vae.safetensors")
    return with_vae(info, own) if own.is_file() else info


def _small_decoder(path: Path, name: str) -> Path | None:
    """TAESD for a single file: beside it, or in one of the folders that hold such things there."""
    for folder in (path.parent, *(path.parent / aside for aside in ("vae_approx", "preview", "vae"))):
        if (folder / name / "config.json").is_file():
            return folder / name
        if (folder / f"{name}_decoder.safetensors").is_file():
            return folder / f"{name}_decoder.safetensors"
    return None


def _describe_folder(name: str, folder: Path) -> ModelInfo:
    pipeline = pipeline_of(folder)
    family = FAMILIES[pipeline]
    unet, vae = _json(folder, "unet/config.json"), _json(folder, "vae/config.json")
    texts = [_json(folder, f"{part}/config.json") for part in TEXTS[family]]
    training = _json(folder, "scheduler/scheduler_config.json")
    prediction = training.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ModelError(f"{folder} predicts {str(prediction)[:40]!r}, which is not known here yet. "
                         f"Known: {', '.join(PREDICTIONS)}.")
    if family == "refiner" and (folder / "text_encoder").is_dir():
        raise ModelError(f"{folder} is a pipeline from picture to picture with two text encoders, no refiner: take the "
                         "folder of the text to image pipeline (_class_name StableDiffusionXLPipeline).")
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        raise ModelError(f"{folder} takes {str(unet.get('in_channels'))[:40]} channels where its VAE has "
                         f"{str(vae.get('latent_channels', 4))[:40]} (made for inpainting?): such models are not "
                         "loaded yet.")
    try:
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        side = unet["sample_size"]
        rows, columns = (side, side) if isinstance(side, int) else side
        channels = int(vae["block_out_channels"][0])
        tokens = min(int(text.get("max_position_embeddings", 77)) for text in texts)
        layers = [int(text["num_hidden_layers"]) for text in texts if "num_hidden_layers" in text]
        kind = kinds.KINDS[family].words if family in ("sdxl", "refiner") else \
            {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2"}.get(unet.get("cross_attention_dim", 0), "")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} has a broken configuration ({error!r}): copy the model anew.") from None
    weights: list[Path] = []
    for part in ("unet", "vae", *TEXTS[family]):
        found = weights_of(folder / part)
        if not found:
            raise ModelError(f"{folder / part} holds no .safetensors weights: the model is incomplete, copy it anew.")
        weights += found
    named = [folder.name, name, "lcm" if pipeline.startswith("LatentConsistency") else ""]
    return ModelInfo(name=name, path=str(folder), family=family, width=columns * factor, height=rows * factor,
                     multiple=factor, tokens=tokens, layers=min(layers, default=None), decoder_channels=channels,
                     kind=kind, prediction=prediction,
                     zero_terminal=training.get("rescale_betas_zero_snr") is True,
                     tiny=(folder / "preview" / "config.json").is_file(), advice=advise(named),
                     megabytes=sum(path.stat().st_size for path in weights) / 2**20)


def pipeline_of(folder: Path) -> str:
    """The class in FAMILIES that a diffusers folder is for. Raises ModelError."""
    pipeline = _json(folder, "model_index.json").get("_class_name", "")
    if not isinstance(pipeline, str) or pipeline not in FAMILIES:
        raise ModelError(f"{folder} holds a {str(pipeline or 'nameless pipeline')[:60]}, which is not known here yet. "
                         f"Known: {', '.join(FAMILIES)}.")
    return pipeline


def weights_of(part: Path) -> list[Path]:
    """The weights in a part's folder: the ordinary ones, or where there are none those of its fp16 variant."""
    found = sorted(part.glob("*.safetensors"))
    plain = [path for path in found if ".fp16" not in path.name and ".non_ema" not in path.name]
    return plain or [path for path in found if ".fp16" in path.name]


def _is_hub_id(name: str) -> bool:
    owner, _, repo = name.partition("/")
    return bool(owner and repo) and "/" not in repo and not name.startswith((".", "/", "~"))


def _hub(name: str) -> ModelInfo:
    """A hub id, from its local cache when there is one, else by downloading (configuration only)."""
    from core.models.hub import fetch

    return describe(name, fetch(name))


def _json(folder: Path, part: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / part).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a diffusers folder: {part} is missing. Copy the model anew.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / part} cannot be read ({str(error)[:80]}): copy the model anew.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{folder / part} is not a configuration: copy the model anew.")
    return value
