"""The task store as a client sees it: one record read from the leader, all of them in batches, a change by revision."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from ajc.connection import Answer, Connection
from ajc.errors import Conflict, MalformedTask, NoResponders, NotFound, StoreError, TooLarge
from ajc.headers import encode_headers, parse_headers
from ajc.instant import Instant
from ajc.subjects import TASK_SUBJECTS, TASKS_STREAM, task_subject
from ajc.task import Task

EXPECTED_REVISION: Final = "Nats-Expected-Last-Subject-Sequence"
NEW_RECORD: Final = encode_headers({EXPECTED_REVISION: "0"})
"""The headers of the first save of a task: there must be none yet."""

_PAGE: Final = 256
_NO_MESSAGE: Final = 10037


class StoredMessage(msgspec.Struct, frozen=True):
    """One message of a stream: `revision` is its sequence, `headers` its raw block."""

    subject: str
    revision: int
    data: bytes
    headers: bytes | None
    stored_at: Instant


class TaskRecord(msgspec.Struct, frozen=True):
    """A stored task: its bytes, its revision, when it was stored by the server's clock."""

    task: Task
    revision: int
    data: bytes
    stored_at: Instant


async def read_task(connection: Connection, task_id: str, *, timeout: float = 5.0) -> TaskRecord:
    """Read a task from the store's leader: never a stale one. Raises `NotFound`, `MalformedTask` and `Unavailable`."""
    try:
        message = await last_message(connection, TASKS_STREAM, task_subject(task_id), timeout=timeout)
    except NotFound:
        raise NotFound("task", task_id, code=_NO_MESSAGE) from None
    return TaskRecord(Task.decode(message.data), message.revision, message.data, message.stored_at)


async def save_task(connection: Connection, task: Task, revision: int, *, timeout: float = 5.0) -> int:
    """Save a task over this revision and return the new one.

    Raises `Conflict` when that is not its last revision, `TooLarge`, and `Unavailable`: then it may have been saved.
    """
    body = task.encode()
    headers = encode_headers({EXPECTED_REVISION: str(revision)})
    check_task_size(connection, len(headers) + len(body))
    ack = await connection.stored(task_subject(task.id), body, headers=headers, timeout=timeout)
    return ack.seq


def check_task_size(connection: Connection, size: int) -> None:
    """Raise `TooLarge` for a task that the server would not take (it would end the connection)."""
    if size > connection.max_payload:
        raise TooLarge("task", size, connection.max_payload)


async def last_message(connection: Connection, stream: str, subject: str, *, timeout: float = 5.0) -> StoredMessage:
    """Return the last message of a subject, from the stream's leader. Raises `NotFound` and `Unavailable`."""
    answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}, timeout=timeout)
    return _from_api(answer["message"])


async def stored_messages(connection: Connection, stream: str, subject: str) -> AsyncIterator[StoredMessage]:
    """Yield the stream's messages with this subject (wildcards allowed), the oldest first, in batches.

    What is stored while this runs may or may not be seen. A stream without direct reads (one that the Go
    implementation made) is read message by message. Raises `NotFound` for a stream that does not exist, and
    `Unavailable`.
    """
    sequence = 1
    while True:
        page = await _direct_page(connection, stream, subject, sequence)
        if page is None:
            async for message in _one_by_one(connection, stream, subject, sequence):
                yield message
            return
        for message in page:
            yield message
        if len(page) < _PAGE:
            return
        sequence = page[-1].revision + 1


async def stored_tasks(connection: Connection) -> AsyncIterator[TaskRecord]:
    """Yield every task in the store that can be read, in the order of their last change."""
    async for message in stored_messages(connection, TASKS_STREAM, TASK_SUBJECTS):
        try:
            task = Task.decode(message.data)
        except MalformedTask:
            continue  # `dlq` and `doctor` name such records; a listing of tasks has no row for them
        yield TaskRecord(task, message.revision, message.data, message.stored_at)


async def delete_revision(connection: Connection, task_id: str, revision: int) -> None:
    """Remove a task if this is still its revision. Raises `Conflict` when it is not, and `Unavailable`."""
    try:
        await connection.api(f"STREAM.MSG.DELETE.{TASKS_STREAM}", {"seq": revision, "no_erase": True})
    except (NotFound, StoreError):
        raise Conflict(f"task {task_id}", "was changed or removed meanwhile; load it again") from None


async def _direct_page(connection: Connection, stream: str, subject: str, sequence: int) -> list[StoredMessage] | None:
    """Return the next messages, None where the stream has no direct reads."""
    request = msgspec.json.encode({"batch": _PAGE, "seq": sequence, "next_by_subj": subject})
    subject_asked = connection.api_subject(f"DIRECT.GET.{stream}")
    try:
        return [_from_direct(message) for message in await connection.request_many(subject_asked, request)]
    except NoResponders:
        return None


async def _one_by_one(connection: Connection, stream: str, subject: str, sequence: int) -> AsyncIterator[StoredMessage]:
    while True:
        try:
            answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence, "next_by_subj": subject})
        except NotFound as error:
            if error.code != _NO_MESSAGE:
                raise NotFound("stream", stream, code=error.code) from None
            return
        message = _from_api(answer["message"])
        yield message
        sequence = message.revision + 1


def _from_api(message: dict[str, Any]) -> StoredMessage:
    return StoredMessage(
        subject=message["subject"],
        revision=int(message["seq"]),
        data=b64decode(message.get("data") or ""),
        headers=b64decode(message["hdrs"]) if message.get("hdrs") else None,
        stored_at=Instant.parse(message["time"]),
    )


def _from_direct(message: Answer) -> StoredMessage:
    headers = parse_headers(message.headers or b"")
    return StoredMessage(
        subject=headers.get("Nats-Subject") or "",
        revision=int(headers.get("Nats-Sequence") or 0),
        data=message.body,
        headers=message.headers,
        stored_at=Instant.parse(headers.get("Nats-Time-Stamp") or ""),
    )
