"""Tasks that no delivery would bring back: found, and settled by the same decisions as all others.

Exhausted: the queue's own delivery cap was reached, so the server keeps the item and never delivers it again.
Evicted: a full queue let the item go. Orphaned: a producer died between the record and its item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from ajc.errors import Unavailable
from ajc.instant import Instant
from ajc.subjects import is_id
from ajc.task import FINAL_STATES
from ajc_bridge.decision.admission import Record, Run, admit
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.rescue import GRACE_NS, rescue
from ajc_bridge.happenings import Rescued, Trouble
from ajc_bridge.pipeline.admit import make_arrival
from ajc_bridge.pipeline.settle import settle
from ajc_bridge.ports import Census, Lease, Ports, RecordScan, Stranded

SWEEP_SECONDS: Final = 30.0
SCAN_SECONDS: Final = 5.0
SCAN_PAUSE: Final = 0.25
SCAN_BATCH: Final = 256
_REMEMBERED: Final = 10_000


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
        self._given_up: asyncio.Queue[int] = asyncio.Queue()

    def given_up(self, sequence: int) -> None:
        """Take note that the server delivers this item no more."""
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
        lease = Lease(policy.queue, item.subject_id, item.body, item.deliveries, 0, "", 0.0, 0.0)
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
        if settled and answer.done:
            await self._census.forget(item)
            self._ports.journal.note(Rescued(policy.queue, task_id or item.subject_id, admission.transition.reason))


class OrphanedTasks:
    """Looks at every record once it has been quiet for a while, and settles tasks that wait without an item."""

    def __init__(self, ports: Ports, scan: RecordScan) -> None:
        self._ports = ports
        self._scan = scan
        self._suspects: dict[str, Instant] = {}

    async def look(
        self, policies: Mapping[str, QueuePolicy], censuses: Mapping[str, Census], evicting: Mapping[str, bool]
    ) -> int:
        """Read on in the store and return how many records that were; 0 at the end for now."""
        records: list[Record] = []
        if len(self._suspects) < _REMEMBERED:
            records = await self._scan.next(SCAN_BATCH)
            for record in records:
                if record.task is not None and record.task.state not in FINAL_STATES:
                    self._suspects[record.task_id] = record.stored_at
        now = self._ports.clock.now()
        quiet = [task_id for task_id, since in self._suspects.items() if now - since > GRACE_NS]
        for task_id in quiet:
            try:
                await self._look_at(task_id, policies, censuses, evicting)
            except Unavailable:
                raise  # still a suspect
            except Exception as error:  # noqa: BLE001  (one task's fault must not end the daemon)
                self._ports.journal.note(Trouble(f"rescue of {task_id}", f"{type(error).__name__}: {error}"))
        return len(records)

    async def _look_at(
        self,
        task_id: str,
        policies: Mapping[str, QueuePolicy],
        censuses: Mapping[str, Census],
        evicting: Mapping[str, bool],
    ) -> None:
        record = await self._ports.store.load(task_id)
        task = record.task if record is not None else None
        policy = policies.get(task.queue) if task is not None else None
        census = censuses.get(task.queue) if task is not None else None
        if record is None or task is None or task.state in FINAL_STATES or policy is None or census is None:
            del self._suspects[task_id]  # over, or not of a queue of ours
            return
        self._suspects[task_id] = self._ports.clock.now()
        if self._ports.clock.now() - record.stored_at < GRACE_NS or await census.has_item(task_id):
            return
        # read again after the look for its item: whoever saves it from now on makes the settlement fail by its revision
        record = await self._ports.store.load(task_id, leader=True)
        if record is not None:
            await self._settle(record, policy, evicting=evicting.get(task.queue, False))

    async def _settle(self, record: Record, policy: QueuePolicy, *, evicting: bool) -> None:
        transition = rescue(record, policy, self._ports.clock.now(), evicting=evicting)
        if transition is None:
            return
        lease = Lease(policy.queue, record.task_id, b"", 1, 0, "", 0.0, 0.0)
        if await settle(
            self._ports, _Answer(policy.queue), lease, record.task_id, transition, revision=record.revision
        ):
            self._ports.journal.note(Rescued(policy.queue, record.task_id, transition.reason))
