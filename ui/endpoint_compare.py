"""The endpoint /compare for gradio_client: its keyword arguments bear the names of a specification's fields.

No `from __future__ import annotations` here: gradio reads an endpoint's return types from the annotations themselves.
"""

from pathlib import Path
from typing import Any

import gradio as gr

from core.compare import prepare
from core.contests import Contests
from core.models.catalogue import Catalogue
from core.request import Preview, Request
from ui.owners import owner_of
from ui.studio import Studio

_DEFAULT = Request()
_SAMPLERS, _STEPS, _SEEDS = ["DPM++ 2M", "Euler", "Heun"], [10, 20], [0]
_SHARES: list[float | str] = [_DEFAULT.refiner_from]


def add(studio: Studio) -> None:
    """Register /compare in the current gr.Blocks. Sizes default to the model's own."""
    info, contests = studio.info(studio.model), studio.contests
    native_width, native_height = (info.width, info.height) if info else (_DEFAULT.width, _DEFAULT.height)

    async def compare(
        prompt: str = _DEFAULT.prompt, samplers: list[str] = _SAMPLERS, steps: list[int] = _STEPS,
        seeds: list[int] = _SEEDS, negative_prompt: str = _DEFAULT.negative_prompt, model: str = studio.model,
        schedule: str = _DEFAULT.schedule, guidance: float = _DEFAULT.guidance, width: int = native_width,
        height: int = native_height, precision: str = _DEFAULT.precision, equal_evaluations: bool = False,
        reference_steps: int = 0, refiner: str = _DEFAULT.refiner, refiners_from: list[float | str] = _SHARES,
        person: gr.Request | None = None,
    ) -> tuple[gr.FileData, list[dict], list[gr.FileData]]:
        spec = dict(prompt=prompt, samplers=samplers, seeds=seeds, steps=steps, negative_prompt=negative_prompt,
                    model=model, schedule=schedule, guidance=guidance, width=width, height=height,
                    precision=precision, equal_evaluations=equal_evaluations, reference_steps=reference_steps)
        if refiner:
            spec |= dict(refiner=refiner, refiners_from=refiners_from)
        return await answer(studio.catalogue, contests, spec, owner_of(person))

    gr.api(compare, api_name="compare", concurrency_limit=None, api_description=(
        "Compares samplers, steps and seeds. Returns the labelled grid (PNG), a table with a row for every cell "
        "(evaluations, seconds, and with reference_steps the distance to a run of so many Heun steps), and the cells' "
        "PNG files with metadata. equal_evaluations: steps count network calls, the same for every sampler. "
        "refiners_from: when SDXL's refiner takes over, each from 0 to 1, or \"none\"."))


async def answer(catalogue: Catalogue, contests: Contests, spec: dict[str, Any],
                 owner: str = "") -> tuple[Any, list[dict], Any]:
    """Make a comparison to its end. Raises LoomError, and gr.Error where no cell could be made."""
    contest = contests.start(prepare(spec, catalogue), Preview("none"), owner, spec)
    try:
        async for _ in contests.watch(contest):
            pass
    finally:  # nobody is left to want it when the client is gone
        if not contest.over:
            contests.stop(contest)
    rows = [{name: value if value != float("inf") else None for name, value in row.items()} for row in contest.rows()]
    if not contest.files:
        raise gr.Error(contest.error or next((row["error"] for row in rows if row["error"]), "No cell could be made."),
                       print_exception=False)
    cells = [job.results[0] for job in contest.jobs if job and job.state == "done" and job.results]
    return _file(contest.files[0]), rows, [_file(path) for path in cells]


def _file(path: Path) -> dict[str, Any]:
    """As gradio wants it."""
    return {"path": str(path.resolve()), "url": None, "orig_name": path.name, "mime_type": "image/png",
            "meta": {"_type": "gradio.FileData"}}
