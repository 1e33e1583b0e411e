"""Latent Loom's studio: `python app.py`, then open the address it prints."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: no request leaves this machine
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from core import log  # noqa: E402
from core.errors import LoomError, StartError  # noqa: E402
from core.jobs import Jobs, Runner, writable  # noqa: E402
from core.logins import Logins, add_login  # noqa: E402
from core.models.kept import Kept  # noqa: E402
from core.options import add_engine_options, add_models_options, catalogue_of  # noqa: E402
from core.owners import home  # noqa: E402
from core.ownpresets import FILES, Presets  # noqa: E402
from core.presets import load_styles  # noqa: E402
from core.tuning import Tuning  # noqa: E402

if TYPE_CHECKING:
    from ui.studio import Studio

WARM_AFTER = 2.0  # seconds from the page's first answer to the heavy imports, so that a browser gets its files first


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description="Latent Loom: a studio for latent diffusion.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860; 0 takes any free one")
    parser.add_argument("--model", metavar="storybook|NAME|PATH|HUB-ID", help="default: the one that was last chosen, "
                        "storybook at first")
    parser.add_argument("--vae", metavar="NAME|PATH", help="decode with this one: a name or a path")
    add_models_options(parser)
    parser.add_argument("--hub", action="append", default=[], metavar="HUB-ID", help="offer this one, too, for "
                        "download in the page")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder for finished pictures")
    parser.add_argument("--presets", type=Path, metavar="DIR", help="folder for your own presets (default: presets "
                        "beneath --outputs)")
    parser.add_argument("--trajectories", type=float, default=2.0, metavar="GIB",
                        help="room for the kept steps of runs, beyond which the oldest go (default: 2; 0 keeps none)")
    add_engine_options(parser)
    parser.add_argument("--log", metavar="FILE", help="write what happens there, a line of JSON for each event, "
                        "without prompts; -: to the terminal (stderr)")
    parser.add_argument("--log-prompts", action="store_true", help="with prompts, and all that may quote them")
    parser.add_argument("--auth", action="append", default=[], metavar="USER:PASS", help="ask for this login; needed "
                        "for other hosts than this one. Each person has pictures, runs, comparisons "
                        "and presets of their own")
    parser.add_argument("--auth-file", type=Path, metavar="FILE", help="more logins, a line each, as --add-login "
                        "writes them: passwords are kept as salted hashes")
    parser.add_argument("--add-login", metavar="USER", help="ask for a password, add the login to --auth-file, and end")
    chosen = parser.parse_args(arguments)
    chosen.explicit = bool(chosen.model or chosen.vae)
    chosen.logins = bool(chosen.auth or chosen.auth_file)
    if chosen.vae:
        chosen.model = f"{chosen.model or 'storybook'}+{chosen.vae}"
    return chosen


def make_studio(chosen: argparse.Namespace, frames: Path) -> Studio:
    """Everything the page needs, without a heavy import. Raises LoomError for what cannot work."""
    kept = Kept(chosen.outputs)
    if not chosen.explicit:
        chosen.model = _last(chosen, kept.chosen)
    catalogue = catalogue_of(chosen, chosen.model)
    catalogue.get(chosen.model)
    tuning = Tuning.of(chosen)
    if chosen.device not in ("auto", "cpu") or tuning != Tuning():
        from core.models import device, tune  # worth the heavy import: better told now than at the first run

        tune.check(tuning, device.pick_device(chosen.device))
    writable(chosen.outputs)
    styles = load_styles()
    presets = Presets(own_presets(chosen))
    for line in presets.problems():
        print(line, file=sys.stderr)

    def engine() -> Runner:
        from core.engine import Engine

        return Engine(catalogue, chosen.device, tuning)

    from ui.studio import Studio

    if not 0 <= chosen.trajectories < 2**30:
        raise StartError(f"--trajectories cannot be {chosen.trajectories:g} GiB: take 0, which keeps none, or more.")
    jobs = Jobs(engine, chosen.outputs, frames, trajectories=int(chosen.trajectories * 2**30))
    return Studio(catalogue, jobs, styles, chosen.model, presets, explicit=chosen.explicit, kept=kept,
                  hub=tuple(chosen.hub), logins=chosen.logins)


def own_presets(chosen: argparse.Namespace) -> Path:
    """The folder of people's own presets."""
    return chosen.presets or chosen.outputs / "presets"


