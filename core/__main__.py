"""The command line: `python -m core COMMAND`, see `--help`, of each command too.

Exit status: 0 done; 2 bad input, with one line on stderr; 130 stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from core.errors import BadRequest, LoomError
from core.models.catalogue import Catalogue
from core.request import DECODERS, PRECISIONS, Done, Preview, Request, Step, StepInfo

if TYPE_CHECKING:
    from core.recorder import Recorder
    from core.trajectory import Past

STOPPED = 130
DEVICES = ("auto", "cpu", "cuda", "mps")


class _Parser(argparse.ArgumentParser):
    """One line instead of the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options) or 0)
    except LoomError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # `python -m core samplers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m core", description="Latent Loom without the page.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    generate = commands.add_parser("generate", help="text to image")
    generate.add_argument("prompt", metavar="PROMPT")
    generate.add_argument("--out", type=Path, required=True, help="the PNG to write; a batch adds -2, -3, ...")
    add_request_options(generate)
    generate.set_defaults(run=_generate)

    compose = commands.add_parser("compose", help="regions: a prompt per mask, from a layout file")
    compose.add_argument("layout", type=Path, metavar="LAYOUT.json")
    compose.add_argument("--out", type=Path, required=True, help="the PNG to write; a batch adds -2, -3, ...")
    add_request_options(compose)
    compose.add_argument("--bootstrap", type=_number, help="share of the steps, 0 to 0.5 (default: 0.2)")
    compose.add_argument("--masks", help="area or paper; default: the layout's, or area")
    compose.add_argument("--crop-after", type=_number, help="share of the steps after which small regions are "
                         "asked on crops: faster, a little different (default: 1, never)")
    compose.set_defaults(run=_compose)

    compare = commands.add_parser("compare", help="samplers, steps, seeds and more side by side, with figures")
    compare.add_argument("spec", type=Path, metavar="SPEC.json")
    compare.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write, or to go on in")
    compare.add_argument("--models-dir", default="models")
    compare.add_argument("--device", default="auto", choices=DEVICES)
    compare.set_defaults(run=_compare)

    resume = commands.add_parser("resume", help="finish a run that was stopped or killed")
    resume.set_defaults(run=_resume)
    fork = commands.add_parser("fork", help="go on from a step of a kept run with something changed")
    fork.add_argument("--at", type=int, required=True, metavar="K", help="the first step, from 0, that is made anew")
    fork.set_defaults(run=_fork)
    decode = commands.add_parser("decode", help="a kept step as a picture, at full quality")
    decode.add_argument("--step", type=int, required=True, metavar="K", help="from 0, as in steps.json")
    decode.add_argument("--source", default="x0", help="x0: what the network believed (default); xt: what it saw")
    decode.set_defaults(run=_decode)
    for command in (resume, fork, decode):
        command.add_argument("kept", type=Path, metavar="RUN.safetensors")
        command.add_argument("--out", type=Path, required=True, help="the PNG to write; a batch adds -2, -3, ...")
        command.add_argument("--models-dir", default="models")
        command.add_argument("--device", default="auto", choices=DEVICES)
    for command in (resume, fork):
        add_watching_options(command)
    add_fork_options(fork)

    models = commands.add_parser("models", help="list the models")
    models.add_argument("--models-dir", default="models")
    models.set_defaults(run=_models)
    listing = commands.add_parser("samplers", help="list the samplers and their schedules")
    listing.set_defaults(run=_samplers)

    bench = commands.add_parser("bench", help="measure ratios side by side in one run")
    bench.add_argument("--json", action="store_true", help="print JSON instead of a table")
    bench.add_argument("--model", default="storybook")
    bench.add_argument("--models-dir", default="models")
    bench.add_argument("--device", default="auto", choices=DEVICES)
    bench.add_argument("--rounds", type=int, default=5, help="interleaved repetitions; the median is reported")
    bench.add_argument("--only", help="run only the parts whose name holds this word")
    bench.set_defaults(run=_bench)
    for command in (models, listing):
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """The options that make a Request, named like its fields."""
    defaults = Request()
    parser.add_argument("--negative", metavar="TEXT", help="what should not be there")
    parser.add_argument("--model", default=defaults.model, help="name, path of a diffusers folder, or hub id")
    parser.add_argument("--models-dir", default="models")
    parser.add_argument("--sampler", default=defaults.sampler)
    parser.add_argument("--schedule", default=defaults.schedule)
    for name in ("steps", "guidance", "seed", "batch"):
        parser.add_argument(f"--{name}", type=_number, default=getattr(defaults, name))
    parser.add_argument("--width", type=_number, help="pixels; default: what the model was trained at")
    parser.add_argument("--height", type=_number)
    parser.add_argument("--panorama", help="smooth or uniform: windows over a canvas larger than the model's own size")
    parser.add_argument("--stride", type=_number, help="pixels from window to window; default: 128")
    parser.add_argument("--wrap", action="store_true", default=None, help="join right edge and left: 360 degrees")
    parser.add_argument("--precision", default=defaults.precision, help=", ".join(PRECISIONS))
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--trajectory", type=Path, metavar="RUN.safetensors", help="keep the steps there")
    add_watching_options(parser)


