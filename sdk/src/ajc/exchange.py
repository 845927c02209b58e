"""The exec protocol, version 1: one request per attempt, one reply. ExecRequest and ExecReply <-> headers and body."""

from __future__ import annotations

import re
from typing import Literal, Self

import msgspec
from msgspec import Struct

from ajc.errors import MalformedHeaders, MalformedInstant, MalformedRequest, MalformedTask
from ajc.headers import encode_headers, parse_headers
from ajc.instant import Instant
from ajc.task import Task

PROTOCOL = "1"
CONTENT_TYPE = "application/x-asyncjobs-task+json"
LONGEST_TEXT = 4096  # bytes of UTF-8
LONGEST_RETRY_AFTER_MS = 30 * 24 * 3600 * 1000
NO_RESPONDERS = 503

ReplyKind = Literal["success", "terminate", "busy", "error", "no_responder", "malformed"]

_integer = re.compile(r"[0-9]+").fullmatch
_number = re.compile(r"-?[0-9]{1,18}").fullmatch
# Control characters (C0, DEL, C1) except tab and newline, and what UTF-8 cannot hold.
_unwanted = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_surrogates = re.compile("[\ud800-\udfff]")


class ExecRequest(Struct, frozen=True, kw_only=True):
    """One attempt, as a responder is asked for it; `body` is the task's record as stored for this attempt."""

    task_id: str
    type: str
    queue: str
    try_number: int  # from 1
    max_tries: int  # the cap that applies, 0 for none
    deadline: Instant  # reply before this
    timeout_ms: int  # time left when it was sent, for clocks that disagree
    heartbeat_subject: str | None = None
    heartbeat_ms: int | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    body: bytes = b""

    def headers(self, heartbeat_subject: str | None = None) -> bytes:
        """Write the header block. `heartbeat_subject`: one that is known only when it is sent."""
        beats = heartbeat_subject or self.heartbeat_subject
        lines = (
            f"NATS/1.0\r\nAJ-Content-Type: {CONTENT_TYPE}\r\nAJ-Handler-Deadline: {self.deadline.rfc3339()}\r\n"
            f"AJ-Protocol: {PROTOCOL}\r\nAJ-Task-Id: {self.task_id}\r\n"
            f"AJ-Task-Type: {self.type}\r\nAJ-Queue: {self.queue}\r\n"
            f"AJ-Try: {self.try_number}\r\nAJ-Max-Tries: {self.max_tries}\r\nAJ-Timeout-Ms: {self.timeout_ms}\r\n"
        )
        given = self.task_id + self.type + self.queue
        if beats:
            given += beats
            lines += f"AJ-Heartbeat-Subject: {beats}\r\nAJ-Heartbeat-Ms: {self.heartbeat_ms or 0}\r\n"
        if self.traceparent:
            given += self.traceparent
            lines += f"traceparent: {self.traceparent}\r\n"
            if self.tracestate:
                given += self.tracestate
                lines += f"tracestate: {self.tracestate}\r\n"
        if given.isprintable():
            return (lines + "\r\n").encode()
        return _on_one_line(self).headers(heartbeat_subject and _printable(heartbeat_subject))

    @classmethod
    def decode(cls, headers: bytes | None, body: bytes, *, now: Instant | None = None) -> Self:
        """Read a request, Go's too, which has two headers only: the rest is taken from the task in the body.

        Either a deadline or a time-out must be there; `now` (the clock when None) turns one into the other. A number
        that is none counts as absent. MalformedRequest for what no responder could work with.
        """
        try:
            items = parse_headers(headers).items if headers is not None else ()
        except MalformedHeaders as error:
            raise MalformedRequest("headers", error.reason) from None
        said: dict[str, str] = {}
        for name, value in items:
            if value:
                said.setdefault(name.lower(), value)
        task_id, task_type, queue = said.get("aj-task-id"), said.get("aj-task-type"), said.get("aj-queue")
        try_number, max_tries = _number_of(said.get("aj-try")), _number_of(said.get("aj-max-tries"))
        if None in (task_id, task_type, queue, try_number, max_tries):
            try:
                task = Task.decode(body)
            except MalformedTask as error:
                raise MalformedRequest(f"body.{error.field}" if error.field else "body", error.reason) from None
            task_id, task_type, queue = task_id or task.id, task_type or task.type, queue or task.queue
            try_number = max(task.tries, 1) if try_number is None else try_number
            max_tries = max(task.max_tries, 0) if max_tries is None else max_tries
        deadline, timeout_ms = _times(
            said.get("aj-handler-deadline"),
            _number_of(said.get("aj-timeout-ms")),
            Instant.now() if now is None else now,
        )
        return cls(
            task_id=task_id or "",
            type=task_type or "",
            queue=queue or "",
            try_number=try_number or 0,
            max_tries=max_tries or 0,
            deadline=deadline,
            timeout_ms=timeout_ms,
            heartbeat_subject=said.get("aj-heartbeat-subject"),
            heartbeat_ms=_number_of(said.get("aj-heartbeat-ms")),
            traceparent=said.get("traceparent"),
            tracestate=said.get("tracestate"),
            body=body,
        )


