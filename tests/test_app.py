"""app.py: what is refused before the page opens, and that the page opens without the heavy imports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

import app

ROOT = Path(app.__file__).parent


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the program ends with status 2."""
    assert app.main(arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "Traceback" not in line
    return line


def test_an_open_host_needs_a_login(capsys: pytest.CaptureFixture[str]) -> None:
    assert "add --auth USER:PASS" in said(capsys, "--host", "0.0.0.0")
    assert "add --auth USER:PASS" in said(capsys, "--host", "::")
    assert "both not empty" in said(capsys, "--host", "0.0.0.0", "--auth", "me:")


def test_a_taken_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in said(capsys, "--port", str(port))


def test_a_port_or_host_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no port 99999" in said(capsys, "--port", "99999")
    assert "cannot listen on 127.1.2.3.4" in said(capsys, "--host", "127.1.2.3.4", "--auth", "a:b")


def test_a_missing_model_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = said(capsys, "--port", "0", "--model", str(tmp_path / "none"), "--outputs", str(tmp_path / "o"))
    assert "There is no model folder" in line


def test_a_broken_model_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model_index.json").write_text("{")
    line = said(capsys, "--port", "0", "--model", str(tmp_path / "m"), "--outputs", str(tmp_path / "o"))
    assert "model_index.json" in line


def test_outputs_that_cannot_be_written_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                                  models_dir: Path) -> None:
    (tmp_path / "file").write_text("")
    line = said(capsys, "--port", "0", "--model", "eps", "--models-dir", str(models_dir), "--outputs",
                str(tmp_path / "file" / "outputs"))
    assert "cannot be written" in line and "choose another folder" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_login(host: str) -> None:
    assert app._is_loopback(host)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_page_answers_when_the_address_is_printed_and_closes_cleanly(tmp_path: Path, models_dir: Path,
                                                                         ending: signal.Signals) -> None:
    program = [sys.executable, "app.py", "--port", "0", "--model", "eps", "--models-dir", str(models_dir), "--outputs",
               str(tmp_path / "outputs")]
    with subprocess.Popen(program, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=os.environ | {"TMPDIR": str(tmp_path)}, preexec_fn=_heed_ctrl_c) as running:
        try:
            assert running.stdout and running.stderr
            line = running.stdout.readline()
            address = re.fullmatch(r"Running on local URL: (http://127\.0\.0\.1:\d+/)\n", line)
            assert address, line
            with urllib.request.urlopen(address[1], timeout=30) as page:
                assert b"Latent Loom" in page.read()
            time.sleep(0.5)
            running.send_signal(ending)
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 0
    assert "Traceback" not in err
    assert not list(tmp_path.glob("latent-loom-*"))  # the previews are gone


def _heed_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl+C, and so do its children: not what is tested here."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_page_is_built_without_the_heavy_imports(tmp_path: Path, models_dir: Path) -> None:
    code = (f"import app, sys, pathlib\nfrom ui import shell\n"
            f"chosen = app.options(['--model', 'eps', '--models-dir', {str(models_dir)!r}, "
            f"'--outputs', {str(tmp_path / 'o')!r}])\n"
            f"studio = app.make_studio(chosen, pathlib.Path({str(tmp_path / 'f')!r}))\n"
            "shell.build(studio)\nstudio.jobs.close()\n"
            "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_told_before_the_page_opens(capsys: pytest.CaptureFixture[str],
                                                                    tmp_path: Path) -> None:
    line = said(capsys, "--port", "0", "--device", "cuda", "--outputs", str(tmp_path / "o"))
    assert "no usable cuda device" in line and "choose auto or cpu" in line


def test_a_login_is_written_to_a_file_and_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.logins.add_login.__defaults__", (lambda prompt: "hidden",))
    file = tmp_path / "logins"
    assert "--add-login wants a file" in said(capsys, "--add-login", "ann")
    assert app.main(["--auth-file", str(file), "--add-login", "ann"]) == 0
    assert file.read_text().startswith("ann:scrypt$") and "hidden" not in file.read_text()
    assert "cannot listen on 127.1.2.3.4" in said(capsys, "--host", "127.1.2.3.4", "--auth-file", str(file))
    assert "cannot be read" in said(capsys, "--host", "127.1.2.3.4", "--auth-file", str(tmp_path / "none"))
