"""`[retention]` for cancelled tasks: who cancels knows of none, so a bridge of the task's queue sees to it afterwards.

It saves the record once more as it is, with a time to live, or removes it. Not before the canceller has got to its
end: that reads the record between its steps, and takes another revision for somebody who wants the task again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ajc.cancel_by_hand import is_cancelled
from ajc.errors import Conflict, InvalidValue, TooLarge, Unavailable
from ajc.instant import SECOND
from ajc_bridge.decision.admission import Record
from ajc_bridge.decision.policy import MIN_TTL_NS, QueuePolicy
from ajc_bridge.happenings import Trouble
from ajc_bridge.ports import Ports

SETTLED_SECONDS: Final = 60.0
_REMEMBERED: Final = 10_000
_LOOKS: Final = 64


class CancelledRecords:
    """Cancelled tasks that the store would keep for longer than `[retention]` says."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._due: dict[str, tuple[float, int]] = {}  # when, and the revision that was read

    def remember(self, record: Record, policy: QueuePolicy) -> bool:
        """Take note of a cancelled record that was read; False when there is no room: it must be read once more."""
        if record.expires or record.task is None or policy.ttl_ns(record.task.state) is None:
            self._due.pop(record.task_id, None)
            return True
        if len(self._due) >= _REMEMBERED and record.task_id not in self._due:
            return False
        clock = self._ports.clock
        left = SETTLED_SECONDS - (clock.now() - record.stored_at) / SECOND
        moment = clock.monotonic() + min(max(left, 0.0), SETTLED_SECONDS)  # whatever the clocks say
        self._due[record.task_id] = moment, record.revision
        return True

    async def look(self, policies: Mapping[str, QueuePolicy]) -> int:
        """Limit some that are due, and return how many were looked at. Raises `Unavailable`: they are due still."""
        now = self._ports.clock.monotonic()
        due = [task_id for task_id, (moment, _) in self._due.items() if moment <= now][:_LOOKS]
        for task_id in due:
            record = await self._ports.store.load(task_id, leader=True)
            task = record.task if record is not None else None
            _, revision = self._due.pop(task_id)
            if record is None or task is None or not is_cancelled(task) or task.queue not in policies:
                continue
            if record.revision != revision:  # retried and cancelled again: that canceller may still be about
                self.remember(record, policies[task.queue])
                continue
            try:
                await self._limit(record, policies[task.queue].ttl_ns(task.state))
            except Unavailable:
                self._due[task_id] = now, revision
                raise
        return len(due)

    async def _limit(self, record: Record, kept: int | None) -> None:
        if kept is None:
            return  # by now it is to be kept
        left = kept - (self._ports.clock.now() - record.stored_at)
        store = self._ports.store
        try:
            if left <= 0:
                await store.discard(record.task_id, record.revision)
            else:
                await store.save(record.task_id, record.data, record.revision, ttl_ns=max(left, MIN_TTL_NS))
        except Conflict:
            return  # somebody wants it again, or has removed it
        except (InvalidValue, TooLarge) as error:
            self._ports.journal.note(Trouble(f"retention of {record.task_id}", str(error)))
