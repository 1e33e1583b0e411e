"""Whose files are whose: each person who logs in has a folder below the outputs, below the previews and below the own
presets.

A folder is all there is to it. So the pictures stay the truth, each person's history has its own index, trash and
notes, and whose a file is can be told from its path alone, which is what `ui.guard` goes by.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote

PEOPLE = "people"  # the folder of folders


def home(root: Path, owner: str) -> Path:
    """Where somebody's files lie below the outputs, the previews or the presets. Without logins the owner is "", and
    has the folder itself."""
    return root / PEOPLE / quote(owner, safe="").replace(".", "%2E") if owner else root


def whose(path: Path, root: Path) -> str | None:
    """The owner of a path below a root, "" where nobody in particular is; None for what lies outside of it.

    Links are followed first, and so is "..": it is the file that has an owner.
    """
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if not real.is_relative_to(root):
        return None
    parts = real.relative_to(root).parts
    return unquote(parts[1]) if len(parts) > 1 and parts[0] == PEOPLE else ""
