"""How soon the page is there."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from core.bench.measure import Bench, Row


def page_start(bench: Bench) -> Iterator[Row]:
    """From `python app.py` to a page that answers."""
    app = Path(__file__).parents[2] / "app.py"
    waits = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            began = time.perf_counter()
            server = subprocess.Popen([sys.executable, str(app), "--port", str(port), "--outputs", folder],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
            try:
                while server.poll() is None:
                    with contextlib.suppress(OSError):
                        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                        waits.append(time.perf_counter() - began)
                        break
                    time.sleep(0.02)
            finally:
                server.terminate()
                server.wait(timeout=30)
    if not waits:
        raise RuntimeError("app.py ended before its page answered: run it by hand to see why")
    yield Row("python app.py to the page", statistics.median(waits), "s", goal=4)
