"""The commands that list things or measure them, for `python -m core`; each one's options stand before it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from core.history import command as pictures
from core.models import convert, needs
from core.models.extras import Extras
from core.options import STOPPED, add_engine_options, add_models_options, add_report_options, catalogue_of

Commands = Any  # what argparse gives for add_subparsers: it has no public name


def add(commands: Commands) -> None:
    """All of them, in the order of --help."""
    for command in (_add_pictures, _add_models, _add_loras, _add_convert, _add_samplers, _add_presets, _add_bench):
        command(commands)


def _add_pictures(commands: Commands) -> None:
    past = commands.add_parser("history", help="find pictures in the outputs folder, or build their index anew")
    pictures.add_history_options(past)
    past.set_defaults(run=pictures.history)
    read = commands.add_parser("read", help="how a picture was made, whatever program made it")
    read.add_argument("picture", type=Path, metavar="PICTURE.png")
    read.add_argument("--json", action="store_true", help="print JSON")
    read.set_defaults(run=pictures.read)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_models(commands: Commands) -> None:
    models = commands.add_parser("models", help="list the models")
    add_models_options(models)
    models.add_argument("--hash", action="store_true", help="with each file's hash, as Automatic1111 writes it")
    models.add_argument("--outputs", type=Path, default=Path("outputs"), help="where hashes are kept")
    _add_json(models)
    models.set_defaults(run=_models)


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


def _add_loras(commands: Commands) -> None:
    loras = commands.add_parser("loras", help="list the LoRAs and textual inversions")
    add_models_options(loras)
    _add_json(loras)
    loras.set_defaults(run=_loras)


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


def _add_convert(commands: Commands) -> None:
    convert.add_options(commands.add_parser("convert", help="a pickled checkpoint as safetensors"))


def _add_presets(commands: Commands) -> None:
    presets = commands.add_parser("presets", help="list the presets, or take over an A1111 styles.csv")
    presets.add_argument("--presets", type=Path, default=Path("outputs/presets"), metavar="DIR",
                         help="folder of your own ones (default: outputs/presets)")
    presets.add_argument("--import", dest="styles", type=Path, metavar="STYLES.csv")
    presets.set_defaults(run=_presets)


def _presets(options: argparse.Namespace) -> None:
    from core.ownpresets import KINDS, Presets

    presets = Presets(options.presets)
    if options.styles:
        count, left = presets.import_styles(options.styles)
        print(f"Styles that came: {count}.", *left, sep="\n")
        return
    for line in presets.problems():
        print(line, file=sys.stderr)
    for kind in KINDS:
        for preset in presets.all(kind).values():
            print(f"{kind:9} {preset.name:30} {'yours' if preset.own else ''}".rstrip())


def _add_samplers(commands: Commands) -> None:
    listing = commands.add_parser("samplers", help="list the samplers and their schedules, or measure them all")
    add_report_options(listing)
    _add_json(listing)
    listing.set_defaults(run=_samplers)


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


def _add_bench(commands: Commands) -> None:
    bench = commands.add_parser("bench", help="measure ratios side by side in one run")
    _add_json(bench)
    bench.add_argument("--model", default="storybook")
    add_models_options(bench)
    add_engine_options(bench)
    bench.add_argument("--rounds", type=int, default=5, help="interleaved repetitions; the median is reported")
    bench.add_argument("--only", help="run only the parts whose name holds this word")
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> None:
    from core.bench import run

    run(options)
