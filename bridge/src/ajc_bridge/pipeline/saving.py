"""Saving a task by revision until its fate is known: what became of a save without an answer is read back."""

from __future__ import annotations

from typing import Final

import anyio

from ajc.errors import Conflict, InvalidValue, Unavailable
from ajc_bridge.decision.admission import Record
from ajc_bridge.happenings import SaveFailed, Trouble
from ajc_bridge.ports import Ports

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0


async def save_again(
    ports: Ports,
    queue: str,
    task_id: str,
    body: bytes,
    *,
    revision: int,
    error: Unavailable | InvalidValue,
    ttl_ns: int | None = None,
) -> int:
    """Find out what became of a save that ended with `error`, repeat it if it never landed, and return its revision.

    Lasts as long as the store is away. Where no record can vanish by itself it is kept: better for too long than never
    saved. Raises `Conflict` when the record has moved on under somebody else's hands, `TooLarge` when it can never be
    saved.
    """
    pause = FIRST_PAUSE
    while True:
        ports.journal.note(SaveFailed(queue, task_id, str(error)))
        if isinstance(error, InvalidValue):
            ttl_ns = None  # and nothing to read back: it was refused
        else:
            await anyio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            landed = await _landed(ports, task_id, body, revision)
            if landed is not None:
                return landed
        try:
            return await ports.store.save(task_id, body, revision, ttl_ns=ttl_ns)
        except (Unavailable, InvalidValue) as again:
            if ttl_ns is None and isinstance(again, InvalidValue):
                raise
            error = again
        except Conflict:
            # the save before this one may have landed only now
            landed = await _landed(ports, task_id, body, revision)
            if landed is None:
                raise
            return landed


async def _landed(ports: Ports, task_id: str, body: bytes, revision: int) -> int | None:
    """Read back: the revision under which our own bytes are stored, None when the record is still the one before."""
    record = await load_surely(ports, task_id, leader=True)
    if record is None:
        if revision:
            raise Conflict(f"task {task_id}", "was removed")
        return None
    if record.revision == revision:
        return None
    if record.data == body:
        return record.revision
    raise Conflict(f"task {task_id}", f"has revision {record.revision}, not {revision}")


async def load_surely(ports: Ports, task_id: str, *, leader: bool = False) -> Record | None:
    """Load, however long the store is away."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await ports.store.load(task_id, leader=leader)
        except Unavailable as error:
            ports.journal.note(Trouble("load", str(error)))
            await anyio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
