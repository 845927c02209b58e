"""A request to a scripted task, as a bridge makes it: the values, and from them subject, headers and body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ajc.exchange import ExecRequest
from ajc.headers import encode_headers, parse_headers
from ajc.instant import Instant
from ajc.subjects import beat_subject, exec_subject
from ajc.task import Task, TaskState

QUEUE: Final = "CONFORM"
TIMEOUT_MS: Final = 10_000
_MILLISECOND: Final = 1_000_000

Pairs = list[tuple[str, str]]
"""Headers in their order, as a check may change them before they are sent."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Times are in milliseconds from now; 0 stands for none."""

    task: str  # a scripted task, like `echo`
    payload: bytes | None = None
    timeout_ms: int = TIMEOUT_MS
    beat_ms: int = 0  # without it the request has no headers about beats
    deadline_ms: int = 0  # the task's own deadline, in its JSON
    skew_ms: int = 0  # how much AJ-Handler-Deadline differs from what AJ-Timeout-Ms says
    try_number: int = 1
    max_tries: int = 5
    traceparent: str | None = None
    tracestate: str | None = None
    keys: dict[str, Any] = {}  # further keys of the task's JSON
    rewrite: Callable[[Pairs], Pairs] | None = None
    subject: str = ""  # in place of the type's own
    about: str = ""  # what is special in it, in words


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What went out for it."""

    ask: Ask
    task_id: str
    type: str
    subject: str
    headers: bytes
    body: bytes


def compose(ask: Ask, *, prefix: str, family: str, bridge: str, attempt: str) -> Sent:
    """Make the request: byte for byte a bridge's, but for what `ask` wants changed.

    Raises `InvalidName` for a family that makes no legal type.
    """
    kind = f"{family}:{ask.task}"
    now = Instant.now()
    task = Task.create(
        kind,
        ask.payload,
        queue=QUEUE,
        max_tries=ask.max_tries,
        created=now,
        deadline=now.plus(ask.deadline_ms * _MILLISECOND) if ask.deadline_ms else None,
    )
    task = task.replace(state=str(TaskState.ACTIVE), tries=ask.try_number, tried=now)
    request = ExecRequest(
        task_id=task.id,
        type=kind,
        queue=QUEUE,
        try_number=ask.try_number,
        max_tries=ask.max_tries,
        deadline=now.plus((ask.timeout_ms + ask.skew_ms) * _MILLISECOND),
        timeout_ms=ask.timeout_ms,
        heartbeat_subject=beat_subject(bridge, attempt) if ask.beat_ms else None,
        heartbeat_ms=ask.beat_ms or None,
        traceparent=ask.traceparent,
        tracestate=ask.tracestate,
    )
    headers = request.headers()
    if ask.rewrite is not None:
        headers = encode_headers(ask.rewrite(list(parse_headers(headers).items)))
    body = task.encode()
    if ask.keys:
        body = msgspec.json.encode(msgspec.json.decode(body) | ask.keys)
    return Sent(
        ask=ask,
        task_id=task.id,
        type=kind,
        subject=ask.subject or exec_subject(prefix, kind),
        headers=headers,
        body=body,
    )
