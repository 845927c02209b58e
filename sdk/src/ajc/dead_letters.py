"""What is in the stream of dead letters: one a task, with the reason in its headers and the task as its body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from ajc.connection import Connection
from ajc.errors import Malformed, MalformedHeaders, MalformedInstant, NotFound
from ajc.headers import Headers, parse_headers
from ajc.instant import Instant
from ajc.stored_message import StoredMessage, last_message, stored_messages
from ajc.subjects import DLQ_STREAM, DLQ_SUBJECTS, dead_letters_of, dlq_subject
from ajc.task import Task

_QUEUE_TOKEN: Final = 2
_ID_TOKEN: Final = 3


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter.

    `reason` is a word (`terminated`, `tries`, `deadline`, …), `error` the text of the last error, `tries` how often
    the task was tried. `body` is the record as it was saved last, or the bytes that could not be read.
    """

    queue: str
    task_id: str
    type: str
    reason: str
    error: str
    tries: int
    time: Instant
    body: bytes

    @property
    def task(self) -> Task | None:
        """The task, None when the body is none."""
        try:
            return Task.decode(self.body)
        except Malformed:
            return None


async def list_dead_letters(connection: Connection, queue: str | None = None) -> AsyncIterator[DeadLetter]:
    """Yield the dead letters of a queue, or all, the oldest first. Raises `Unavailable`. No stream: there are none."""
    subject = DLQ_SUBJECTS if queue is None else dead_letters_of(queue)
    try:
        async for message in stored_messages(connection, DLQ_STREAM, subject):
            yield _read(message)
    except NotFound:
        return


async def read_dead_letter(connection: Connection, task_id: str, queue: str | None = None) -> DeadLetter:
    """Return the dead letter of a task, the last one where several queues have one. Raises `NotFound`."""
    subject = dlq_subject(queue or "ANY", task_id)
    if queue is None:
        subject = subject.replace(".ANY.", ".*.", 1)
    try:
        return _read(await last_message(connection, DLQ_STREAM, subject))
    except NotFound:
        raise NotFound("dead letter of task", task_id) from None


def _read(message: StoredMessage) -> DeadLetter:
    tokens = message.subject.split(".")
    try:
        headers = parse_headers(message.headers) if message.headers else Headers()
    except MalformedHeaders:
        headers = Headers()
    try:
        time = Instant.parse(headers.get("AJ-Dlq-Time") or "")
    except MalformedInstant:
        time = message.stored_at
    tries = headers.get("AJ-Dlq-Tries") or ""
    return DeadLetter(
        queue=headers.get("AJ-Queue") or tokens[_QUEUE_TOKEN],
        task_id=headers.get("AJ-Task-Id") or tokens[_ID_TOKEN],
        type=headers.get("AJ-Task-Type") or "",
        reason=headers.get("AJ-Dlq-Reason") or "",
        error=headers.get("AJ-Dlq-Error") or "",
        tries=int(tries) if tries.isdecimal() and len(tries) < 10 else 0,  # noqa: PLR2004  (what an int32 holds)
        time=time,
        body=message.data,
    )
