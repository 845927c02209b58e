"""What `enqueue_many` sends, as the protocol's own bytes: what is equal for all tasks of a queue is written once.

Two pieces a task: its record; then its event and its item together. The same as `ajc.entry` and `announce` lead to, at
a third of what that costs.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final

from ajc.events import encode_named_state
from ajc.subjects import check_queue
from ajc.task import Task
from ajc.task_records import NEW_RECORD

_ITEM_HEADERS: Final = len(b"NATS/1.0\r\nNats-Msg-Id: \r\n\r\n")
_ITEM: Final = _ITEM_HEADERS + len(b'{"kind":0,"job":""}')


def save_command(task_id: bytes, body: bytes, inbox: bytes, name: bytes) -> bytes:
    """Store a record that must be the first of its task; the answer goes to the inbox under this name."""
    size = len(NEW_RECORD)
    return b"HPUB CHORIA_AJ.T.%b %b%b %d %d\r\n%b%b\r\n" % (
        task_id, inbox, name, size, size + len(body), NEW_RECORD, body,
    )  # fmt: skip


class QueueCommands:
    """The second piece of each task of one queue. Raises `InvalidName`."""

    __slots__ = ("_item", "_queue")

    def __init__(self, queue: str) -> None:
        self._queue = check_queue(queue)
        self._item = (
            b"PUB CHORIA_AJ.E.task_state.%%b  %%d\r\n%%b\r\n"
            b"HPUB CHORIA_AJ.Q.%b.%%b %%b%%b %%d %%d\r\n"
            b'NATS/1.0\r\nNats-Msg-Id: %%b\r\n\r\n{"kind":0,"job":"%%b"}\r\n'
        ) % queue.encode()

    def announce_and_queue(self, task: Task, inbox: bytes, name: bytes) -> bytes:
        """Tell of the saved task and store its item; the answer to the item goes to the inbox under this name."""
        event = encode_named_state(task, time.time_ns(), self._queue)
        task_id = task.id.encode()
        size = len(task_id)
        return self._item % (
            task_id, len(event), event,
            task_id, inbox, name, _ITEM_HEADERS + size, _ITEM + 2 * size, task_id, task_id,
        )  # fmt: skip


commands_of = lru_cache(maxsize=256)(QueueCommands)
"""The commands of a queue; a refused name raises, and is not kept."""
