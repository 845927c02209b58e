"""Which types have tasks that wait: a bounded look at the delay stream and the queues, and at those tasks' records.

Items name no types, so each costs a read of its task's record. A stream of up to 2,048 items is looked at whole; of a
longer one 256 items spread over it and the newest 256: what nobody served was put back lately. Of 32 queues at most,
and of 4,096 tasks at most. So a few tasks among many others may be missed, until a bridge has asked for them in vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ajc.connection import Connection
from ajc.errors import AjcError, NoResponders, NotFound
from ajc.stored_message import next_message
from ajc.subjects import (
    ALL_SCHEDULES,
    DELAY_STREAM,
    TASKS_STREAM,
    is_id,
    is_queue,
    is_type,
    items_of,
    queue_stream,
    task_subject,
)
from ajc.task_state import TaskState
from ajc.topology import list_queues

MOST_LISTED: Final = 2_048
MOST_QUEUES: Final = 32
MOST_TASKS: Final = 4_096
SPREAD: Final = 256
NEWEST: Final = 256
_BATCH: Final = 500
_BATCH_BYTES: Final = 4 << 20
_SECONDS: Final = 1.0
_WAITING: Final = frozenset({TaskState.NEW.value, TaskState.RETRY.value, TaskState.UNKNOWN.value})
NOBODY: Final = "no responder on "
"""How the error of a task begins that was put back because nobody served it."""


class WaitingType(msgspec.Struct):
    """Tasks of one type that wait: how many of those looked at, and whether nobody was there when last asked."""

    tasks: int = 0
    nobody: bool = False


class Waiting(msgspec.Struct, frozen=True):
    """What was found: by type, how many tasks were looked at, and whether those were all."""

    types: dict[str, WaitingType]
    looked_at: int
    whole: bool


class _Seen(msgspec.Struct):
    type: str | None = None
    state: str | None = None
    last_err: str | None = None


_read = msgspec.json.Decoder(_Seen).decode


async def waiting_types(connection: Connection) -> Waiting:
    """Look for types with tasks that wait. Raises `NotFound` without a task store, `StoreError` and `Unavailable`."""
    queues = [name for name in await list_queues(connection) if is_queue(name)]
    streams = [(DELAY_STREAM, ALL_SCHEDULES)]
    streams += [(queue_stream(name), items_of(name)) for name in queues[:MOST_QUEUES]]
    looks = await asyncio.gather(*(_look(connection, stream, subjects) for stream, subjects in streams))
    ids = list(dict.fromkeys(one for found, _ in looks for one in found if is_id(one)))
    whole = len(queues) <= MOST_QUEUES and len(ids) <= MOST_TASKS and all(all_ for _, all_ in looks)
    batches = [ids[start : start + _BATCH] for start in range(0, min(len(ids), MOST_TASKS), _BATCH)]
    types: dict[str, WaitingType] = {}
    looked_at = 0
    for records in await asyncio.gather(*(_records(connection, batch) for batch in batches)):
        looked_at += len(records)
        for record in records:
            _count(types, record)
    return Waiting(types, looked_at, whole and looked_at == len(ids))


def _count(types: dict[str, WaitingType], record: bytes) -> None:
    try:
        seen = _read(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if (seen.state or "") in _WAITING and is_type(seen.type):
        found = types.setdefault(str(seen.type), WaitingType())
        found.tasks += 1
        found.nobody = found.nobody or (seen.last_err or "").startswith(NOBODY)


async def _look(connection: Connection, stream: str, subjects: str) -> tuple[list[str], bool]:
    """Return the ids of a stream's items, and whether those are all; none of a stream that is not there."""
    try:
        info = await connection.api(f"STREAM.INFO.{stream}", timeout=_SECONDS)
        state: dict[str, Any] = info["state"]
        if int(state.get("messages") or 0) <= MOST_LISTED:
            query = {"subjects_filter": subjects}
            info = await connection.api(f"STREAM.INFO.{stream}", query, timeout=_SECONDS)
            listed = info["state"].get("subjects") or {}
            return [subject.rpartition(".")[2] for subject in listed], int(info.get("total") or 0) <= len(listed)
    except NotFound:
        return [], True
    first, last = int(state["first_seq"]), int(state["last_seq"])
    spread = range(first, last + 1, max(1, (last + 1 - first) // SPREAD))
    sequences = dict.fromkeys((*spread, *range(max(first, last + 1 - NEWEST), last + 1)))
    return await _ids(connection, stream, subjects, sequences), False


async def _ids(connection: Connection, stream: str, subjects: str, sequences: Iterable[int]) -> list[str]:
    async def one(sequence: int) -> str:
        try:
            return (await next_message(connection, stream, subjects, sequence, timeout=_SECONDS)).last_token
        except AjcError:
            return ""  # none behind this one, or no answer in time: the others say enough

    return await asyncio.gather(*map(one, sequences))


async def _records(connection: Connection, ids: list[str]) -> list[bytes]:
    """Read the newest record of each task, as far as they fit into 4 MB."""
    query = {"multi_last": [task_subject(one) for one in ids], "max_bytes": _BATCH_BYTES}
    subject = connection.api_subject(f"DIRECT.GET.{TASKS_STREAM}")
    try:
        answers = await connection.request_many(subject, msgspec.json.encode(query), timeout=_SECONDS)
    except NoResponders:
        raise NotFound("task store", TASKS_STREAM) from None
    return [answer.body for answer in answers]
