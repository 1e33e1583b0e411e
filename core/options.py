"""The command line's options, and the Request they describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.models.catalogue import Catalogue
from core.models.distilled import SETTINGS
from core.request import DECODERS, PRECISIONS, Request
from core.tuning import ATTENTIONS, OFFLOADS, STORAGES, TILINGS

STOPPED = 130  # exit status of a command that was stopped
DEVICES = ("auto", "cpu", "cuda", "mps")


def add_models_options(parser: argparse.ArgumentParser) -> None:
    """Where models lie."""
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="folder of models: .safetensors files "
                        "and diffusers folders (default: models)")
    parser.add_argument("--also-models", type=Path, action="append", default=[], metavar="PATH", help="models of "
                        "another studio too: the folder of Automatic1111, Forge, ComfyUI or InvokeAI, or any other")


def catalogue_of(options: argparse.Namespace, extra: str | None = None) -> Catalogue:
    """Of what `add_models_options` read. extra: as in Catalogue."""
    return Catalogue(options.models_dir, extra, options.also_models)
def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """The device and how its memory is used: what the engine is told, not the Request. See core/tuning.py."""
    own = parser.add_argument_group("device, memory and speed")
    own.add_argument("--device", default="auto", choices=DEVICES)
    own.add_argument("--storage", default="full", choices=STORAGES, help="the network's weights in 8 bits: less memory "
                     "and slightly other pictures. fp8: nearly all of them; int8: linear layers, finer, needs torchao")
    own.add_argument("--offload", default="auto", choices=OFFLOADS, help="GPU: what waits is kept in the RAM; "
                     "model: whole networks; sequential: single layers, much slower; auto: when the memory ends")
    own.add_argument("--attention", default="auto", choices=ATTENTIONS, help="auto: torch's own (sdpa), or xformers "
                     "where it is installed and faster")
    own.add_argument("--vae-tiling", default="auto", choices=TILINGS, help="decode in tiles; auto: where the memory is "
                     "too small for the whole picture")
    own.add_argument("--compile", action="store_true", help="torch.compile: a slow first step, faster ones after it")
    own.add_argument("--fuse-qkv", action="store_true", help="queries, keys and values in one multiplication")


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """What `core samplers --report` measures; see core/report."""
    parser.add_argument("--report", type=Path, metavar="PAGE.md", help="measure all samplers at equal work and write a "
                        "page about it, its pictures into pictures/ beside it")
    parser.add_argument("--cells", type=Path, default=Path("outputs/samplers"), metavar="DIR",
                        help="where the runs are kept, to go on after a stop (default: outputs/samplers)")
    parser.add_argument("--samplers", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--calls", nargs="+", type=int, default=[5, 10, 20, 40], help="network calls a picture")
    parser.add_argument("--prompts", type=int, default=4, help="how many of the page's prompts, 1 to 4")
    parser.add_argument("--seeds", type=int, default=2, help="pictures of each prompt. Sets of pictures are measured "
                        "from 16 in all on, their distances from 32")
    parser.add_argument("--reference", type=int, default=100, metavar="STEPS", help="of the exact solution, by Heun")
    parser.add_argument("--model", default="storybook")
    add_models_options(parser)
    parser.add_argument("--device", default="auto", choices=DEVICES)


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """The options that make a Request, named like its fields."""
    defaults = Request()
    parser.add_argument("--negative", metavar="TEXT", help="what should not be there")
    parser.add_argument("--model", default=defaults.model, help="name, path of a folder or .safetensors, or hub id")
    parser.add_argument("--vae", metavar="NAME|PATH", help="decode with this one; the same as --model MODEL+VAE")
    add_models_options(parser)
    for name in SETTINGS:
        parser.add_argument(f"--{name}", type=number, help=f"default: {getattr(defaults, name)}, or what a model "
                            "distilled to few steps was made for")
    for name in ("seed", "batch"):
        parser.add_argument(f"--{name}", type=number, default=getattr(defaults, name))
    parser.add_argument("--width", type=number, help="pixels; default: what the model was trained at")
    parser.add_argument("--height", type=number)
    parser.add_argument("--panorama", help="smooth or uniform: windows over a canvas larger than the model's own size")
    parser.add_argument("--stride", type=number, help="pixels from window to window; default: 128")
    parser.add_argument("--wrap", action="store_true", default=None, help="join right edge and left: 360 degrees")
    parser.add_argument("--precision", default=defaults.precision, help=", ".join(PRECISIONS))
    parser.add_argument("--refiner", metavar="NAME", help="SDXL: a second model that takes over for the run's end")
    parser.add_argument("--refiner-from", type=number, help="when it does, as a share of the noise's course (default: "
                        "0.8)")
    parser.add_argument("--clip-skip", type=number, help="2: prompts from the text encoder's last layer but one")
    add_engine_options(parser)
    parser.add_argument("--trajectory", type=Path, metavar="RUN.safetensors", help="keep the steps there")
    add_watching_options(parser)


def add_watching_options(parser: argparse.ArgumentParser) -> None:
    """What is to be seen of a run, and how far it goes."""
    parser.add_argument("--preview", default="vae", help=", ".join(DECODERS) + " (with --frames)")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="write every step's preview and steps.json there")
    parser.add_argument("--stop-after", type=int, metavar="K", help="stop after K steps and keep what there is")


# what a fork may change, and what it is told that it may not
CHANGES = ("prompt", "sampler", "schedule", "steps", "guidance", "seed", "precision", "clip_skip", "bootstrap",
            "masks", "refiner", "refiner_from")
FIXED = ("model", "width", "height", "batch")


def add_fork_options(parser: argparse.ArgumentParser) -> None:
    """What may be changed; whatever is not given stays as the parent has it."""
    parser.add_argument("--negative", metavar="TEXT")
    for name in CHANGES + FIXED:
        about = argparse.SUPPRESS if name in FIXED else None
        kind = str if name in ("prompt", "refiner") else number
        parser.add_argument("--" + name.replace("_", "-"), type=kind, help=about)
    parser.add_argument("--layout", type=Path, metavar="LAYOUT.json", help="regions from here on: those of the layout")
    parser.add_argument("--trajectory", type=Path, metavar="FORK.safetensors", help="keep the fork's steps there")


# options that are None unless given
_ASIDE = (*SETTINGS, "refiner", "refiner_from", "clip_skip", "panorama", "stride", "wrap", "bootstrap", "masks",
          "crop_after", "say_places", "width", "height")


def read_request(options: argparse.Namespace, catalogue: Catalogue, layout: dict[str, Any] | None = None) -> Request:
    """The Request the options describe, at the model's own size unless one is given. Options win over the layout."""
    info = catalogue.get(options.model)
    advice = {name: getattr(info.advice, name) for name in SETTINGS} if info.advice else {}
    values: dict[str, Any] = {"width": info.width, "height": info.height, **advice, **(layout or {})}
    values |= {name: getattr(options, name) for name in ("model", "seed", "batch", "precision")}
    values |= {name: value for name in _ASIDE if (value := getattr(options, name, None)) is not None}
    if options.negative is not None:
        values["negative_prompt"] = options.negative
    if layout is None:
        values["prompt"] = options.prompt
    return Request.parse(values)


def number(text: str) -> float | int | str:
    """What the person typed as a number; words go on to Request, whose message is better than argparse's."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
