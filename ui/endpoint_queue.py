"""The queue's endpoints: queue a run without holding the line, look, change, and fetch what came of it.

No `from __future__ import annotations` here: gradio reads an endpoint's return types from the annotations themselves.
"""

from typing import Any

import gradio as gr

from core.errors import BadRequest
from core.request import Preview, Request
from ui import line
from ui.answers import answer_of
from ui.owners import owner_of
from ui.studio import Studio


def add(studio: Studio) -> None:
    """Register them in the current gr.Blocks. Each person's jobs are their own; others' names are not known here."""
    jobs = studio.jobs

    def enqueue(request: dict, person: gr.Request, preview: str = "none") -> str:
        wanted, decoder = Request.parse(_whole(studio, request)), Preview(preview)
        studio.check(wanted)
        return jobs.submit(wanted, decoder, owner_of(person), lasting=True).id

    def queue(person: gr.Request) -> list[dict]:
        return [{"job": job.id, "state": job.state, "prompt": job.request.prompt, "step": len(job.steps),
                 "total": job.total, "before": forecast.ahead, "seconds_left": forecast.left}
                for job in jobs.line() if job.owner == owner_of(person) for forecast in [jobs.forecast(job)]]

    def control(job: str, act: str, person: gr.Request) -> str:
        if act not in line.ACTS:
            raise BadRequest(f"A job cannot be told {str(act)[:40]!r}: choose from {', '.join(line.ACTS)}.")
        found = _own(studio, job, person)
        line.act(jobs, found.owner, {"job": found.id, "act": act})
        return found.state

    async def result(job: str, person: gr.Request) -> tuple[list[gr.FileData], dict]:
        found = _own(studio, job, person)
        async for _ in jobs.watch(found):
            pass
        return answer_of(studio, found)

    gr.api(enqueue, api_name="enqueue", concurrency_limit=None, api_description=(
        "Queues a run, an object of Request's fields, and returns its job's name at once. The run goes on when the "
        "client leaves, and when the studio is started again."))
    gr.api(queue, api_name="queue", concurrency_limit=None, api_description=(
        "The jobs of whoever asks that are not over: job, state, prompt, step, total, before (runs before it), "
        "seconds_left (until its end, or null)."))
    gr.api(control, api_name="control", concurrency_limit=None, api_description=(
        "Changes a job: " + ", ".join(line.ACTS) + ". Returns its state."))
    gr.api(result, api_name="result", concurrency_limit=None, api_description=(
        "Waits for a job's end and returns what /txt2img does. The job goes on when the client leaves."))


def _whole(studio: Studio, request: Any) -> dict[str, Any]:
    """A run's fields, with the studio's model and its size where nothing else is said. Raises BadRequest."""
    if not isinstance(request, dict):
        raise BadRequest("A run is an object of fields, like {\"prompt\": \"a red boat\", \"steps\": 20}.")
    name = request.get("model", studio.model)
    info = studio.info(name) if isinstance(name, str) else None
    size = {"width": info.width, "height": info.height} if info else {}
    return {"model": studio.model, **size, **request}


def _own(studio: Studio, name: str, person: gr.Request) -> Any:
    """Raises BadRequest for a job that is not there, or somebody else's: nobody learns which."""
    job = studio.jobs.get(str(name))
    if job is None or job.owner != owner_of(person):
        raise BadRequest("There is no such job (any more): its picture, if it was made, is in the outputs folder.")
    return job
