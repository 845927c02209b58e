"""A span of each attempt, by OpenTelemetry where it is installed (`pip install ajc-bridge[otel]`).

The environment says the rest, as everywhere with OpenTelemetry: `OTEL_TRACES_EXPORTER` (`otlp`, `console`, several with
commas) and the exporter's own variables where spans go, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`,
`OTEL_SDK_DISABLED`. A provider that somebody has set up before (`opentelemetry-instrument ajc-bridge run`) is taken as
it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from ajc.errors import InvalidValue
from ajc.task import Task
from ajc.trace_context import is_traceparent
from ajc_bridge import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

_logger: Final = logging.getLogger("ajc_bridge.traces")
EXPORTERS: Final = "OTEL_TRACES_EXPORTER"
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_NO_FAULTS: Final = frozenset({"succeeded", "busy", "no_responder", "interrupted"})
"""Outcomes that say nothing bad of the handler."""


def open_tracer() -> OpenTelemetryTracer | None:
    """Return what makes spans; None where OpenTelemetry's SDK is not installed or is switched off.

    Raises `InvalidValue` for an exporter that is not installed.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415  (not installed with most bridges)
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    except ImportError:
        return None
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider):
        return OpenTelemetryTracer(provider, exports=True)
    made = TracerProvider(resource=_resource())
    names = [name.strip() for name in os.environ.get(EXPORTERS, "").split(",")]
    exporters = [_exporter(name) for name in names if name not in ("", "none")]
    if exporters:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        for exporter in exporters:
            made.add_span_processor(BatchSpanProcessor(exporter()))
    return OpenTelemetryTracer(made, exports=bool(exporters))


class OpenTelemetryTracer:
    """`ports.Tracer`. When nothing `exports` the spans, only tasks with a context of their producer's get one.

    Such a span is seen by nobody, but every attempt has an id of its own in what its responder tells.
    """

    def __init__(self, provider: TracerProvider, *, exports: bool) -> None:
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415  (likewise)
            TraceContextTextMapPropagator,
        )

        self._tracer = provider.get_tracer("ajc_bridge", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._exports = exports

    def begin(self, task: Task, queue: str) -> OpenTelemetrySpan | None:
        """Begin a span; see `ports.Tracer.begin`. A context that is none begins a trace of its own."""
        if not self._exports and not (task.traceparent and is_traceparent(task.traceparent)):
            return None
        try:
            return self._begin(task, queue)
        except Exception:
            _logger.warning("a span could not be begun", exc_info=True)
            return None

    def _begin(self, task: Task, queue: str) -> OpenTelemetrySpan:
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415  (a look into a table by now)

        given = {"traceparent": task.traceparent, "tracestate": task.tracestate}
        span = self._tracer.start_span(
            f"process {task.type}",
            context=self._propagator.extract({name: value for name, value in given.items() if value}),
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "nats",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": queue,
                "messaging.message.id": task.id,
                "ajc.task.type": task.type,
                "ajc.task.try": task.tries,
            },
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return OpenTelemetrySpan(span, carrier.get("traceparent", ""), carrier.get("tracestate", ""))


class OpenTelemetrySpan:
    """`ports.AttemptSpan`."""

    def __init__(self, span: Span, traceparent: str, tracestate: str) -> None:
        self._span = span
        self.traceparent = traceparent
        self.tracestate = tracestate

    def end(self, outcome: str, text: str) -> None:
        """End the span; see `ports.AttemptSpan.end`."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  (likewise)

        try:
            self._span.set_attribute("ajc.outcome", outcome)
            if outcome not in _NO_FAULTS:
                self._span.set_status(StatusCode.ERROR, text or outcome)
            self._span.end()
        except Exception:
            _logger.warning("a span could not be ended", exc_info=True)


def _resource() -> Any:
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415  (likewise)

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {SERVICE_NAME: "ajc-bridge"})


def _exporter(name: str) -> Callable[[], Any]:
    """Find what makes the exporter of this name: OpenTelemetry's packages announce theirs as entry points."""
    wanted = name
    if name == "otlp":
        protocol = next((said for key in PROTOCOLS if (said := os.environ.get(key))), "http/protobuf")
        wanted = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    found = {one.name: one for one in entry_points(group="opentelemetry_traces_exporter")}
    if wanted not in found:
        there = ", ".join(sorted(found)) or "none"
        raise InvalidValue(EXPORTERS, name, f"is not installed (there are: {there}); pip install 'ajc-bridge[otel]'")
    made: Callable[[], Any] = found[wanted].load()
    return made
