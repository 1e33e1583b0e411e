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

from core import listings
from core.errors import BadRequest, LoomError
from core.listings import Commands
from core.models import needs
from core.models.catalogue import Catalogue
from core.options import (
    CHANGES,
    FIXED,
    STOPPED,
    add_engine_options,
    add_fork_options,
    add_models_options,
    add_request_options,
    add_watching_options,
    catalogue_of,
    number,
    read_request,
)
from core.request import Done, Preview, Request, Step, StepInfo
from core.tuning import Tuning

if TYPE_CHECKING:
    from core.recorder import Recorder
    from core.trajectory import Past


class _Parser(argparse.ArgumentParser):
    """One line instead of the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if getattr(options, "vae", None):
        options.model += f"+{options.vae}"
    try:
        return int(options.run(options) or 0)
    except LoomError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # `python -m core samplers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    """Each command's options stand before the function that does it, or in its own file."""
    parser = _Parser(prog="python -m core", description="Latent Loom without the page.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    for add in (_add_generate, _add_compose, _add_compare, _add_resume, _add_fork, _add_decode, listings.add):
        add(commands)
    return parser


def _add_generate(commands: Commands) -> None:
    generate = commands.add_parser("generate", help="text to image")
    generate.add_argument("prompt", metavar="PROMPT")
    _add_out(generate)
    add_request_options(generate)
    generate.set_defaults(run=_generate)


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, help="the PNG to write; a batch adds -2, -3, ...")


def _generate(options: argparse.Namespace) -> int:
    catalogue = catalogue_of(options, options.model)
    return _make(options, catalogue, read_request(options, catalogue))


def _add_compose(commands: Commands) -> None:
    compose = commands.add_parser("compose", help="regions: a prompt per mask, from a layout file")
    compose.add_argument("layout", type=Path, metavar="LAYOUT.json")
    _add_out(compose)
    add_request_options(compose)
    compose.add_argument("--bootstrap", type=number, help="share of the steps, 0 to 0.5 (default: 0.2)")
    compose.add_argument("--masks", help="area or paper; default: the layout's, or area")
    compose.add_argument("--say-places", action="store_true", default=None, help="say in each region's prompt where it "
                         "lies, as in \"on the left\"")
    compose.add_argument("--crop-after", type=number, help="share of the steps after which small regions are "
                         "asked on crops: faster, a little different (default: 1, never)")
    compose.set_defaults(run=_compose)


def _compose(options: argparse.Namespace) -> int:
    from core import layoutfile

    catalogue = catalogue_of(options, options.model)
    return _make(options, catalogue, read_request(options, catalogue, layoutfile.read(options.layout)))


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="samplers, steps, seeds and more side by side, with figures")
    compare.add_argument("spec", type=Path, metavar="SPEC.json")
    compare.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write, or to go on in")
    add_models_options(compare)
    add_engine_options(compare)
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from core.comparing import command

    return STOPPED if command(options) else 0


def _add_resume(commands: Commands) -> None:
    resume = commands.add_parser("resume", help="finish a run that was stopped or killed")
    _add_kept(resume)
    add_watching_options(resume)
    resume.set_defaults(run=_resume)


def _add_kept(command: argparse.ArgumentParser) -> None:
    """What all commands on a kept run take."""
    command.add_argument("kept", type=Path, metavar="RUN.safetensors")
    _add_out(command)
    add_models_options(command)
    add_engine_options(command)


def _resume(options: argparse.Namespace) -> int:
    from core.trajectory import Past, Trajectory

    past = Past.resume(Trajectory(options.kept))
    return _make(options, catalogue_of(options, past.request.model), past.request, past)


def _add_fork(commands: Commands) -> None:
    fork = commands.add_parser("fork", help="go on from a step of a kept run with something changed")
    fork.add_argument("--at", type=int, required=True, metavar="K", help="the first step, from 0, that is made anew")
    _add_kept(fork)
    add_watching_options(fork)
    add_fork_options(fork)
    fork.set_defaults(run=_fork)


def _fork(options: argparse.Namespace) -> int:
    from core import layoutfile
    from core.trajectory import Past, Trajectory

    given = {"negative_prompt" if name == "negative" else name: value for name in ("negative", *CHANGES, *FIXED)
             if (value := getattr(options, name)) is not None}
    layout = layoutfile.read(options.layout) if options.layout else {}
    run = Trajectory(options.kept)
    past = Past.fork(run, options.at, {**layout, **given})
    if options.trajectory and options.trajectory.resolve() == options.kept.resolve():
        raise BadRequest(f"--trajectory would overwrite the parent, {options.kept.name}: give the fork another name.")
    return _make(options, catalogue_of(options, past.request.model), past.request, past)


def _add_decode(commands: Commands) -> None:
    decode = commands.add_parser("decode", help="a kept step as a picture, at full quality")
    decode.add_argument("--step", type=int, required=True, metavar="K", help="from 0, as in steps.json")
    decode.add_argument("--source", default="x0", help="x0: what the network believed (default); xt: what it saw")
    _add_kept(decode)
    decode.set_defaults(run=_decode)


def _decode(options: argparse.Namespace) -> int:
    from core.trajectory import Trajectory

    run = Trajectory(options.kept)
    latents = run.latents(options.step, options.source)
    catalogue = catalogue_of(options, run.request.model)
    catalogue.get(run.request.model)
    _check_out(options)

    from core.engine import Engine

    engine = Engine(catalogue, options.device, Tuning.of(options))
    pictures = engine.decode(latents, run.request, "vae", run.outline.model)
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
    from core.checks import check_in

    preview = Preview(options.preview)
    for note in check_in(request, catalogue):
        print(note.text, file=sys.stderr)
    if options.stop_after is not None and options.stop_after < 1:
        raise BadRequest(f"--stop-after must be 1 or more, not {options.stop_after}.")
    _check_out(options)
    if sys.stderr.isatty():
        print(f"{request.model} needs {needs.words(catalogue.get(request.model))}", file=sys.stderr)

    from core.engine import Engine  # torch and diffusers: only now that the request is known to be good
    from core.recorder import Recorder

    resumes = past is not None and past.changes is None
    keep = past.run.path if past and resumes else options.trajectory
    cancel = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    try:
        events = Engine(catalogue, options.device, Tuning.of(options)).generate(
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
            if event.note:
                print(event.note, file=sys.stderr)
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


if __name__ == "__main__":
    sys.exit(main())
