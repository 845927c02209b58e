"""Saving a task by revision until its fate is known: a save whose answer was lost is read back before anything is decided."""

from __future__ import annotations

from typing import Final

import anyio

from ajc.errors import Conflict, Unavailable
from ajc_bridge.decision.admission import Record
from ajc_bridge.happenings import SaveFailed
from ajc_bridge.ports import Ports, TaskStore

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0


async def save_surely(
    ports: Ports, queue: str, task_id: str, body: bytes, revision: int, *, ttl_ns: int | None = None
) -> int:
    """Save, however long the store is away, and return the new revision.

    Raises `Conflict` when the record has moved on under somebody else's hands, `TooLarge` when it can never be saved.
    """
    pause = FIRST_PAUSE
    unsure = False
    while True:
        try:
            return await ports.store.save(task_id, body, revision, ttl_ns=ttl_ns)
        except Conflict:
            if not unsure:
                raise
        except Unavailable as error:
            ports.journal.note(SaveFailed(queue, task_id, str(error)))
        # an earlier save of ours may have landed: the store's own word decides
        unsure = True
        await anyio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
        record = await load_surely(ports.store, task_id, leader=True)
        if record is None:
            if revision:
                raise Conflict(f"task {task_id}", "was removed")
        elif record.revision != revision:
            if record.data == body:
                return record.revision
            raise Conflict(f"task {task_id}", f"has revision {record.revision}, not {revision}")


async def load_surely(store: TaskStore, task_id: str, *, leader: bool = False) -> Record | None:
    """Load, however long the store is away."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await store.load(task_id, leader=leader)
        except Unavailable:
            await anyio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
