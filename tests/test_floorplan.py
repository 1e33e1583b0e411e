"""The house is built as drawn: who may import whom, what stays light, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "diffusers", "transformers", "torchsde", "scipy")

# From the ground up: each floor may import those before it and itself. A new file in core gets its place here.
FLOORS = ("errors", "owners", "logins", "registry", "masks", "request", "files", "conditioning", "prompts",
          "estimates", "tuning", "samplers", "infotext", "metadata", "history", "models", "refining", "layout",
          "layoutfile", "scorer", "storybook", "checks", "presets", "ownlayouts", "ownpresets", "record",
          "trajectoryfile", "trajectory", "recorder", "views", "export", "previewer", "job", "log", "favours",
          "job_previews", "saving", "queue", "paces", "journal", "board", "making", "looking", "forever", "lasting",
          "jobs", "telemetry", "denoise", "regions", "course", "previews", "engine", "evaluation", "compare",
          "metrics", "grid", "sets", "comparing", "report", "planes", "contest", "contestfile", "redraw", "gridfilm",
          "contests", "bench", "options", "listings", "__main__")
# What measures Storybook asks the engine, as everybody does: it lives above it, though it shares storybook's folder.
EVALUATION = ("studio", "evaluate", "sheet", "card", "__main__")


def sources(*places: str) -> list[Path]:
    """Every Python file of the project in these places, as paths from its root."""
    found = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    assert found
    return [path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts]


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports anywhere in it; `from a import b` gives a.b where that is a module."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full here"
            base = node.module or ""
            for alias in node.names:
                inner = ROOT.joinpath(*base.split("."), alias.name)
                yield f"{base}.{alias.name}" if inner.is_dir() or inner.with_suffix(".py").is_file() else base


def floor(module: str) -> str:
    """core.samplers.build -> samplers; core itself holds only the version."""
    name, inner = [*module.split("."), "", ""][1:3]
    return "evaluation" if name == "storybook" and inner in EVALUATION else name


@pytest.mark.parametrize("path", sources("core"), ids=str)
def test_core_imports_run_downward_only(path: Path) -> None:
    here = floor(".".join(path.with_suffix("").parts))
    if here == "__init__":
        return
    assert here in FLOORS, f"{path} has no floor yet: give core/{here} its place in FLOORS"
    allowed = ("", *FLOORS[: FLOORS.index(here) + 1])
    for module in imports(path):
        if module.partition(".")[0] == "core":
            assert floor(module) in allowed, f"{path} imports {module}, which is above it"


@pytest.mark.parametrize("path", sources("core"), ids=str)
def test_core_knows_nothing_of_the_page(path: Path) -> None:
    for module in imports(path):
        assert module.partition(".")[0] not in ("gradio", "gradio_client", "ui", "app"), f"{path} imports {module}"


@pytest.mark.parametrize("path", sources("ui"), ids=str)
def test_the_page_computes_nothing_itself(path: Path) -> None:
    for module in imports(path):
        assert module.partition(".")[0] not in (*HEAVY, "app"), f"{path} imports {module}"
        heavy = floor(module) in ("engine", "regions", "course", "denoise", "previews") and module.startswith("core")
        assert not heavy and not module.startswith("core.prompts.encoder"), \
            f"{path} imports {module}, which brings torch into the page"


@pytest.mark.parametrize("path", [Path("app.py"), *(path for path in sources("core", "ui", "tests")
                                                    if path.name != "__init__.py")], ids=str)
def test_no_file_is_longer_than_400_lines_and_each_says_what_it_is(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is for"


LIGHT = ["core.request", "core.errors", "core.registry", "core.samplers", "core.checks", "core.jobs", "core.metadata",
         "core.files", "core.layout", "core.presets", "core.views", "core.export", "core.trajectory", "core.recorder",
         "core.contests", "core.history",
         "core.models.catalogue", "core.models.hub", "core.models.fingerprint", "core.__main__"]


def test_what_the_page_needs_at_the_start_brings_no_heavy_library() -> None:
    """In one fresh interpreter; each would cost seconds before the page answers."""
    code = f"import sys\nfor name in {LIGHT}:\n    __import__(name)\n    " \
           f"print(name, *[m for m in {HEAVY + ('gradio',)} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split("\n")[:-1] == LIGHT


@pytest.mark.parametrize("path", sources("core"), ids=str)
def test_nobody_draws_from_the_global_generator(path: Path) -> None:
    """Seeded CPU generators only: the same request must give the same picture whatever else runs."""
    if path.parts[1] == "storybook":
        return  # training scripts seed the process they have to themselves
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        drawn = name in ("torch.randn", "torch.rand", "torch.randint", "torch.randperm")
        assert not drawn or any(word.arg == "generator" for word in node.keywords), f"{path}:{node.lineno} {name}"
        assert name not in ("torch.manual_seed", "torch.randn_like", "torch.rand_like", "random.random"), \
            f"{path}:{node.lineno} {name}"
        assert not name.startswith("np.random.") or name == "np.random.default_rng", f"{path}:{node.lineno} {name}"