def add_watching_options(parser: argparse.ArgumentParser) -> None:
    """What is to be seen of a run, and how far it goes."""
    parser.add_argument("--preview", default="vae", help=", ".join(DECODERS) + " (with --frames)")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="write every step's preview and steps.json there")
    parser.add_argument("--stop-after", type=int, metavar="K", help="stop after K steps and keep what there is")


# what a fork may change, and what it is told that it may not
_CHANGES = ("prompt", "sampler", "schedule", "steps", "guidance", "seed", "precision", "bootstrap", "masks")
_FIXED = ("model", "width", "height", "batch")


def add_fork_options(parser: argparse.ArgumentParser) -> None:
    """What may be changed; whatever is not given stays as the parent has it."""
    parser.add_argument("--negative", metavar="TEXT")
    for name in _CHANGES + _FIXED:
        about = argparse.SUPPRESS if name in _FIXED else None
        parser.add_argument(f"--{name}", type=str if name in ("prompt", "negative") else _number, help=about)
    parser.add_argument("--layout", type=Path, metavar="LAYOUT.json", help="regions from here on: those of the layout")
    parser.add_argument("--trajectory", type=Path, metavar="FORK.safetensors", help="keep the fork's steps there")


# options that are None unless given
_ASIDE = ("panorama", "stride", "wrap", "bootstrap", "masks", "crop_after", "width", "height")


def read_request(options: argparse.Namespace, catalogue: Catalogue, layout: dict[str, Any] | None = None) -> Request:
    """The Request the options describe, at the model's own size unless one is given. Options win over the layout."""
    info = catalogue.get(options.model)
    values: dict[str, Any] = {"width": info.width, "height": info.height, **(layout or {})}
    values |= {name: getattr(options, name) for name in
               ("model", "sampler", "schedule", "steps", "guidance", "seed", "batch", "precision")}
    values |= {name: value for name in _ASIDE if (value := getattr(options, name, None)) is not None}
    if options.negative is not None:
        values["negative_prompt"] = options.negative
    if layout is None:
        values["prompt"] = options.prompt
    return Request.parse(values)


