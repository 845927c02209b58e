"""Admitting a leased item: load its record, ask the decision, and save it `active` by revision before anything runs."""

from __future__ import annotations

import msgspec

from ajc.errors import Conflict, MalformedItem, TooLarge, Unavailable
from ajc.failpoint import ARMED, reach
from ajc.subjects import is_id
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Admission, Arrival, Record, Run, Wait, admit
from ajc_bridge.decision.outcome import TaskTooLarge
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.settlement import Attempt, decide
from ajc_bridge.decision.transition import Transition
from ajc_bridge.happenings import ItemDropped, ItemWaits, RevisionConflict, TaskSaved, UnknownState
from ajc_bridge.pipeline.saving import load_surely, save_again
from ajc_bridge.ports import Lease, Ports

REQUEST_HEADER_ROOM = 640
"""Bytes that a request's headers have at most, beside the names in them."""
TRACE_ROOM = 96
"""Bytes that `traceparent` has, the names of both headers, and what a tracer may add to `tracestate`."""
SETTLEMENT_ROOM = 512
"""Bytes that a settlement may add to a record: its times, its words, a shortened error."""
_MOST_HEADERS = REQUEST_HEADER_ROOM + TRACE_ROOM + 2_048
"""More than the headers of a request ever have with all names and a trace's state."""


class Admitted(msgspec.Struct, frozen=True):
    """An attempt that may run: its record is `active` at `revision`, and `body` is that record."""

    attempt: Attempt
    revision: int
    body: bytes


class Settled(msgspec.Struct, frozen=True):
    """No run: this transition on the record at `revision` is the answer."""

    task_id: str
    transition: Transition
    revision: int


async def admit_item(ports: Ports, policy: QueuePolicy, lease: Lease) -> Admitted | Settled | None:
    """Answer the arrival of an item; None when somebody else owns the task, or the lease is over.

    A copy of the store that lags may have answered first: where that shows, or would never show, the leader is asked
    and the decision made anew.
    """
    arrival = make_arrival(lease)
    item = arrival.item
    task_id = item.task_id if item is not None and is_id(item.task_id) else ""
    for leader in (False, True):
        record = None
        if task_id:
            try:
                record = await ports.store.load(task_id, leader=leader)
            except Unavailable:
                record = await load_surely(ports, task_id, leader=leader)
        if ARMED:
            reach("admit.loaded")
        if lease.lost:
            return None
        admission = admit(record, arrival, policy, ports.clock.now())
        if not isinstance(admission, Run):
            if task_id and not leader and admission.transition.task is None:
                continue  # an answer without a save has no revision that would show what the copy missed
            _tell(ports, lease, record, admission)
            revision = record.revision if record is not None else 0
            return Settled(task_id or lease.subject_id, admission.transition, revision)
        assert record is not None  # only a record can be run
        attempt = Attempt(admission.before, admission.active, item.waits if item is not None else 0)
        body = attempt.active.encode_started(attempt.before, record.data)
        limit = ports.store.limit
        if len(body) > limit - SETTLEMENT_ROOM or len(body) > ports.exchange.limit - _MOST_HEADERS:
            limit = _limit(ports, attempt.active, lease)  # close to it, so worked out to the byte
        if len(body) <= limit:
            if ARMED:
                reach("admit.active_sent")
            try:
                try:
                    saved = await ports.store.save(task_id, body, record.revision)
                except Unavailable as error:
                    saved = await save_again(ports, lease.queue, task_id, body, revision=record.revision, error=error)
            except Conflict:
                continue
            except TooLarge as error:
                limit = error.limit
            else:
                if ARMED:
                    reach("admit.active_saved")
                ports.journal.note(TaskSaved(attempt.active, lease.queue, saved))
                return Admitted(attempt, saved, body)
        too_large = TaskTooLarge(len(body), limit, ports.store.limit)
        return Settled(task_id, decide(attempt, too_large, policy, ports.clock.now()), record.revision)
    ports.journal.note(RevisionConflict(lease.queue, task_id))
    return None


def make_arrival(lease: Lease, *, exhausted: bool = False) -> Arrival:
    """Read the leased item. `exhausted`: its queue will not deliver it again."""
    body, task_id = lease.body, lease.subject_id
    item: WorkItem | None
    if is_id(task_id) and body == b'{"kind":0,"job":"%b"}' % task_id.encode():
        item = WorkItem(task_id)  # as nearly all are written
    else:
        try:
            item = WorkItem.decode(body)
        except MalformedItem:
            item = None
    return Arrival(lease.queue, task_id, item, body, lease.deliveries, exhausted)


def _limit(ports: Ports, active: Task, lease: Lease) -> int:
    """Return the most bytes of a record that can be saved and sent as a request, its headers beside it."""
    names = len(lease.subject_id) + 2 * len(active.type) + len(lease.queue)
    if active.traceparent or ports.tracer is not None:
        names += TRACE_ROOM + len(active.tracestate)
    return min(ports.store.limit - SETTLEMENT_ROOM, ports.exchange.limit - REQUEST_HEADER_ROOM - names)


def _tell(ports: Ports, lease: Lease, record: Record | None, admission: Admission) -> None:
    task_id = lease.subject_id
    match admission:
        case Wait(transition):
            state = record.task.state if record is not None and record.task is not None else ""
            waits = transition.schedule.waits if transition.schedule is not None else 0
            ports.journal.note(ItemWaits(lease.queue, task_id, transition.reason, state, waits))
            if transition.reason == "unknown_state":
                ports.journal.note(UnknownState(lease.queue, task_id, state))
        case Run():
            pass
        case _:
            if admission.transition.task is None and admission.transition.schedule is None:
                ports.journal.note(ItemDropped(lease.queue, task_id, admission.transition.reason))
