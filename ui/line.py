"""The queue -> what its panel shows: the own runs one by one, the others' only as a number."""

from __future__ import annotations

from typing import Any

from core.job import Job
from core.jobs import Jobs
from core.paces import Forecast
from ui.components.base import file_url
from ui.languages import say
from ui.stream import settings_line

MOVES = ("up", "down", "top")
ACTS = ("stop", "pause", "resume", "discard", *MOVES)

State = dict[str, Any]


def state_of(jobs: Jobs, owner: str) -> State:
    """{"count": runs of everybody that run or wait, "rows": own ones, "others": a line, "forever"}, as JSON."""
    line = jobs.line()
    own = [job for job in line if job.owner == owner]
    waiting = [job for job in own if job.state == "waiting"]
    others = len([job for job in line if job.owner != owner and job.state != "paused"])
    return {"count": len([job for job in line if job.state != "paused"]),
            "rows": [_row(job, jobs, waiting) for job in own],
            "others": say("queue.others", n=others) if others else "", "forever": jobs.forever(owner) is not None}


def act(jobs: Jobs, owner: str, asked: Any) -> None:
    """{job, act} of one's own job; anything else is passed over."""
    if not isinstance(asked, dict):
        return
    name, what = str(asked.get("job", "")), asked.get("act")
    job = jobs.get(name)
    if job is None or job.owner != owner or what not in ACTS:
        return
    if what in MOVES:
        jobs.move(name, what)
    else:
        getattr(jobs, str(what))(name)


def _row(job: Job, jobs: Jobs, waiting: list[Job]) -> State:
    place = waiting.index(job) if job in waiting else -1
    return {"job": job.id, "state": job.state, "prompt": job.request.prompt, "line": settings_line(job.request),
            "words": words(job, jobs.forecast(job)), "thumb": _thumb(job), "part": round(len(job.steps) / job.total, 3),
            "ending": job.cancel.is_set(), "up": place > 0, "down": 0 <= place < len(waiting) - 1}


def words(job: Job, forecast: Forecast) -> str:
    """How far, how long still: "step 3 of 20 · 4 s left"."""
    if job.cancel.is_set():
        return say("progress.stopping")
    done = {"step": len(job.steps), "total": job.total}
    if job.state == "paused":
        return say("progress.paused-after", **done) if job.steps else say("progress.paused")
    left = "" if forecast.left is None else span(forecast.left)
    if left and not forecast.exact:
        left = say("time.about", time=left)
    if job.state == "running":
        step = say("progress.step", **done) if job.steps else say("progress.getting-ready")
        if job.resting:
            return say("progress.pauses", step=step)
        return say("progress.left", step=step, time=left) if left else step
    place = say("progress.before", n=forecast.ahead) if forecast.ahead else say("progress.next")
    return say("progress.done-in", place=place, time=left) if left else say("progress.untimed", place=place)


def span(value: float) -> str:
    """Seconds as people say them: "8 s", "3 min 20 s", "1 h 5 min"."""
    whole = max(round(value), 1)
    if whole < 100:
        return say("time.seconds", seconds=whole)
    if whole < 3600:
        return say("time.minutes", minutes=whole // 60, seconds=whole % 60 // 10 * 10)
    return say("time.hours", hours=whole // 3600, minutes=whole % 3600 // 60)


def roughly(value: float) -> str:
    """Seconds as an estimate says them: "0.8 s", "12 s", "3 min"."""
    if value >= 90:
        return say("time.whole-minutes", minutes=f"{value / 60:.0f}")
    return say("time.seconds", seconds=f"{value:.0f}" if value >= 2 else f"{value:.1f}")


def _thumb(job: Job) -> str:
    """The newest preview; "" before the first."""
    if job.preview.decoder == "none":
        return ""
    shown = next((k for k in range(len(job.steps) - 1, -1, -1) if k not in job.without_frame), None)
    return "" if shown is None else file_url(job.frame(shown))
