"""`python -m core.storybook`: train, export, unpack, evaluate, sample."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from core.storybook import WEIGHTS

STAGES = ("render", "autoencoder", "decoder", "text", "diffusion", "preview", "scorer", "judge")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m core.storybook", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train one stage; goes on where it was stopped")
    train.add_argument("--stage", required=True, choices=STAGES)
    train.add_argument("--minutes", type=float, default=10.0, help="time budget")
    train.add_argument("--data", type=Path, default=Path("storybook-data"), help="scenes, checkpoints, sample sheets")
    train.add_argument("--device", default="auto")
    train.add_argument("--size", type=int, choices=(128, 256), default=256, help="pictures of the diffusion stage")
    train.add_argument("--batch", type=int, default=0, help="0: what suits the device")
    train.add_argument("--lr", type=float, default=0.0, help="0: the stage's own")
    train.add_argument("--scenes128", type=int, default=60_000)
    train.add_argument("--scenes256", type=int, default=16_000)
    train.add_argument("--workers", type=int, default=0, help="of the render stage; 0: one per core")
    train.add_argument("--restart-schedule", action="store_true", help="a new learning-rate schedule from here on")
    export = commands.add_parser("export", help="training folder -> weights folder")
    export.add_argument("--data", type=Path, default=Path("storybook-data"))
    export.add_argument("--out", type=Path, default=WEIGHTS)
    unpack = commands.add_parser("unpack", help="weights folder -> training folder, to train on from shipped weights")
    unpack.add_argument("--data", type=Path, default=Path("storybook-data"))
    unpack.add_argument("--weights", type=Path, default=WEIGHTS)
    evaluate = commands.add_parser("evaluate", help="the model card's table; exit status 1 if below the card")
    evaluate.add_argument("--weights", type=Path, default=WEIGHTS)
    evaluate.add_argument("--device", default="auto")
    evaluate.add_argument("--count", type=int, default=72, help="single-thing prompts; two thirds as many with a side")
    evaluate.add_argument("--boxes", type=int, default=20, help="layouts of three boxes")
    evaluate.add_argument("--guidance", type=float, default=5.0)
    evaluate.add_argument("--record", action="store_true", help="write the figures beside the card")
    card = commands.add_parser("card", help="write the model card and its sample sheet from the recorded figures")
    card.add_argument("--weights", type=Path, default=WEIGHTS)
    card.add_argument("--device", default="auto")
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
    if options.command in ("train", "evaluate", "card") and options.device in ("auto", "cpu"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; see loop.gradients
    if options.command == "train":
        from core.storybook import train

        train.run(options)
    elif options.command == "export":
        from core.storybook.export import export

        export(options.data, options.out)
    elif options.command == "unpack":
        from core.storybook.export import unpack

        unpack(options.weights, options.data)
    elif options.command == "evaluate":
        from core.storybook.evaluate import evaluate
        from core.storybook.networks import pick_device

        device = pick_device(options.device)
        return evaluate(options.weights, device, options.count, options.boxes, options.guidance, options.record)
    elif options.command == "card":
        from core.storybook.card import write_card
        from core.storybook.networks import pick_device

        write_card(options.weights, pick_device(options.device))
    elif options.command == "sample":
        from PIL import Image

        from core.storybook.evaluate import load_parts
        from core.storybook.networks import pick_device
        from core.storybook.sampling import make_pictures

        parts = load_parts(options.weights, pick_device(options.device))
        side, steps, guidance = options.size // 8, options.steps, options.guidance
        pictures = make_pictures(parts, [options.prompt], [options.seed], side, steps, guidance)
        Image.fromarray(pictures[0].numpy()).save(options.out)
        print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
