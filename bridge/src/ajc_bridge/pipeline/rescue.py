"""Tasks that no delivery would bring back: found, and settled by the same decisions as all others.

Exhausted: the queue's own delivery cap was reached, so the server keeps the item and never delivers it again.
Evicted: a full queue let the item go. Orphaned: a producer died between the record and its item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import anyio
import msgspec

from ajc.cancel_by_hand import is_cancelled
from ajc.errors import Unavailable
from ajc.failpoint import reach
from ajc.subjects import is_id
from ajc.task import FINAL_STATES
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Record, Run, admit
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.rescue import GRACE_NS, rescue
from ajc_bridge.happenings import Rescued, RevisionConflict, Trouble
from ajc_bridge.pipeline.admit import make_arrival
from ajc_bridge.pipeline.cancellations import found_cancelled
from ajc_bridge.pipeline.retention import CancelledRecords
from ajc_bridge.pipeline.settle import settle
from ajc_bridge.ports import Census, Lease, Ports, RecordScan, Stranded

SWEEP_SECONDS: Final = 30.0
_HEARD: Final = 1_000
SCAN_SECONDS: Final = 5.0
SCAN_PAUSE: Final = 0.25
SCAN_BATCH: Final = 256
BUSY_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 600.0
FIRST_PAUSE: Final = 60.0
LONGEST_PAUSE: Final = 600.0
_REMEMBERED: Final = 10_000
_LOOKS: Final = 64


class _Answer:
    """Stands in for the queue when an item that nobody leases is settled: notes the verdict."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.done = False

    def ack(self, _lease: Lease) -> None:
        self.done = True

    def nak(self, _lease: Lease) -> None:
        pass


