"""What is answered over HTTP: /metrics, /healthz, /readyz."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Probe(Protocol):
    """Whether the process can do its work (`ajc_bridge.probes.Readiness`)."""

    @property
    def ready(self) -> bool:
        """Whether everything is there."""

    def body(self) -> dict[str, Any]:
        """Say what is there and what is missing."""


def application(probe: Probe, metrics: Callable[[], bytes]) -> Starlette:
    """Return the ASGI application. `metrics` makes the page in Prometheus' text format."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})  # the loop turns, or nobody would say so

    async def readyz(_: Request) -> Response:
        return JSONResponse(probe.body(), status_code=200 if probe.ready else 503)

    async def metrics_page(_: Request) -> Response:
        return Response(metrics(), media_type=METRICS_TYPE)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics_page)],
    )
