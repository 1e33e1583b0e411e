"""Half of the time that `import gradio` takes goes into stub files; this leaves them out.

For every component class, gradio reads its source, parses it and writes a `.pyi` file beside it, at each import. Its
package ships those files already, and ours are checked by other means.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

WRITER = "gradio.component_meta"  # the module that writes them, by its create_or_modify_pyi


class _Finder(MetaPathFinder):
    """Finds that one module where it is, and has it loaded without its writer."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == WRITER else None
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Quiet(spec.loader)
        return spec


class _Quiet(Loader):
    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        vars(module)["create_or_modify_pyi"] = lambda component_class, class_name, events: None


def install() -> None:
    """Before gradio is first imported. Harmless after it, and when called again."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