class ExhaustedItems:
    """Settles the items of one queue that reached the server's delivery cap."""

    def __init__(self, ports: Ports, census: Census, policy: Callable[[], QueuePolicy]) -> None:
        self._ports = ports
        self._census = census
        self._policy = policy
        self._given_up: asyncio.Queue[int] = asyncio.Queue(_HEARD)

    def given_up(self, sequence: int) -> None:
        """Take note that the server delivers this item no more; where it never gives up, that is nobody's word.

        More than are remembered are found by the sweep.
        """
        if self._policy().max_deliver > 0 and not self._given_up.full():
            self._given_up.put_nowait(sequence)

    async def run(self) -> None:
        """Settle what is given up, and sweep now and every half minute for what nobody was told of, until cancelled."""
        clock = self._ports.clock
        sweep = clock.monotonic()  # what was given up while no bridge ran is settled at once
        while True:
            items: list[Stranded] = []
            try:
                with anyio.move_on_after(max(0.0, sweep - clock.monotonic())) as waiting:
                    item = await self._census.exhausted(await self._given_up.get())
                    items = [item] if item is not None else []
                if waiting.cancelled_caught:
                    items = await self._census.stranded()
                    sweep = clock.monotonic() + SWEEP_SECONDS
                for stranded in items:
                    await self._try(stranded)
            except Unavailable:
                await anyio.sleep(1)  # the sweep finds again what was not settled

    async def _try(self, item: Stranded) -> None:
        try:
            await self._settle(item)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  (one item's fault must not keep the others from their rescue)
            self._ports.journal.note(Trouble(f"rescue of {item.subject_id}", f"{type(error).__name__}: {error}"))

    async def _settle(self, item: Stranded) -> None:
        policy = self._policy()
        lease = Lease(policy.queue, item.subject_id, item.body, item.deliveries, 0, b"", 0.0, 0.0)
        arrival = make_arrival(lease, exhausted=True)
        task_id = arrival.item.task_id if arrival.item is not None else ""
        record = await self._ports.store.load(task_id, leader=True) if is_id(task_id) else None
        revision = record.revision if record is not None else 0
        if item.revision not in (None, revision):
            return  # saved since the sweep: somebody may have it
        admission = admit(record, arrival, policy, self._ports.clock.now())
        if isinstance(admission, Run):  # cannot be: an exhausted item is never run
            return
        answer = _Answer(policy.queue)
        settled = await settle(
            self._ports, answer, lease, task_id or item.subject_id, admission.transition, revision=revision
        )
        if not settled:
            await _tell_lost(self._ports, policy.queue, task_id or item.subject_id)
        elif answer.done:
            await self._census.forget(item)
            self._ports.journal.note(Rescued(policy.queue, task_id or item.subject_id, admission.transition.reason))


async def _tell_lost(ports: Ports, queue: str, task_id: str) -> None:
    """Tell of a revision that was lost to another bridge; a cancel that came before is no conflict."""
    if not await found_cancelled(ports, task_id):
        ports.journal.note(RevisionConflict(queue, task_id))


def look_again_in(seen: int, *, spare: bool) -> float:
    """Return the seconds until `OrphanedTasks` may look again: soon if it saw something and there is spare capacity."""
    if not spare:
        return BUSY_SECONDS  # but never not at all: the busiest queue may be the one that lets its items go
    return SCAN_PAUSE if seen else SCAN_SECONDS


class _Suspect(msgspec.Struct):
    """An unfinished task: when it is looked at next (monotonic seconds), and how long the pause is after that."""

    revision: int
    next_look: float
    pause: float = FIRST_PAUSE


class OrphanedTasks:
    """Looks at every record once it has been quiet for a while, and settles tasks that wait without an item.

    Unfinished tasks are looked at again with growing pauses. Only so many are remembered: for further ones those go
    that have been known longest and have an item; then the store is read once more from its beginning in time.
    Cancelled ones that are read on the way are handed on.
    """

    def __init__(self, ports: Ports, scan: RecordScan) -> None:
        self._ports = ports
        self._scan = scan
        self._cancelled = CancelledRecords(ports)
        self._suspects: dict[str, _Suspect] = {}
        self._with_item: dict[str, None] = {}
        self._left_out = False
        self._elsewhere: set[str] = set()
        self._began = ports.clock.monotonic()

    def read_again(self) -> None:
        """Read the store from its beginning in time: it may have lost its last writes, and have others instead."""
        self._left_out = True

    async def look(self, policies: Mapping[str, QueuePolicy], censuses: Mapping[str, Census]) -> int:
        """Read on in the store, look at some suspects, and return how many records and looks that were; 0: at rest."""
        now = self._ports.clock.monotonic()
        if not self._elsewhere.isdisjoint(policies):  # a queue that was not ours is by now
            self._elsewhere.difference_update(policies)
            self._left_out = True
        read = 0
        room = _REMEMBERED - len(self._suspects) + len(self._with_item)
        if room > 0:
            records = await self._scan.next(min(SCAN_BATCH, room))
            read = len(records)
            for record in records:
                self._remember(record, now)
                self._hand_on(record, policies)
            if not records and self._left_out and now - self._began >= AGAIN_SECONDS:
                self._left_out = False
                self._began = now
                self._scan.rewind()
        due = [task_id for task_id, suspect in self._suspects.items() if suspect.next_look <= now][:_LOOKS]
        for task_id in due:
            try:
                await self._look_at(task_id, policies, censuses)
            except Unavailable:
                self._suspects[task_id].next_look = now  # again as soon as may be
                raise
            except Exception as error:  # noqa: BLE001  (one task's fault must not end the daemon)
                self._ports.journal.note(Trouble(f"rescue of {task_id}", f"{type(error).__name__}: {error}"))
                self._suspects[task_id].next_look = now + FIRST_PAUSE
        return read + len(due) + await self._cancelled.look(policies)

    def _remember(self, record: Record, now: float) -> None:
        task_id = record.task_id
        if record.task is None or record.task.state in FINAL_STATES:
            self._forget(task_id)
            return
        known = self._suspects.get(task_id)
        if known is not None and known.revision == record.revision:
            return
        if known is None and len(self._suspects) >= _REMEMBERED:
            self._left_out = True
            self._forget(next(iter(self._with_item)))
        self._suspects[task_id] = _Suspect(record.revision, now + self._grace_left(record))

    def _hand_on(self, record: Record, policies: Mapping[str, QueuePolicy]) -> None:
        """Give a cancelled record to those who know how long it is kept."""
        task = record.task
        if task is None or not is_cancelled(task):
            return
        policy = policies.get(task.queue)
        if policy is None:
            self._not_ours(task.queue)
        elif not self._cancelled.remember(record, policy):
            self._left_out = True

    def _not_ours(self, queue: str) -> None:
        if len(self._elsewhere) < SCAN_BATCH:
            self._elsewhere.add(queue)

    def _forget(self, task_id: str) -> None:
        self._suspects.pop(task_id, None)
        self._with_item.pop(task_id, None)

    def _grace_left(self, record: Record) -> float:
        """Return how many seconds the record is still too young, on whatever clock the server has."""
        left = GRACE_NS - (self._ports.clock.now() - record.stored_at)
        return min(max(left, 0), GRACE_NS) / 1e9

    async def _look_at(self, task_id: str, policies: Mapping[str, QueuePolicy], censuses: Mapping[str, Census]) -> None:
        record = await self._ports.store.load(task_id)
        task = record.task if record is not None else None
        policy = policies.get(task.queue) if task is not None else None
        census = censuses.get(task.queue) if task is not None else None
        if record is None or task is None or task.state in FINAL_STATES or policy is None or census is None:
            self._forget(task_id)  # over, or not of a queue of ours
            if task is not None and policy is None:
                self._not_ours(task.queue)
            return
        now = self._ports.clock.monotonic()
        suspect = self._suspects[task_id]
        if record.revision != suspect.revision:
            suspect.revision = record.revision
            suspect.pause = FIRST_PAUSE
        grace = self._grace_left(record)
        if grace > 0:
            suspect.next_look = now + grace
            return
        if await census.has_item(task_id):
            self._with_item.setdefault(task_id)
            suspect.next_look = now + suspect.pause
            suspect.pause = min(suspect.pause * 2, LONGEST_PAUSE)
            return
        self._with_item.pop(task_id, None)
        suspect.next_look = now + FIRST_PAUSE
        # read again after the look for its item: whoever saves it from now on makes the settlement fail by its revision
        record = await self._ports.store.load(task_id, leader=True)
        if record is not None:
            await self._settle(record, policy)

    async def _settle(self, record: Record, policy: QueuePolicy) -> None:
        ports, queue, task_id = self._ports, policy.queue, record.task_id
        now = ports.clock.now()
        transition = rescue(record, policy, now)
        if transition is None:
            return
        ends = transition.task is not None and transition.task.state in FINAL_STATES
        if ends:
            # nothing looks at a final state: were we killed before its dead letter, this item would bring it back
            await ports.delay.schedule(queue, task_id, now.plus(policy.lease_ns), WorkItem(task_id=task_id))
            reach("rescue.promised")
        lease = Lease(queue, task_id, b"", 1, 0, b"", 0.0, 0.0)
        if not await settle(ports, _Answer(queue), lease, task_id, transition, revision=record.revision):
            await _tell_lost(ports, queue, task_id)
            return
        ports.journal.note(Rescued(queue, task_id, transition.reason))
        if ends:
            with suppress(Unavailable):  # it would find that there is nothing left to do
                await ports.delay.forget(queue, task_id)
