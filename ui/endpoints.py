"""The endpoints for gradio_client: keyword arguments bear the names of Request's fields. A LoomError they raise is told
in its one line by `ui.page`.

No `from __future__ import annotations` here: gradio reads an endpoint's return types from the annotations themselves.
"""

from typing import Any

import gradio as gr

from core.errors import BadRequest
from core.history import Query, of
from core.history.command import row
from core.owners import home
from core.request import Preview, Request
from core.samplers import rows
from ui import endpoint_compare, endpoint_queue, endpoint_trajectories
from ui.answers import to_the_end
from ui.owners import owner_of
from ui.studio import Studio

_DEFAULT = Request()
_NO_REGIONS: list[dict] = []


def add(studio: Studio) -> None:
    """Register all endpoints in the current gr.Blocks."""
    _add_making(studio)
    endpoint_compare.add(studio)
    endpoint_trajectories.add(studio)
    endpoint_queue.add(studio)
    _add_lists(studio)


def _add_making(studio: Studio) -> None:
    """Those that make pictures. Sizes default to the model's own."""
    info = studio.info(studio.model)
    native_width, native_height = (info.width, info.height) if info else (_DEFAULT.width, _DEFAULT.height)

    async def txt2img(
        prompt: str = _DEFAULT.prompt, negative_prompt: str = _DEFAULT.negative_prompt, model: str = studio.model,
        sampler: str = _DEFAULT.sampler, schedule: str = _DEFAULT.schedule, steps: int = _DEFAULT.steps,
        guidance: float = _DEFAULT.guidance, seed: int = _DEFAULT.seed, width: int = native_width,
        height: int = native_height, batch: int = _DEFAULT.batch, precision: str = _DEFAULT.precision,
        clip_skip: int = _DEFAULT.clip_skip, preview: str = "none", refiner: str = _DEFAULT.refiner,
        refiner_from: float = _DEFAULT.refiner_from, person: gr.Request | None = None,
    ) -> tuple[list[gr.FileData], dict]:
        values = dict(prompt=prompt, negative_prompt=negative_prompt, model=model, sampler=sampler, schedule=schedule,
                      steps=steps, guidance=guidance, seed=seed, width=width, height=height, batch=batch,
                      precision=precision, clip_skip=clip_skip, refiner=refiner, refiner_from=refiner_from)
        return await answer(studio, values, preview, owner_of(person))

    async def compose(
        prompt: str = _DEFAULT.prompt, regions: list[dict] = _NO_REGIONS,
        negative_prompt: str = _DEFAULT.negative_prompt, model: str = studio.model, sampler: str = _DEFAULT.sampler,
        schedule: str = _DEFAULT.schedule, steps: int = _DEFAULT.steps, guidance: float = _DEFAULT.guidance,
        seed: int = _DEFAULT.seed, width: int = native_width, height: int = native_height,
        batch: int = _DEFAULT.batch, precision: str = _DEFAULT.precision, clip_skip: int = _DEFAULT.clip_skip,
        bootstrap: float = _DEFAULT.bootstrap, masks: str = _DEFAULT.masks, crop_after: float = _DEFAULT.crop_after,
        say_places: bool = _DEFAULT.say_places, join_prompts: bool = _DEFAULT.join_prompts,
        panorama: str = _DEFAULT.panorama, stride: int = _DEFAULT.stride, wrap: bool = _DEFAULT.wrap,
        preview: str = "none", refiner: str = _DEFAULT.refiner, refiner_from: float = _DEFAULT.refiner_from,
        person: gr.Request | None = None,
    ) -> tuple[list[gr.FileData], dict]:
        values = dict(prompt=prompt, regions=regions, negative_prompt=negative_prompt, model=model, sampler=sampler,
                      schedule=schedule, steps=steps, guidance=guidance, seed=seed, width=width, height=height,
                      batch=batch, precision=precision, clip_skip=clip_skip, bootstrap=bootstrap, masks=masks,
                      crop_after=crop_after, say_places=say_places, join_prompts=join_prompts, panorama=panorama,
                      stride=stride, wrap=wrap, refiner=refiner, refiner_from=refiner_from)
        if not regions and panorama == "off":
            raise BadRequest("There is no region: add one with a box or a mask, or call /txt2img.", "regions")
        return await answer(studio, values, preview, owner_of(person))

    gr.api(txt2img, api_name="txt2img", concurrency_limit=None, api_description=(
        "Makes pictures. Returns their PNG files, with metadata, and an object: seed, settings, request, evaluations, "
        "seconds, stopped."))

    gr.api(compose, api_name="compose", concurrency_limit=None, api_description=(
        "Makes pictures from regions, each with its own prompt: a list of {name, prompt, box: [x0, y0, x1, y1] in 0..1 "
        "or mask: {width, height, runs}, negative_prompt, guidance, weight, feather}, later ones over earlier ones. "
        "`prompt` rules what is left. Also wide and tall pictures, by windows (panorama). Returns what /txt2img does."))


def _add_lists(studio: Studio) -> None:
    """Those that list what there is."""
    def models() -> list[dict]:
        return studio.catalogue.rows()

    def samplers() -> list[dict]:
        return rows()

    def history(words: str = "", model: str = "", sampler: str = "", since: str = "", until: str = "", tag: str = "",
                favourites: bool = False, offset: int = 0, count: int = 100,
                person: gr.Request | None = None) -> list[dict]:
        found = of(home(studio.jobs.outputs, owner_of(person)))
        found.refresh()
        query = Query(words=words, model=model, sampler=sampler, since=since, until=until, tag=tag,
                      favourites=favourites)
        return [row(entry) for entry in found.search(query, offset, count)[1]]

    gr.api(history, api_name="history", concurrency_limit=None, api_description=(
        "The pictures in the outputs folder, newest first, by words of the prompt, model, sampler, days (2026-01-31) "
        "and tag. Returns a list of {file (below the outputs), prompt, negative, model, sampler, seed, steps, width, "
        "height, made, favourite, tags, ...}."))
    gr.api(models, api_name="models", concurrency_limit=None,
           api_description="The models that are here: name, family, native size in pixels, size on disk.")
    gr.api(samplers, api_name="samplers", concurrency_limit=None, api_description=(
        "The samplers: name, words, schedules each accepts, network calls at 20 steps."))


async def answer(studio: Studio, values: dict[str, Any], preview: str, owner: str) -> tuple[Any, dict]:
    """Run a request to its end. Raises LoomError."""
    request, decoder = Request.parse(values), Preview(preview)
    notes = studio.check(request)
    return await to_the_end(studio, studio.jobs.submit(request, decoder, owner), notes)
