"""The trace of an attempt as OpenTelemetry's current context, where opentelemetry-api is installed (an extra)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Enter = Callable[[str, str | None], None]
"""Takes `traceparent` and `tracestate`, and makes them the context of the running asyncio task."""


def find_tracing() -> Enter | None:
    """Return what enters an attempt's trace, None where there is no OpenTelemetry."""
    try:
        context: Any = importlib.import_module("opentelemetry.context")
        carried: Any = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
    except ImportError:
        return None
    extract = carried.TraceContextTextMapPropagator().extract

    def enter(traceparent: str, tracestate: str | None) -> None:
        # nothing to detach: a runner takes no further attempt in a context that was changed
        headers = {"traceparent": traceparent} | ({"tracestate": tracestate} if tracestate else {})
        context.attach(extract(headers))

    return enter
