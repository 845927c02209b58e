"""Save, dead letter, schedule, item: in this order, each acknowledged first, each repeated until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pipeline_world import MINUTE, SECOND, Pipe

from ajc.errors import Conflict, TooLarge
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.transition import DeadLetter, Schedule, Transition
from ajc_bridge.happenings import (
    DeadLettered,
    SaveFailed,
    TaskParked,
    TaskSaved,
    TaskSettled,
    Trouble,
)
from ajc_bridge.pipeline.settle import settle
from ajc_bridge.ports import Lease

STEPS = ("store.save", "store.discard", "letters.publish", "delay.schedule", "queue.ack", "queue.nak")
Make = Callable[[Pipe, Task], Transition]


def letter(pipe: Pipe, task: Task, body: bytes | None = None) -> DeadLetter:
    return DeadLetter("Q", task.id, task.type, "tries", "broke", task.tries, pipe.now(), body)


def completed(_pipe: Pipe, task: Task) -> Transition:
    return Transition(reason="complete", task=task.replace(state="complete"), counted=True)


def retried(pipe: Pipe, task: Task) -> Transition:
    at = pipe.now().plus(MINUTE)
    return Transition.later("retry", task.replace(state="retry", last_err="broke", next_try_at=at), at, counted=True)


def parked(pipe: Pipe, task: Task) -> Transition:
    at = pipe.now().plus(MINUTE)
    return Transition.later("busy", task.replace(state="new", last_err="full"), at, waits=3)


def expired(pipe: Pipe, task: Task) -> Transition:
    return Transition(
        reason="tries", task=task.replace(state="expired", last_err="broke"), dead_letter=letter(pipe, task)
    )


def everything(pipe: Pipe, task: Task) -> Transition:
    plan = Schedule(pipe.now().plus(MINUTE), 1)
    return Transition(reason="all", task=task.replace(state="retry"), dead_letter=letter(pipe, task), schedule=plan)


def discarded(pipe: Pipe, task: Task) -> Transition:
    return Transition(reason="tries", task=task.replace(state="expired"), dead_letter=letter(pipe, task), discard=True)


def put_back(_pipe: Pipe, task: Task) -> Transition:
    return Transition.put_back("interrupted", task.replace(state="new", tries=0))


def unsaved(pipe: Pipe, _task: Task) -> Transition:
    return Transition.later("leased", None, pipe.now().plus(MINUTE), waits=2)


EVERY = [completed, retried, parked, expired, everything, discarded, put_back, unsaved]


async def running(pipe: Pipe) -> tuple[Lease, Task, int]:
    """An attempt under way: its lease, its task, its revision."""
    pipe.enqueue()
    lease = await pipe.lease()
    active = pipe.task().replace(state="active", tries=1)
    revision = pipe.store.put("t1", active.encode())
    pipe.line.calls.clear()
    return lease, active, revision


async def perform(pipe: Pipe, make: Make) -> bool:
    lease, task, revision = await running(pipe)
    return await settle(pipe.ports, pipe.end, lease, "t1", make(pipe, task), revision=revision)


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (completed, ["store.save", "queue.ack"]),
        (retried, ["store.save", "delay.schedule", "queue.ack"]),
        (expired, ["store.save", "letters.publish", "queue.ack"]),
        (everything, ["store.save", "letters.publish", "delay.schedule", "queue.ack"]),
        (discarded, ["store.save", "letters.publish", "store.discard", "queue.ack"]),
        (put_back, ["store.save", "queue.nak"]),
        (unsaved, ["delay.schedule", "queue.ack"]),
    ],
)
async def test_the_order(make: Make, steps: list[str]) -> None:
    pipe = Pipe()
    assert await perform(pipe, make)
    assert pipe.line.names(*STEPS) == steps


async def test_completed_leaves_a_record_and_no_item() -> None:
    pipe = Pipe()
    await perform(pipe, completed)
    assert pipe.task().state == "complete"
    assert not pipe.source.items
    assert pipe.notes.of(TaskSaved) == [TaskSaved(pipe.task(), "Q", pipe.record().revision)]
    assert pipe.notes.of(TaskSettled) == [TaskSettled("Q", "kind", "t1", "complete", "complete", 1, "")]


async def test_a_record_is_kept_as_long_as_the_transition_says() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    transition = Transition(reason="complete", task=task.replace(state="complete"), ttl_ns=5 * SECOND)
    await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    await asyncio.sleep(4)
    assert pipe.store.get("t1") is not None
    await asyncio.sleep(2)
    assert pipe.store.get("t1") is None


async def test_a_store_that_lets_no_record_vanish_keeps_it() -> None:
    pipe = Pipe()
    pipe.store.allow_ttl = False
    lease, task, revision = await running(pipe)
    transition = Transition(reason="complete", task=task.replace(state="complete"), ttl_ns=5 * SECOND)
    assert await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    assert pipe.task().state == "complete"
    assert pipe.line.names(*STEPS) == ["store.save", "store.save", "queue.ack"]
    assert len(pipe.notes.of(SaveFailed)) == 1


async def test_a_retry_comes_as_a_fresh_item_when_it_is_due() -> None:
    pipe = Pipe()
    await perform(pipe, retried)
    assert not pipe.source.items
    due = pipe.now().plus(MINUTE)
    lease = await pipe.lease()
    assert pipe.now() >= due
    assert (WorkItem.decode(lease.body), lease.deliveries) == (WorkItem("t1"), 1)


async def test_parked_is_told_of_and_keeps_its_waits() -> None:
    pipe = Pipe()
    await perform(pipe, parked)
    assert pipe.notes.of(TaskParked) == [TaskParked("Q", "kind", "t1", 3, MINUTE, "full")]
    assert WorkItem.decode((await pipe.lease()).body).waits == 3


async def test_a_dead_letter_holds_the_record_as_saved() -> None:
    pipe = Pipe()
    await perform(pipe, expired)
    stored = pipe.server.letters.stored["Q", "t1"]
    assert stored.body == pipe.record().data
    assert pipe.notes.of(DeadLettered) == [DeadLettered("Q", "kind", "t1", "tries")]


async def test_a_dead_letter_may_bring_its_own_body() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    transition = Transition(reason="resettled", dead_letter=letter(pipe, task, b"as it was"))
    await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    assert pipe.server.letters.stored["Q", "t1"].body == b"as it was"
    assert pipe.record().revision == revision
    assert not pipe.notes.of(TaskSettled)


async def test_a_discarded_task_leaves_its_letter_alone() -> None:
    pipe = Pipe()
    await perform(pipe, discarded)
    assert pipe.store.get("t1") is None
    assert pipe.letters == {"t1": "tries"}
    assert [saved.task.state for saved in pipe.notes.of(TaskSaved)] == ["expired"]  # one save, one event


async def test_a_record_is_over_before_its_letter_goes_out_and_is_removed_behind_it() -> None:
    """Killed in between, the task must not look as if it was still running: it would run once more."""
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    pipe.line.fail("letters.publish", times=None)
    settling = asyncio.ensure_future(
        settle(pipe.ports, pipe.end, lease, "t1", discarded(pipe, task), revision=revision)
    )
    await asyncio.sleep(1)
    assert pipe.task().state == "expired"
    assert not pipe.letters
    pipe.line.heal()
    assert await settling
    assert pipe.store.get("t1") is None


async def test_a_tail_played_again_removes_a_record_that_is_not_kept() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    transition = Transition(reason="resettled", dead_letter=letter(pipe, task, b"as it was"), discard=True)
    assert await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    assert pipe.store.get("t1") is None
    assert pipe.server.letters.stored["Q", "t1"].body == b"as it was"
    assert not pipe.notes.of(TaskSaved)


async def test_a_task_asked_for_again_before_its_record_is_removed_keeps_it() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    pipe.line.latency = lambda call: 1.0 if call == "letters.publish" else 0.0
    settling = asyncio.ensure_future(
        settle(pipe.ports, pipe.end, lease, "t1", discarded(pipe, task), revision=revision)
    )
    await asyncio.sleep(0.5)
    again = pipe.store.put("t1", task.replace(state="retry").encode())
    assert not await settling
    assert pipe.record().revision == again
    assert not pipe.line.names("queue.ack")


async def test_a_task_that_ended_well_may_leave_nothing_at_all() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    transition = Transition(reason="complete", task=task.replace(state="complete"), discard=True)
    assert await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    assert pipe.store.get("t1") is None
    assert not pipe.letters
    assert not pipe.source.items


@pytest.mark.parametrize("make", [completed, retried, expired, everything, put_back])
async def test_a_lost_revision_stops_it_and_sends_nothing_more(make: Make) -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    theirs = pipe.store.put("t1", task.replace(state="terminated").encode())
    assert not await settle(pipe.ports, pipe.end, lease, "t1", make(pipe, task), revision=revision)
    assert pipe.line.names(*STEPS) == ["store.save"]
    assert pipe.record().revision == theirs
    assert not pipe.notes.details


async def test_a_lost_revision_is_not_discarded() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    theirs = pipe.store.put("t1", task.replace(state="terminated").encode())
    assert not await settle(pipe.ports, pipe.end, lease, "t1", discarded(pipe, task), revision=revision)
    assert pipe.record().revision == theirs
    assert len(pipe.source.items) == 1
    assert not pipe.notes.of(TaskSaved)


@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("times", [1, 2, 7])
@pytest.mark.parametrize("call", ["store.save", "store.discard", "letters.publish", "delay.schedule"])
@pytest.mark.parametrize("make", EVERY)
async def test_a_step_that_fails_is_repeated_and_the_end_is_the_same(
    make: Make, call: str, times: int, landed: bool
) -> None:
    pipe = Pipe()
    await perform(pipe, make)
    faulty = Pipe()
    faulty.line.fail(call, times=times, landed=landed)
    assert await perform(faulty, make)
    failed = call in pipe.line.names()
    assert bool(faulty.notes.of(SaveFailed) or faulty.notes.of(Trouble)) == failed
    end = [pipe.store.get("t1"), pipe.letters, set(pipe.server.delay.waiting), set(pipe.source.items)]
    now = [faulty.store.get("t1"), faulty.letters, set(faulty.server.delay.waiting), set(faulty.source.items)]
    if end[0] is not None and now[0] is not None:
        assert (end[0].task.state, end[0].task.tries) == (now[0].task.state, now[0].task.tries)  # type: ignore[union-attr]
        end[0] = now[0] = None
    assert end == now
    # a repeated step comes before the next one
    order = list(dict.fromkeys(faulty.line.names(*STEPS)))
    assert order == pipe.line.names(*STEPS)


@pytest.mark.parametrize("call", ["store.save", "store.discard", "letters.publish", "delay.schedule"])
@pytest.mark.parametrize("make", [everything, discarded])
async def test_it_waits_for_the_server_until_it_is_cancelled_and_never_answers_the_item(make: Make, call: str) -> None:
    pipe = Pipe(lease_ns=100_000 * SECOND)
    await perform(Pipe(), make)
    lease, task, revision = await running(pipe)
    pipe.line.fail(call, times=None)
    settling = asyncio.ensure_future(settle(pipe.ports, pipe.end, lease, "t1", make(pipe, task), revision=revision))
    await asyncio.sleep(1_000)
    if settling.done():  # this one has no such step
        assert call not in pipe.line.names()
        return
    settling.cancel()
    await asyncio.wait({settling})
    assert settling.cancelled()
    assert not pipe.line.names("queue.ack", "queue.nak")


async def test_an_error_that_does_not_fit_is_shortened() -> None:
    pipe = Pipe(limit=2_048)
    lease, task, revision = await running(pipe)
    at = pipe.now().plus(MINUTE)
    transition = Transition.later("retry", task.replace(state="retry", last_err="e" * 2_000, next_try_at=at), at)
    assert await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    assert (pipe.task().state, len(pipe.task().last_err)) == ("retry", 80)
    assert pipe.line.names(*STEPS) == ["store.save", "delay.schedule", "queue.ack"][-len(pipe.line.names(*STEPS)) :]
    assert not pipe.source.items


async def test_an_error_that_the_server_does_not_take_is_shortened_too() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    pipe.line.fail("store.save", TooLarge("record", 0, 100))
    transition = Transition(reason="tries", task=task.replace(state="expired", last_err="e" * 200))
    assert await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    assert len(pipe.task().last_err) == 80


async def test_what_does_not_fit_at_all_says_so_and_answers_nothing() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    pipe.line.fail("store.save", TooLarge("record", 0, 100), times=None)
    with pytest.raises(TooLarge):
        await settle(pipe.ports, pipe.end, lease, "t1", expired(pipe, task), revision=revision)
    assert pipe.line.names(*STEPS) == ["store.save"]


async def test_a_conflict_after_a_lost_answer_is_somebody_elses() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    pipe.line.fail("store.save")
    settling = asyncio.ensure_future(
        settle(pipe.ports, pipe.end, lease, "t1", completed(pipe, task), revision=revision)
    )
    await asyncio.sleep(0.01)
    pipe.store.put("t1", task.replace(state="terminated").encode())
    assert not await settling
    assert not pipe.notes.of(TaskSaved)


async def test_no_verdict_is_sent_for_a_lease_that_is_over() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    lease.lost = True
    assert await settle(pipe.ports, pipe.end, lease, "t1", completed(pipe, task), revision=revision)
    assert pipe.line.names(*STEPS) == ["store.save"]
    assert len(pipe.source.items) == 1


@pytest.mark.parametrize("make", EVERY)
async def test_the_tail_twice_is_as_once(make: Make) -> None:
    """What a redelivery plays again: everything but the save."""
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    transition = make(pipe, task)
    await settle(pipe.ports, pipe.end, lease, "t1", transition, revision=revision)
    before = (pipe.letters, dict(pipe.server.delay.waiting))
    if transition.discard:
        await pipe.store.discard("t1", revision)  # gone already
    if transition.dead_letter is not None:
        await pipe.server.letters.publish(transition.dead_letter, b"")
    if transition.schedule is not None:
        await pipe.server.delay.schedule(
            "Q", "t1", transition.schedule.at, WorkItem("t1", waits=transition.schedule.waits)
        )
    assert (pipe.letters, dict(pipe.server.delay.waiting)) == before


async def test_a_conflict_in_a_step_that_knows_none_is_no_reason_to_go_on() -> None:
    pipe = Pipe()
    lease, task, revision = await running(pipe)
    pipe.line.fail("letters.publish", Conflict("letters"))
    with pytest.raises(Conflict):
        await settle(pipe.ports, pipe.end, lease, "t1", expired(pipe, task), revision=revision)
    assert not pipe.line.names("queue.ack")