class ExecReply(Struct, frozen=True):
    """What a reply means. `retry_after_bad`: it asked for a time that is none, so that it counts as not asked for."""

    kind: ReplyKind
    text: str = ""
    retry_after_ms: int | None = None
    retry_after_bad: bool = False
    body: bytes = b""


def read_reply(headers: bytes | None, body: bytes) -> ExecReply:
    """Read a reply, never failing: status, AJ-Terminate, AJ-Busy, AJ-Error or Nats-Service-Error, else success."""
    if headers is None:
        return ExecReply("success", body=body)
    try:
        found = parse_headers(headers)
    except MalformedHeaders as error:
        return ExecReply("malformed", clean_text(error.reason), body=body)
    if found.status is not None:
        if found.status == NO_RESPONDERS:
            return ExecReply("no_responder")
        return ExecReply("malformed", clean_text(f"status {found.status} {found.description}".rstrip()), body=body)
    text = found.get("AJ-Terminate")
    if text is not None:
        return ExecReply("terminate", clean_text(text), body=body)
    kind: ReplyKind = "busy"
    text = found.get("AJ-Busy")
    if text is None:
        kind = "error"
        text = found.get("AJ-Error") or found.get("Nats-Service-Error")
    if text is None:
        return ExecReply("success", body=body)
    after = found.get("AJ-Retry-After-Ms")
    milliseconds = None if after is None else _retry_after(after)
    return ExecReply(kind, clean_text(text), milliseconds, after is not None and milliseconds is None, body)


def reply_headers(
    *,
    terminate: str | None = None,
    busy: str | None = None,
    error: str | None = None,
    retry_after_ms: int | None = None,
) -> bytes | None:
    """Write the headers that say this (None: a result). For a blank text stands a word: it would count as absent."""
    pairs = []
    if terminate is not None:
        pairs.append(("AJ-Terminate", _said(terminate, "terminated")))
    elif busy is not None:
        pairs.append(("AJ-Busy", _said(busy, "busy")))
    elif error is not None:
        pairs.append(("AJ-Error", _said(error, "failed")))
    else:
        return None
    if retry_after_ms is not None and terminate is None:
        pairs.append(("AJ-Retry-After-Ms", str(min(max(retry_after_ms, 0), LONGEST_RETRY_AFTER_MS))))
    return encode_headers(pairs)


def clean_text(text: str | bytes) -> str:
    """Make a text fit for storing: no controls but tab and newline, no invalid UTF-8, 4,096 bytes at most."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "ajc-go")
    if not text.isprintable():
        text = _surrogates.sub("\ufffd", _unwanted.sub("", text))
    if len(text) * 4 > LONGEST_TEXT:
        encoded = text.encode()
        if len(encoded) > LONGEST_TEXT:
            text = encoded[: LONGEST_TEXT - len("…".encode())].decode("utf-8", "ignore") + "…"
    return text


def _on_one_line(request: ExecRequest) -> ExecRequest:
    """Take line breaks, controls and what UTF-8 cannot hold out of texts that somebody else chose."""
    names = ("task_id", "type", "queue", "heartbeat_subject", "traceparent", "tracestate")
    texts = {name: getattr(request, name) for name in names}
    return msgspec.structs.replace(request, **{name: _printable(text) for name, text in texts.items() if text})


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _said(text: str, otherwise: str) -> str:
    return clean_text(text.replace("\r", " ").replace("\n", " ")).strip() or otherwise


def _retry_after(text: str) -> int | None:
    if _integer(text) is None:
        return None
    return min(int(text[-18:]), LONGEST_RETRY_AFTER_MS) if len(text.lstrip("0")) <= 18 else LONGEST_RETRY_AFTER_MS  # noqa: PLR2004


def _number_of(text: str | None) -> int | None:
    return int(text) if text is not None and _number(text) is not None else None


def _times(deadline: str | None, timeout_ms: int | None, now: Instant) -> tuple[Instant, int]:
    if deadline is None:
        if timeout_ms is None:
            raise MalformedRequest("AJ-Handler-Deadline", "neither a deadline nor AJ-Timeout-Ms")
        return now.plus(timeout_ms * 1_000_000), timeout_ms
    try:
        ends = Instant.parse(deadline)
    except MalformedInstant as error:
        raise MalformedRequest("AJ-Handler-Deadline", error.reason) from None
    return ends, (ends - now) // 1_000_000 if timeout_ms is None else timeout_ms
