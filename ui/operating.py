"""Addresses for those who operate the studio, beside the page: /healthz for anybody, /metrics for few."""

from __future__ import annotations

import ipaddress

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.jobs import Jobs
from core.telemetry import Telemetry, health
from ui.owners import owner_of


def routes(jobs: Jobs) -> list[Route]:
    """/healthz says nothing about anybody and needs no login: whatever restarts the studio must reach it. /metrics is
    for this machine and for whoever is logged in."""
    telemetry = Telemetry(jobs)

    async def healthz(request: Request) -> Response:
        well, about = await run_in_threadpool(health, jobs)
        return JSONResponse(about, 200 if well else 503, {"Cache-Control": "no-store"})

    async def metrics(request: Request) -> Response:
        if not _is_near(request) and not owner_of():
            return Response("Figures are for this machine, or for who is logged in.\n", 403, media_type="text/plain")
        return Response(telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


def _is_near(request: Request) -> bool:
    """Asked for by this machine itself; what a proxy passes on is not."""
    if {"x-forwarded-for", "forwarded", "x-real-ip"} & set(request.headers):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