def _number(text: str) -> float | int | str:
    """What the person typed as a number; words go on to Request, whose message is better than argparse's."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _generate(options: argparse.Namespace) -> int:
    catalogue = Catalogue(options.models_dir, extra=options.model)
    return _make(options, catalogue, read_request(options, catalogue))


def _compose(options: argparse.Namespace) -> int:
    from core import layoutfile

    catalogue = Catalogue(options.models_dir, extra=options.model)
    return _make(options, catalogue, read_request(options, catalogue, layoutfile.read(options.layout)))


def _compare(options: argparse.Namespace) -> int:
    from core.comparing import command

    return STOPPED if command(options) else 0


def _resume(options: argparse.Namespace) -> int:
    from core.trajectory import Past, Trajectory

    past = Past.resume(Trajectory(options.kept))
    return _make(options, Catalogue(options.models_dir, extra=past.request.model), past.request, past)


def _fork(options: argparse.Namespace) -> int:
    from core import layoutfile
    from core.trajectory import Past, Trajectory

    given = {"negative_prompt" if name == "negative" else name: value for name in ("negative", *_CHANGES, *_FIXED)
             if (value := getattr(options, name)) is not None}
    layout = layoutfile.read(options.layout) if options.layout else {}
    run = Trajectory(options.kept)
    past = Past.fork(run, options.at, {**layout, **given})
    if options.trajectory and options.trajectory.resolve() == options.kept.resolve():
        raise BadRequest(f"--trajectory would overwrite the parent, {options.kept.name}: give the fork another name.")
    return _make(options, Catalogue(options.models_dir, extra=past.request.model), past.request, past)


def _decode(options: argparse.Namespace) -> int:
    from core.trajectory import Trajectory

    run = Trajectory(options.kept)
    latents = run.latents(options.step, options.source)
    catalogue = Catalogue(options.models_dir, extra=run.request.model)
    catalogue.get(run.request.model)
    _check_out(options)

    from core.engine import Engine

    pictures = Engine(catalogue, options.device).decode(latents, run.request, "vae", run.outline.model)
    forked = (run.parent.file, run.parent.step) if run.parent else None
    _save(options.out, pictures, run.request, options.step + (options.source == "x0"), forked)
    return 0


def _check_out(options: argparse.Namespace) -> None:
    """Raises BadRequest and OutputError for places where nothing can be written, before anything is computed."""
    from core.files import writable

    for name, example in (("out", "picture.png"), ("trajectory", "run.safetensors")):
        path = getattr(options, name, None)
        if path is None:
            continue
        if not path.name or path.is_dir():
            raise BadRequest(f"--{name} must name a file, not the folder {path}: add a name, like {example}.")
        writable(path.resolve().parent)
    if getattr(options, "frames", None):
        writable(options.frames)


def _make(options: argparse.Namespace, catalogue: Catalogue, request: Request, past: Past | None = None) -> int:
    """Run a request and write its pictures; the exit status. past: what it resumes or forks."""
    from core.checks import check

    preview = Preview(options.preview)
    for note in check(request, catalogue.get(request.model)):
        print(note.text, file=sys.stderr)
    if options.stop_after is not None and options.stop_after < 1:
        raise BadRequest(f"--stop-after must be 1 or more, not {options.stop_after}.")
    _check_out(options)

    from core.engine import Engine  # torch and diffusers: only now that the request is known to be good
    from core.recorder import Recorder

    resumes = past is not None and past.changes is None
    keep = past.run.path if past and resumes else options.trajectory
    cancel = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    try:
        events = Engine(catalogue, options.device).generate(
            request, preview if options.frames else Preview("none"), cancel, past)
        done = _run(events, request, cancel, options.frames, options.stop_after,
                    Recorder(keep, go_on=resumes) if keep else None)
    finally:
        signal.signal(signal.SIGINT, previous)
    forked = (past.run.path.name, past.steps) if past and not resumes else None
    if past and resumes and past.run.parent:
        forked = (past.run.parent.file, past.run.parent.step)
    _save(options.out, done.pictures, request.replace(precision=done.precision), done.steps if done.stopped else None,
          forked)
    return STOPPED if done.stopped else 0


def _save(out: Path, pictures: Sequence[Any], request: Request, stopped_after: int | None,
          forked: tuple[str, int] | None) -> None:
    """Write the pictures of a batch and say where they are."""
    from core import metadata
    from core.files import disk_errors

    for k, picture in enumerate(pictures):
        path = out.with_name(f"{out.stem}-{k + 1}{out.suffix}") if k else out
        with disk_errors("picture", path.parent):
            metadata.save_png(picture, path, request.single(k), stopped_after=stopped_after, forked=forked)
        print(path)


def _run(events: Iterator[Step | Done], request: Request, cancel: threading.Event, frames: Path | None,
         stop_after: int | None, recorder: Recorder | None) -> Done:
    """Drive one run: frames, steps.json and the trajectory as they come, progress on stderr, the Done."""
    from dataclasses import asdict

    from core.files import disk_errors, save_jpeg

    steps: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, Done):
            if sys.stderr.isatty():
                print(file=sys.stderr)
            if recorder:
                recorder.close()
            return event
        steps.append(asdict(StepInfo.of(event)))
        if frames:
            with disk_errors("frames", frames):
                for k, picture in enumerate(event.pictures):
                    name = f"{event.index:03d}-{k + 1}.jpg" if k else f"{event.index:03d}.jpg"
                    save_jpeg(picture, frames / name, (request.width, request.height))
                (frames / "steps.json").write_text(json.dumps(steps, indent=1), encoding="utf-8")
        if recorder:
            try:
                recorder.add(event)
            except LoomError as error:  # the picture is worth more than its steps
                print(f"The run goes on, its steps are not kept. {error}", file=sys.stderr)
                recorder.close()
                recorder = None
        if sys.stderr.isatty():
            print(f"\rstep {event.index + 1} of {event.total}, sigma {event.sigma:.2f}, {event.seconds:.1f} s",
                  end="", file=sys.stderr)
        if stop_after is not None and event.index + 1 >= stop_after and event.index + 1 < event.total:
            cancel.set()
    raise AssertionError("a run ends with Done")


def _models(options: argparse.Namespace) -> None:
    rows = Catalogue(options.models_dir).rows()
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        if "error" in row:
            print(f"{row['name']:24} {row['error']}")
        else:
            print(f"{row['name']:24} {row['family']:6} {row['width']}x{row['height']:<6} {row['megabytes']:8.1f} MiB")


def _samplers(options: argparse.Namespace) -> None:
    from core import samplers

    rows = samplers.rows()
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['name']:18} {row['network_calls_at_20_steps']:3} calls for 20 steps"
              f"{', random' if row['stochastic'] else ''}: {row['words']}\n"
              f"{'':18} schedules: {', '.join(row['schedules'])} (Automatic is {row['automatic']})")


def _bench(options: argparse.Namespace) -> None:
    from core.bench import run

    run(options)


if __name__ == "__main__":
    sys.exit(main())
