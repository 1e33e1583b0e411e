"""gradio is imported without its stub writer, and its components work all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PART = """
import gradio as gr
class Part(gr.HTML):
    pass
"""


def stubs_after(prelude: str, folder: Path) -> list[str]:
    """Names of the stub files that a component in `folder` has after it was imported."""
    (folder / "part.py").write_text(PART)
    code = f"{prelude}; import sys; sys.path.insert(0, {str(folder)!r}); import part; print(part.Part('a').value)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "a"
    return [path.name for path in folder.glob("*.pyi")]


def test_no_stub_files_are_written_and_gradio_alone_writes_them(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    assert stubs_after("import ui", tmp_path / "without") == []
    # the other way round, so that this test notices when gradio no longer writes them and ui/lean.py can go
    assert stubs_after("pass", tmp_path / "with") == ["part.pyi"]
