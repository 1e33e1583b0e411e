"""The endpoints on the kept steps of runs; their arguments are named like the command line's options.

No `from __future__ import annotations` here: gradio reads an endpoint's return types from the annotations themselves.
"""

from typing import Any

import gradio as gr

from core import metadata, trajectory
from core.files import disk_errors
from core.owners import home
from core.request import Preview
from core.trajectory import Trajectory, picture_path
from ui.answers import files, to_the_end
from ui.owners import owner_of
from ui.studio import Studio

_ABOUT = "trajectory: as /txt2img tells it, or a path inside the outputs folder. "


def add(studio: Studio) -> None:
    """Register /resume, /fork and /decode in the current gr.Blocks."""
    jobs = studio.jobs

    async def resume(trajectory: str, person: gr.Request, preview: str = "none") -> tuple[list[gr.FileData], dict]:
        return await to_the_end(studio, jobs.submit_resume(_find(studio, trajectory, person), Preview(preview),
                                                           owner_of(person)))

    async def fork(
        trajectory: str, at: int, person: gr.Request, prompt: str | None = None, negative_prompt: str | None = None,
        sampler: str | None = None, schedule: str | None = None, steps: int | None = None,
        guidance: float | None = None, seed: int | None = None, precision: str | None = None,
        clip_skip: int | None = None, regions: list[dict] | None = None, bootstrap: float | None = None,
        masks: str | None = None, preview: str = "none", refiner: str | None = None, refiner_from: float | None = None,
    ) -> tuple[list[gr.FileData], dict]:
        given = dict(prompt=prompt, negative_prompt=negative_prompt, sampler=sampler, schedule=schedule, steps=steps,
                     guidance=guidance, seed=seed, precision=precision, clip_skip=clip_skip, regions=regions,
                     bootstrap=bootstrap, masks=masks, refiner=refiner, refiner_from=refiner_from)
        changes = {name: value for name, value in given.items() if value is not None}
        run = Trajectory(_find(studio, trajectory, person))
        notes = studio.check(run.outline.changed(changes))
        job = jobs.submit_fork(run, at, changes, Preview(preview), owner_of(person))
        return await to_the_end(studio, job, notes)

    async def decode(trajectory: str, step: int, person: gr.Request,
                     source: str = "x0") -> tuple[list[gr.FileData], dict]:
        run = Trajectory(_find(studio, trajectory, person), check=False)
        pictures = await jobs.decode(run.latents(step, source), run.request, "vae", run.outline.model)
        paths, folder = [], home(jobs.frames, owner_of(person)) / "decoded"
        with disk_errors("pictures", folder):
            folder.mkdir(parents=True, exist_ok=True)
            for k, picture in enumerate(pictures):
                paths.append(folder / picture_path(run, k, f"-step{step + 1}-{source}").name)
                metadata.save_png(picture, paths[-1], run.request.single(k), step + (source == "x0"),
                                  (run.parent.file, run.parent.step) if run.parent else None)
        return files(paths), _about(run, step)

    gr.api(resume, api_name="resume", concurrency_limit=None, api_description=(
        "Finishes a run that was stopped or killed: the picture is that of an uninterrupted run. " + _ABOUT +
        "Returns what /txt2img does."))
    gr.api(fork, api_name="fork", concurrency_limit=None, api_description=(
        "Goes on from step `at` (from 0) of a kept run; what is given changes from there on, the rest stays. "
        + _ABOUT + "Returns what /txt2img does."))
    gr.api(decode, api_name="decode", concurrency_limit=None, api_description=(
        "A kept step (from 0) at full quality. source: x0, what the network believed, or xt, what it saw. " + _ABOUT +
        "Returns PNG files and an object: step, total, sigma, timestep."))


def _find(studio: Studio, name: str, person: gr.Request) -> Any:
    """Among those of whoever asks."""
    return trajectory.inside(home(studio.jobs.outputs, owner_of(person)), name)


def _about(run: Trajectory, step: int) -> dict:
    info = run.steps[step]
    return {"step": step, "total": run.total, "sigma": info.sigma, "timestep": info.timestep}
