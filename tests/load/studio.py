"""The studio that the load test presses: the real page and queue, many logins, a fake network.

`python -m tests.load.studio FOLDER` prints its address; everybody may log in whose password is the name.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from core.jobs import Jobs
from core.presets import load_styles
from tests.fakes import FakeCatalogue, FakeRunner
from ui import shell
from ui.studio import Studio


def main() -> None:
    folder = Path(sys.argv[1])
    jobs = Jobs(lambda: FakeRunner(0.015, records=True), folder / "outputs", folder / "frames")
    studio = Studio(FakeCatalogue(folder / "models"), jobs, load_styles())
    page = shell.build(studio)
    _, address, _ = page.launch(server_name="127.0.0.1", quiet=True, prevent_thread_lock=True,
                                auth=lambda name, password: name == password, **shell.serving(studio))
    print(address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
