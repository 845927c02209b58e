"""W3C Trace Context: `traceparent` and `tracestate`, from the producer's code to the handler's.

They are kept in the task's record, so they are there in every attempt, whatever lies between. OpenTelemetry is never
imported here: where nobody has, there is no context to take up, and looking costs one look into a table.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

from ajc.errors import InvalidValue, MalformedHeaders
from ajc.headers import parse_headers

LONGEST_TRACESTATE: Final = 512
"""Characters; a longer one is not passed on (the recommendation asks for no more)."""

_version_0: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}").fullmatch
_later: Final = re.compile(
    r"(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-[!-~]{0,200})?"
).fullmatch
_member: Final = re.compile(
    r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
).fullmatch
_MOST_MEMBERS: Final = 32


def is_traceparent(text: str) -> bool:
    """Whether this is a `traceparent` that means something: neither id is all zeros, the version is not `ff`."""
    found = _version_0(text) or _later(text)
    return found is not None and found[1].strip("0") != "" and found[2].strip("0") != ""


def is_tracestate(text: str) -> bool:
    """Whether this is a `tracestate` that can be passed on."""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    return (
        len(text) <= LONGEST_TRACESTATE
        and 0 < len(members) <= _MOST_MEMBERS
        and all(_member(member) is not None for member in members)
    )


def valid_context(traceparent: str, tracestate: str) -> tuple[str, str]:
    """Return what of the two can be passed on: a bad `tracestate` is left out, a bad `traceparent` leaves nothing."""
    if not is_traceparent(traceparent):
        return "", ""
    return traceparent, tracestate if is_tracestate(tracestate) else ""


def producers_context(traceparent: str | None, tracestate: str | None) -> tuple[str, str]:
    """Return the context of a new task: what is given, else OpenTelemetry's current one, where it is in use.

    Of what is given an empty `traceparent` means none. Raises `InvalidValue` for one that is none.
    """
    if traceparent is None:
        if tracestate:
            raise InvalidValue("tracestate", tracestate, "goes with a traceparent only")
        return current_context()
    if not traceparent:
        return "", ""
    if not is_traceparent(traceparent):
        raise InvalidValue("traceparent", traceparent, "is like 00-<32 hex digits>-<16 hex digits>-01, in lower case")
    if tracestate and not is_tracestate(tracestate):
        raise InvalidValue("tracestate", tracestate, "is a list like vendor=value,other=value, 512 characters at most")
    return traceparent, tracestate or ""


def current_context() -> tuple[str, str]:
    """Return the context of OpenTelemetry's current span; two empty texts when there is none, or no OpenTelemetry."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return "", ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return "", ""
    ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
    return f"00-{ids}-{int(context.trace_flags):02x}", context.trace_state.to_header()


def context_in_headers(block: bytes | None) -> tuple[str, str]:
    """Return the context in the headers of a record's message: what a producer without a JSON key for it wrote.

    A `tracestate` in several headers is put together, as W3C says.
    """
    if block is None or block.lower().find(b"\r\ntraceparent:") < 0:
        return "", ""  # the way of almost all: no block is taken apart
    try:
        headers = parse_headers(block)
    except MalformedHeaders:
        return "", ""
    states = [value for name, value in headers.items if value and name.lower() == "tracestate"]
    return headers.get("traceparent") or "", ",".join(states)
