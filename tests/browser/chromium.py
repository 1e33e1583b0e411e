"""Where is a Chromium that Playwright can drive?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PLACES = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
          "/Applications/Chromium.app/Contents/MacOS/Chromium",
          r"C:\Program Files\Google\Chrome\Application\chrome.exe",
          r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
ADVICE = ("The browser tests need Chromium: install your system's package `chromium` or Google Chrome, "
          "or run `python -m playwright install chromium`.")


def find(own: str) -> str | None:
    """An installed one, else Playwright's own (at `own`), else that one fetched now; None when all fail."""
    found = [shutil.which(name) for name in NAMES] + [place for place in PLACES if Path(place).is_file()]
    if os.environ.get("CHROMIUM"):
        found.insert(0, os.environ["CHROMIUM"])
    if any(found):
        return next(path for path in found if path)
    if not Path(own).is_file():
        try:
            subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], timeout=300, check=True,
                           capture_output=True)
        except (subprocess.SubprocessError, OSError):
            return None
    return own if Path(own).is_file() else None


def must_run() -> bool:
    """Where CI=true the browser tests may not be skipped."""
    return os.environ.get("CI", "").lower() in ("true", "1")
