"""Performing a transition: save -> event -> dead letter -> schedule -> item, each acknowledged before the next.

A record that is not kept is removed instead of saved; behind its dead letter, when it has one: until then it is saved.

A crash anywhere in between leads to a redelivery, which the admission answers by playing the tail again; every write
in it is idempotent. A lost revision means that somebody else owns the task: nothing more is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import assert_never

import anyio

from ajc.errors import Conflict, InvalidValue, TooLarge, Unavailable
from ajc.failpoint import ARMED, reach
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.transition import DeadLetter, ItemVerdict, Schedule, Transition
from ajc_bridge.happenings import DeadLettered, TaskParked, TaskSaved, TaskSettled, Trouble
from ajc_bridge.pipeline.saving import FIRST_PAUSE, LONGEST_PAUSE, save_again
from ajc_bridge.ports import Items, Lease, Ports

_PARKING = frozenset({"no_responder", "busy"})


async def settle(
    ports: Ports,
    queue: Items,
    lease: Lease,
    task_id: str,
    transition: Transition,
    *,
    revision: int,
    body: bytes | None = None,
) -> bool:
    """Perform the transition on the record at `revision` and on the leased item; False when the revision was lost.

    Nothing is noted of that: the caller knows whether it might be a cancel, which is no conflict. `body`: the
    transition's task as it is to be stored, where the caller has written it already.
    """
    if ARMED:
        reach("settle.begin")
    task = transition.task
    letter = transition.dead_letter
    if task is not None:
        body = task.encode() if body is None else body
        if transition.discard and letter is None:
            if not await _discard(ports, task_id, revision):
                return False
            ports.journal.note(TaskSaved(task, queue.queue, 0))
        else:
            if ARMED:
                reach("settle.save_sent")
            ttl_ns = transition.ttl_ns
            try:
                try:
                    revision = await ports.store.save(task_id, body, revision, ttl_ns=ttl_ns)
                except (Unavailable, InvalidValue) as error:
                    revision = await save_again(
                        ports, queue.queue, task_id, body, revision=revision, error=error, ttl_ns=ttl_ns
                    )
            except Conflict:
                return False
            except TooLarge:
                shorter = transition.shortened()
                if shorter is transition:
                    raise
                return await settle(ports, queue, lease, task_id, shorter, revision=revision)
            if ARMED:
                reach("settle.saved")
            ports.journal.note(TaskSaved(task, queue.queue, revision))
            if ARMED:
                reach("settle.event_sent")
    if letter is not None:
        await _perform_dead_letter(ports, letter, body or b"")
        # the record goes last: while its letter was on the way it said that the task is over
        if transition.discard and not await _discard(ports, task_id, revision):
            return False
    if transition.schedule is not None:
        await _perform_schedule(ports, queue.queue, task_id, transition.schedule)
    _answer_item(queue, lease, transition.item)
    if ARMED:
        reach("settle.acked")
    if task is not None:
        _tell(ports, queue.queue, task, transition)
    return True


async def _discard(ports: Ports, task_id: str, revision: int) -> bool:
    try:
        await _until_done(ports, "discard", lambda: ports.store.discard(task_id, revision))
    except Conflict:
        return False
    return True


async def _perform_dead_letter(ports: Ports, letter: DeadLetter, body: bytes) -> None:
    content = body if letter.body is None else letter.body
    try:
        await _until_done(ports, "dead letter", lambda: ports.letters.publish(letter, content))
    except TooLarge as error:
        # waiting would not make it smaller: the task's end is stored, and an item kept for it would stop its slot
        ports.journal.note(Trouble(f"dead letter of {letter.task_id}", str(error)))
        return
    if ARMED:
        reach("settle.dead_lettered")
    ports.journal.note(DeadLettered(letter.queue, letter.type, letter.task_id, letter.reason))


async def _perform_schedule(ports: Ports, queue: str, task_id: str, schedule: Schedule) -> None:
    item = WorkItem(task_id=task_id, waits=schedule.waits)
    await _until_done(ports, "schedule", lambda: ports.delay.schedule(queue, task_id, schedule.at, item))
    if ARMED:
        reach("settle.scheduled")


def _answer_item(queue: Items, lease: Lease, verdict: ItemVerdict) -> None:
    match verdict:
        case ItemVerdict.ACK:
            queue.ack(lease)
        case ItemVerdict.NAK:
            queue.nak(lease)
        case _:
            assert_never(verdict)


def _tell(ports: Ports, queue: str, task: Task, transition: Transition) -> None:
    schedule, task_id = transition.schedule, task.id
    if schedule is not None and transition.reason in _PARKING:
        delay = max(0, schedule.at - ports.clock.now())
        ports.journal.note(TaskParked(queue, task.type, task_id, schedule.waits, delay, task.last_err))
    ports.journal.note(TaskSettled(queue, task.type, task_id, transition.reason, task.state, task.tries, task.last_err))


async def _until_done(ports: Ports, what: str, step: Callable[[], Awaitable[None]]) -> None:
    """Repeat an idempotent step, however long the server is away."""
    pause = FIRST_PAUSE
    while True:
        try:
            await step()
        except Unavailable as error:
            ports.journal.note(Trouble(what, str(error)))
            await anyio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            return
