"""`python -m core.storybook`: train, export, unpack, evaluate, card, sheet, sample."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from core.request import Request
from core.storybook import WEIGHTS
from core.storybook.cases import STEPS

STAGES = ("render", "autoencoder", "decoder", "text", "diffusion", "distil", "preview", "scorer", "judge")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m core.storybook", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train one stage; goes on where it was stopped")
    train.add_argument("--stage", required=True, choices=STAGES)
    train.add_argument("--minutes", type=float, default=10.0, help="time budget")
    train.add_argument("--data", type=Path, default=Path("storybook-data"), help="scenes, checkpoints, sample sheets")
    train.add_argument("--device", default="auto")
    train.add_argument("--size", type=int, choices=(128, 256), default=256, help="pictures of the diffusion stage")
    train.add_argument("--small", type=float, default=0.0, help="share of 128-pixel steps beside those of 256")
    train.add_argument("--close", type=float, default=0.0, help="share of steps that see what small regions see")
    train.add_argument("--batch", type=int, default=0, help="0: what suits the device")
    train.add_argument("--lr", type=float, default=0.0, help="0: the stage's own")
    train.add_argument("--scenes128", type=int, default=60_000)
    train.add_argument("--scenes256", type=int, default=16_000)
    train.add_argument("--workers", type=int, default=0, help="of the render stage; 0: one per core")
    export = commands.add_parser("export", help="training folder -> weights folder")
    export.add_argument("--data", type=Path, default=Path("storybook-data"))
    export.add_argument("--out", type=Path, required=True, help="evaluate there before you put it in the place of the "
                        f"shipped one, {WEIGHTS.parent.name}/{WEIGHTS.name}")
    export.add_argument("--lcm", action="store_true", help="the distil stage's network; name the folder ...-lcm, and "
                        "the studio sets what it wants")
    unpack = commands.add_parser("unpack", help="weights folder -> training folder, to train on from shipped weights")
    unpack.add_argument("--data", type=Path, default=Path("storybook-data"))
    unpack.add_argument("--weights", type=Path, default=WEIGHTS)
    evaluate = commands.add_parser("evaluate", help="the model card's table; exit status 1 if below the card")
    evaluate.add_argument("--weights", type=Path, default=WEIGHTS)
    evaluate.add_argument("--device", default="auto")
    evaluate.add_argument("--count", type=int, default=300, help="single-thing prompts")
    evaluate.add_argument("--layouts", type=int, default=100, help="of three boxes, each painted in several ways")
    evaluate.add_argument("--guidance", type=float, default=5.0)
    evaluate.add_argument("--sampler", default=Request().sampler)
    evaluate.add_argument("--steps", type=int, default=STEPS)
    evaluate.add_argument("--quick", action="store_true", help="120 prompts and 50 layouts")
    evaluate.add_argument("--record", action="store_true", help="write the figures beside the card")
    evaluate.add_argument("--confusion", action="store_true", help="also what was taken for what")
    card = commands.add_parser("card", help="write the model card and its sample sheet from the recorded figures")
    card.add_argument("--weights", type=Path, default=WEIGHTS)
    card.add_argument("--device", default="auto")
    sheet = commands.add_parser("sheet", help="a few of the evaluation's layouts, each painted in several ways")
    sheet.add_argument("--out", type=Path, default=Path("regions-evaluation.jpg"))
    sheet.add_argument("--weights", type=Path, default=WEIGHTS)
    sheet.add_argument("--device", default="auto")
    sheet.add_argument("--rows", type=int, default=5)
    sheet.add_argument("--guidance", type=float, default=5.0)
    sample = commands.add_parser("sample", help="one picture")
    sample.add_argument("prompt")
    sample.add_argument("--out", type=Path, default=Path("storybook.png"))
    sample.add_argument("--weights", type=Path, default=WEIGHTS)
    sample.add_argument("--device", default="auto")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--steps", type=int, default=20)
    sample.add_argument("--guidance", type=float, default=5.0)
    sample.add_argument("--size", type=int, default=256, help="pixels, a multiple of 32")
    return top


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    if getattr(options, "device", "") in ("auto", "cpu"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; see loop.gradients
    return COMMANDS[options.command](options)


def _train(options: argparse.Namespace) -> int:
    from core.storybook import train

    train.run(options)
    return 0


def _export(options: argparse.Namespace) -> int:
    from core.storybook.export import export

    export(options.data, options.out, "lcm" if options.lcm else "unet")
    return 0


def _unpack(options: argparse.Namespace) -> int:
    from core.storybook.export import unpack

    unpack(options.weights, options.data)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from core.storybook.evaluate import Plan, evaluate
    from core.storybook.networks import pick_device

    count, layouts = (120, 50) if options.quick else (options.count, options.layouts)
    plan = Plan(count, layouts, options.guidance, options.sampler, options.steps)
    return evaluate(options.weights, pick_device(options.device), plan, options.record, options.confusion)


def _card(options: argparse.Namespace) -> int:
    from core.storybook.card import write_card
    from core.storybook.networks import pick_device

    write_card(options.weights, pick_device(options.device))
    return 0


def _sheet(options: argparse.Namespace) -> int:
    from core.storybook.networks import pick_device
    from core.storybook.sheet import write_sheet

    write_sheet(options.weights, pick_device(options.device), options.out, options.rows, options.guidance)
    print(options.out)
    return 0


def _sample(options: argparse.Namespace) -> int:
    from PIL import Image

    from core.storybook.networks import pick_device
    from core.storybook.studio import Studio

    studio = Studio(options.weights, pick_device(options.device))
    asked = Request(prompt=options.prompt, model=studio.model, seed=options.seed, steps=options.steps,
                    guidance=options.guidance, width=options.size, height=options.size)
    Image.fromarray(next(studio.paint([asked]))).save(options.out)
    print(options.out)
    return 0


COMMANDS = {"train": _train, "export": _export, "unpack": _unpack, "evaluate": _evaluate, "card": _card,
            "sheet": _sheet, "sample": _sample}


if __name__ == "__main__":
    raise SystemExit(main())
