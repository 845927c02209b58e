"""Attempts whose task somebody cancels meanwhile: named by a message, ended by the store's word alone.

A message may come from anybody, so it is no more than a reason to look at the record, and not more often than a few
times a second for each attempt. Who misses the message learns it from its last save, which fails by its revision.
"""

from __future__ import annotations

import asyncio
from typing import Final

import anyio

from ajc.cancel_by_hand import is_cancelled
from ajc_bridge.happenings import Trouble
from ajc_bridge.pipeline.saving import load_surely
from ajc_bridge.ports import Ports

LOOK_PAUSE: Final = 0.2


class Cancellations:
    """The attempts of a bridge that wait for their reply, by their task's id."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._attempts: dict[str, tuple[asyncio.Task[None]]] = {}  # a tuple each: the task goes on to other attempts
        self._ended: set[asyncio.Task[None]] = set()
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._named_again: set[str] = set()

    def begin(self, task_id: str, attempt: asyncio.Task[None]) -> None:
        """Take note of an attempt. From now until `leave` it may be cancelled, and `ended` then says so."""
        self._attempts[task_id] = (attempt,)

    def leave(self, task_id: str, attempt: asyncio.Task[None]) -> None:
        """Let it go on by itself. Of a task that runs a second time here the other attempt stays noted."""
        noted = self._attempts.get(task_id)
        if noted is not None and noted[0] is attempt:
            del self._attempts[task_id]
        self._ended.discard(attempt)

    def ended(self, attempt: asyncio.Task[None]) -> bool:
        """Tell whether this attempt was ended because its task is cancelled."""
        return attempt in self._ended

    def named(self, task_id: str) -> None:
        """Look whether this task is cancelled, if it runs here."""
        if task_id not in self._attempts:
            return
        if task_id in self._looks:  # what that look saw may be older than this message
            self._named_again.add(task_id)
            return
        self._looks[task_id] = asyncio.create_task(self._look(task_id))

    async def _look(self, task_id: str) -> None:
        try:
            while (noted := self._attempts.get(task_id)) is not None:
                self._named_again.discard(task_id)
                if await found_cancelled(self._ports, task_id):
                    if self._attempts.get(task_id) is noted:
                        self._ended.add(noted[0])
                        noted[0].cancel()
                        return
                    continue  # it runs anew, perhaps because somebody wants it again: what was read is older
                await anyio.sleep(LOOK_PAUSE)
                if task_id not in self._named_again:
                    return
        except Exception as error:  # noqa: BLE001  (its last save finds out, too)
            self._ports.journal.note(Trouble(f"cancel of {task_id}", f"{type(error).__name__}: {error}"))
        finally:
            del self._looks[task_id]
            self._named_again.discard(task_id)


async def found_cancelled(ports: Ports, task_id: str) -> bool:
    """Tell whether the store says that this task is cancelled, however long it takes to answer."""
    record = await load_surely(ports, task_id, leader=True)
    return record is not None and record.task is not None and is_cancelled(record.task)
