"""Items that come later, and the census of items that come no more, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from ajc.errors import MalformedItem
from ajc.instant import Instant
from ajc.testing.memory.line import Line
from ajc.testing.memory.queue import Item, MemoryQueue
from ajc.testing.memory.values import AnyStranded
from ajc.work_item import WorkItem

S = TypeVar("S", bound=AnyStranded)


class MemoryDelayQueue:
    """Items that come later: the loop's timers, one per queue and task."""

    def __init__(self, line: Line, now: Callable[[], Instant], queues: dict[str, MemoryQueue]) -> None:
        self.waiting: dict[tuple[str, str], tuple[Instant, WorkItem]] = {}
        self._line = line
        self._now = now
        self._queues = queues
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}

    async def schedule(self, queue: str, task_id: str, at: Instant, item: WorkItem) -> None:
        """Let the item arrive at that instant, in place of any earlier schedule."""
        lost = await self._line.cross("delay.schedule", task_id)
        key = (queue, task_id)
        if key in self._timers:
            self._timers.pop(key).cancel()
        self.waiting[key] = (at, item)
        seconds = max(0.0, (at - self._now()) / 1e9)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._fire, key)
        if lost is not None:
            raise lost

    async def forget(self, queue: str, task_id: str) -> None:
        """Remove the schedule, if there is one."""
        lost = await self._line.cross("delay.forget", task_id)
        self.waiting.pop((queue, task_id), None)
        timer = self._timers.pop((queue, task_id), None)
        if timer is not None:
            timer.cancel()
        if lost is not None:
            raise lost

    def _fire(self, key: tuple[str, str]) -> None:
        queue, task_id = key
        _, item = self.waiting.pop(key)
        del self._timers[key]
        if queue in self._queues:
            self._queues[queue].put(task_id, item)


class MemoryCensus(Generic[S]):
    """What a queue holds and will not deliver, and whether a task has an item."""

    def __init__(
        self,
        line: Line,
        source: MemoryQueue,
        delay: MemoryDelayQueue,
        make_stranded: Callable[..., S],
        revision: Callable[[str], int],
    ) -> None:
        self._line = line
        self._source = source
        self._delay = delay
        self._make = make_stranded
        self._revision = revision

    async def exhausted(self, sequence: int) -> S | None:
        """Return the item that was given up, None when it is gone."""
        await self._cross("census.exhausted", str(sequence))
        item = self._source.find(sequence)
        return None if item is None else self._stranded(item, None)

    async def stranded(self) -> list[S]:
        """Return every item at its cap, with its record's revision."""
        await self._cross("census.stranded", self._source.name)
        return [self._stranded(item, self._revision_of(item)) for item in self._source.exhausted]

    async def forget(self, item: S) -> None:
        """Remove the item."""
        lost = await self._line.cross("census.forget", str(item.sequence))
        self._source.remove(item.sequence)
        if lost is not None:
            raise lost

    async def has_item(self, task_id: str) -> bool:
        """Tell whether the queue or the delay queue holds an item of the task."""
        await self._cross("census.has_item", task_id)
        return task_id in self._source.items or (self._source.name, task_id) in self._delay.waiting

    async def _cross(self, call: str, key: str) -> None:
        lost = await self._line.cross(call, key)
        if lost is not None:
            raise lost

    def _revision_of(self, item: Item) -> int:
        try:
            return self._revision(WorkItem.decode(item.body).task_id)
        except MalformedItem:
            return 0

    def _stranded(self, item: Item, revision: int | None) -> S:
        return self._make(
            sequence=item.sequence,
            subject_id=item.subject_id,
            body=item.body,
            deliveries=item.deliveries,
            revision=revision,
        )
