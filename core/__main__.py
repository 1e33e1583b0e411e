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
from core.history import command as pictures
from core.models import convert, needs
from core.models.catalogue import Catalogue
from core.models.extras import Extras
from core.options import (
    CHANGES,
    FIXED,
    add_engine_options,
    add_fork_options,
    add_models_options,
    add_report_options,
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

STOPPED = 130


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
    compose.add_argument("--bootstrap", type=number, help="share of the steps, 0 to 0.5 (default: 0.2)")
    compose.add_argument("--masks", help="area or paper; default: the layout's, or area")
    compose.add_argument("--say-places", action="store_true", default=None, help="say in each region's prompt where it "
                         "lies, as in \"on the left\"")
    compose.add_argument("--crop-after", type=number, help="share of the steps after which small regions are "
                         "asked on crops: faster, a little different (default: 1, never)")
    compose.set_defaults(run=_compose)

    compare = commands.add_parser("compare", help="samplers, steps, seeds and more side by side, with figures")
    compare.add_argument("spec", type=Path, metavar="SPEC.json")
    compare.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write, or to go on in")
    add_models_options(compare)
    add_engine_options(compare)
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
        add_models_options(command)
        add_engine_options(command)
    for command in (resume, fork):
        add_watching_options(command)
    add_fork_options(fork)

    past = commands.add_parser("history", help="find pictures in the outputs folder, or build their index anew")
    pictures.add_history_options(past)
    past.set_defaults(run=pictures.history)
    read = commands.add_parser("read", help="how a picture was made, whatever program made it")
    read.add_argument("picture", type=Path, metavar="PICTURE.png")
    read.add_argument("--json", action="store_true", help="print JSON")
    read.set_defaults(run=pictures.read)

    models = commands.add_parser("models", help="list the models")
    add_models_options(models)
    models.add_argument("--hash", action="store_true", help="with each file's hash, as Automatic1111 writes it")
    models.add_argument("--outputs", type=Path, default=Path("outputs"), help="where hashes are kept")
    models.set_defaults(run=_models)
    loras = commands.add_parser("loras", help="list the LoRAs and textual inversions")
    add_models_options(loras)
    loras.set_defaults(run=_loras)
    convert.add_options(commands.add_parser("convert", help="a pickled checkpoint as safetensors"))
    listing = commands.add_parser("samplers", help="list the samplers and their schedules, or measure them all")
    add_report_options(listing)
    listing.set_defaults(run=_samplers)

    presets = commands.add_parser("presets", help="list the presets, or take over an A1111 styles.csv")
    presets.add_argument("--presets", type=Path, default=Path("outputs/presets"), metavar="DIR",
                         help="folder of your own ones (default: outputs/presets)")
    presets.add_argument("--import", dest="styles", type=Path, metavar="STYLES.csv")
    presets.set_defaults(run=_presets)

    bench = commands.add_parser("bench", help="measure ratios side by side in one run")
    bench.add_argument("--json", action="store_true", help="print JSON instead of a table")
    bench.add_argument("--model", default="storybook")
    add_models_options(bench)
    add_engine_options(bench)
    bench.add_argument("--rounds", type=int, default=5, help="interleaved repetitions; the median is reported")
    bench.add_argument("--only", help="run only the parts whose name holds this word")
    bench.set_defaults(run=_bench)
    for command in (models, loras, listing):
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _generate(options: argparse.Namespace) -> int:
    catalogue = catalogue_of(options, options.model)
    return _make(options, catalogue, read_request(options, catalogue))


def _compose(options: argparse.Namespace) -> int:
    from core import layoutfile

    catalogue = catalogue_of(options, options.model)
    return _make(options, catalogue, read_request(options, catalogue, layoutfile.read(options.layout)))


def _compare(options: argparse.Namespace) -> int:
    from core.comparing import command

    return STOPPED if command(options) else 0


def _resume(options: argparse.Namespace) -> int:
    from core.trajectory import Past, Trajectory

    past = Past.resume(Trajectory(options.kept))
    return _make(options, catalogue_of(options, past.request.model), past.request, past)


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


def _models(options: argparse.Namespace) -> None:
    from core.models.kept import Kept
    from core.models.library import Library

    catalogue = catalogue_of(options)
    rows = Library(catalogue, Kept(options.outputs)).rows(options.hash)
    for row in rows:
        if "error" not in row:
            info = catalogue.get(row["name"])
            row["memory_mib"] = {precision: round(sum(needs.weights(info, precision)) / 2**20, 1)
                                 for precision in ("fp32", "bf16")}
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        name = row["name"] if row["name"].isprintable() else ascii(row["name"])
        if "error" in row:
            print(f"{name:24} {row['error']}")
            continue
        facts = [f"in memory {row['memory_mib']['bf16']:.1f} (bf16) or {row['memory_mib']['fp32']:.1f} (fp32)",
                 row["prediction"].replace("_", " ") if row["prediction"] != "epsilon" else "",
                 row["recommended"]["words"] if row["recommended"] else "", row["hash"] and f"hash {row['hash']}",
                 row["home"] and f"of {row['home']}", row["licence"]]
        print(f"{name:24} {row['kind'] or row['family']:19} {row['width']}x{row['height']:<6} "
              f"{row['megabytes']:8.1f} MiB {row['precision']:5} {', '.join(filter(None, facts))}".rstrip())
    for vae in sorted(catalogue.vaes()):
        print(f"{'MODEL+' + vae:24} any of them, decoded with this VAE")


def _loras(options: argparse.Namespace) -> None:
    rows = Extras.of(catalogue_of(options)).rows()
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        name = f"<lora:{row['name']}:1>" if row["kind"] == "lora" else row["name"]
        words = ", ".join(row.get("triggers", ())) or (f"{row['vectors']} vectors" if "vectors" in row else "")
        print(f"{name:32} " + (row.get("error") or f"{row['family'] or 'of an unknown family':19} "
                                                   f"{row['megabytes']:8.1f} MiB  {words}").rstrip())


def _presets(options: argparse.Namespace) -> None:
    from core.ownpresets import FILES, Presets

    presets = Presets(options.presets)
    if options.styles:
        count, left = presets.import_styles(options.styles)
        print(f"Styles that came: {count}.", *left, sep="\n")
        return
    for line in presets.problems():
        print(line, file=sys.stderr)
    for kind in FILES:
        for preset in presets.all(kind).values():
            print(f"{kind:9} {preset.name:30} {'yours' if preset.own else ''}".rstrip())
    for name in presets.layouts():
        print(f"{'layout':9} {name}")


def _samplers(options: argparse.Namespace) -> int:
    from core import samplers

    if options.report:
        from core.report import run

        return STOPPED if run(options) else 0
    rows = samplers.rows()
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(f"{row['name']:18} {row['network_calls_at_20_steps']:3} calls for 20 steps"
              f"{', random' if row['stochastic'] else ''}: {row['words']}\n"
              f"{'':18} schedules: {', '.join(row['schedules'])} (Automatic is {row['automatic']})")
    return 0


def _bench(options: argparse.Namespace) -> None:
    from core.bench import run

    run(options)


if __name__ == "__main__":
    sys.exit(main())
