"""How the studio fares, for those who operate it: its health, and figures in Prometheus' text form.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ by prometheus_client.
"""

from __future__ import annotations

import shutil
from collections import Counter as Count
from collections.abc import Iterator
from typing import Any, get_args

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from core.errors import LoomError
from core.files import writable
from core.job import Job, State
from core.jobs import Jobs

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)  # seconds: a small model on a GPU, a large one on a CPU


def health(jobs: Jobs) -> tuple[bool, dict[str, Any]]:
    """(whether runs can be made here, and how it stands): status, worker, queue, outputs, disk_free in bytes."""
    try:
        writable(jobs.outputs)
        outputs = True
    except LoomError:
        outputs = False
    try:
        free: int | None = shutil.disk_usage(jobs.outputs).free
    except OSError:
        free = None
    worker = jobs.alive
    well = worker and outputs
    return well, {"status": "ok" if well else "failing", "worker": "alive" if worker else "dead",
                  "outputs": "writable" if outputs else "unwritable", "queue": jobs.queue_length(), "disk_free": free}


class Telemetry:
    """Counts one studio's events from now on. No figure names a person or quotes a prompt."""

    def __init__(self, jobs: Jobs):
        self._jobs, self._registry = jobs, CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self._steps = Counter("latent_loom_steps", "Steps taken.", **own)
        self._evaluations = Counter("latent_loom_evaluations", "Evaluations of the network.", **own)
        self._seconds = Histogram("latent_loom_step_seconds", "Seconds per step.", buckets=BUCKETS, **own)
        self._pictures = Counter("latent_loom_pictures_saved", "Pictures written to the outputs folder.", **own)
        self._ended = Counter("latent_loom_jobs_ended", "Jobs that came to their end.", ["state"], **own)
        self._failures = Counter("latent_loom_failures", "Jobs that failed, by the error's class.", ["error"], **own)
        self._registry.register(self)
        jobs.events.listeners.append(self._count)

    def text(self) -> bytes:
        """UTF-8, for a scraper."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What is read off the queue when somebody asks."""
        states = Count(job.state for job in self._jobs.known())
        gauge = GaugeMetricFamily("latent_loom_jobs", "Jobs that the studio knows, by state.", labels=["state"])
        for state in get_args(State):
            gauge.add_metric([state], states[state])
        yield gauge
        yield GaugeMetricFamily("latent_loom_queue_length", "Jobs that run or wait.", self._jobs.queue_length())
        yield GaugeMetricFamily("latent_loom_watchers", "Pages and clients that follow a job.", self._jobs.watchers)
        yield GaugeMetricFamily("latent_loom_worker_up", "1 while the device's thread lives.", self._jobs.alive)
        yield GaugeMetricFamily("latent_loom_memory_bytes", "Resident memory of the process.",
                                psutil.Process().memory_info().rss)

    def _count(self, event: str, job: Job) -> None:
        if event == "step":
            last = job.steps[-1]
            before = job.steps[-2] if len(job.steps) > 1 else None
            self._steps.inc()
            self._seconds.observe(max(last.seconds - (before.seconds if before else 0.0), 0.0))
            self._evaluations.inc(max(last.evaluations - (before.evaluations if before else 0), 0))
        elif event in ("done", "stopped", "failed", "discarded"):
            self._ended.labels(event).inc()
            self._pictures.inc(0 if job.unsaved else len(job.results))
            if job.error:
                self._failures.labels(type(job.error.__cause__ or job.error).__name__).inc()