def _last(chosen: argparse.Namespace, name: str) -> str:
    """The model that was chosen last, if it can be read still."""
    if not name:
        return "storybook"
    try:
        return catalogue_of(chosen).get(name).name
    except LoomError as error:
        print(f"The last model is not taken again. {error}", file=sys.stderr)
        return "storybook"


def check_address(host: str, port: int, logins: bool) -> None:
    """Raises StartError for an address that others could reach without a login, or that is taken."""
    if not 0 <= port <= 65535:
        raise StartError(f"There is no port {port}: choose from 1 to 65535, or 0 for any free one.")
    if not _is_loopback(host) and not logins:
        raise StartError(f"{host} can be reached from other machines: add --auth USER:PASS, or leave --host away.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        if os.name == "posix":  # as servers do: a port in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(f"The studio cannot listen on {host}:{port} ({reason}): is it running already? "
                             f"Else choose another port with --port {port + 1}.") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(chosen: argparse.Namespace) -> None:
    """Open the studio and stay until Ctrl+C, or until the system asks it to end. Asked twice, it ends at once."""
    logins = Logins.of(chosen.auth, chosen.auth_file) if chosen.logins else None
    check_address(chosen.host, chosen.port, chosen.logins)
    for line in from_before(chosen, logins.names[0]) if logins else ():
        print(line, file=sys.stderr)
    with contextlib.ExitStack() as stack:
        if chosen.log:
            stack.callback(log.end, log.write(chosen.log, chosen.log_prompts))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="latent-loom-"))
        _heed_signals(folder)
        studio = make_studio(chosen, Path(folder) / "frames")
        try:
            address, page = launch(studio, chosen.host, chosen.port, logins)
            print(f"Running on local URL: {address}", flush=True)
            warm = threading.Timer(WARM_AFTER, studio.jobs.warm, [chosen.model])
            warm.daemon = True
            warm.start()
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("Closing: what runs finishes its step; it and the queue go on when the studio is started again.",
                  flush=True)
            page.close(verbose=False)
        finally:
            studio.jobs.close()


def from_before(chosen: argparse.Namespace, name: str) -> Iterator[str]:
    """Lines on what was made before there were logins. name: of somebody who could have it."""
    presets = own_presets(chosen)
    if any(chosen.outputs.glob("????-??-??")):
        yield (f"What was made before there were logins is nobody's: move the days' folders in {chosen.outputs} to "
               f"{home(chosen.outputs, name)} to give them to {name}.")
    if any((presets / file).exists() for file in (*FILES.values(), "layouts")):
        yield (f"The presets from before there were logins are nobody's: move what lies in {presets} to "
               f"{home(presets, name)} to give it to {name}.")


def _heed_signals(folder: str) -> None:
    """The first one closes the studio in order, the second ends the process. folder: of previews, to be deleted."""
    asked: list[int] = []

    def heed(number: int, frame: object) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise KeyboardInterrupt
        os.write(2, b"Ended at once: what ran goes on from the last step that was kept.\n")
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, heed)


def launch(studio: Studio, host: str, port: int, logins: Logins | None = None) -> tuple[str, Any]:
    """Serve the page from a thread; (address, gr.Blocks), once it answers. Raises StartError."""
    from ui import shell

    page = shell.build(studio)
    try:
        _, address, _ = page.launch(server_name=host, server_port=port or _free_port(host), auth=logins, quiet=True,
                                    prevent_thread_lock=True,
                                    _frontend=False,  # its own visit gives up after 3 s, too soon on a busy machine
                                    **shell.serving(studio))
    except OSError as error:
        if "port" not in str(error):
            raise
        raise StartError(f"The port {port} was taken in this very moment: try --port {port + 1}.") from error
    return address, page


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = options(arguments)
    try:
        if chosen.add_login:
            add_login(chosen.add_login, chosen.auth_file)
            return 0
        serve(chosen)
    except LoomError as error:
        print(f"Latent Loom: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
