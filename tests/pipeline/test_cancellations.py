"""Attempts whose task is cancelled: ended by the store's word, whatever is said, and however the store is reached."""

from __future__ import annotations

import asyncio

import pytest
from pipeline_world import QUEUE, SUBJECT, SUCCESS, Bridge, Pipe, assert_at_rest, takes, until

from ajc.cancel_by_hand import cancelled
from ajc_bridge.happenings import AttemptCancelled, AttemptEnded, RevisionConflict, TaskSettled, Trouble


def started(pipe: Pipe, *, slots: int = 4) -> Bridge:
    bridge = Bridge(pipe.server, slots=slots, notes=pipe.notes)
    bridge.lane()
    return bridge


def cancel(pipe: Pipe, task_id: str = "t1") -> None:
    """Save it as somebody who cancels does."""
    pipe.store.put(task_id, cancelled(pipe.task(task_id), "cancelled: no", pipe.now()).encode())


async def ended(bridge: Bridge) -> None:
    await bridge.stop()
    await asyncio.sleep(0.001)
    assert bridge.running == 0
    assert_at_rest(bridge.share)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    cancellations = bridge.cancellations
    assert not cancellations._attempts
    assert not cancellations._ended
    assert not cancellations._looks
    assert not cancellations._named_again


async def test_an_attempt_ends_unsaved_and_its_item_is_acknowledged() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, None, SUCCESS)
    pipe.enqueue()
    bridge = started(pipe, slots=1)
    await until(lambda: pipe.exchange.requests)
    pipe.enqueue(id="t2")
    cancel(pipe)
    record = pipe.record()
    began = pipe.now()
    bridge.cancellations.named("t1")
    await until(lambda: pipe.task("t2").state == "complete")
    assert pipe.now() - began < 1e9
    await ended(bridge)
    assert pipe.record() == record
    assert pipe.notes.of(AttemptCancelled) == [AttemptCancelled(QUEUE, "kind", "t1", 1)]
    assert [note.task_id for note in pipe.notes.of(AttemptEnded)] == ["t2"]
    assert [note.task_id for note in pipe.notes.of(TaskSettled)] == ["t2"]
    assert not pipe.notes.of(RevisionConflict)
    assert not pipe.source.items
    assert not pipe.letters


async def test_a_name_alone_ends_nothing() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(2.0))
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    for name in ("t1", "nobody", "", "t1"):
        bridge.cancellations.named(name)
    await until(lambda: pipe.task().state == "complete")
    await ended(bridge)
    assert not pipe.notes.of(AttemptCancelled)


async def test_however_often_it_is_named_the_store_is_asked_a_few_times_a_second() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(10.0))
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    for _ in range(1_000):
        bridge.cancellations.named("t1")
        await asyncio.sleep(0.001)
    assert len(pipe.line.names("store.load_leader")) <= 6
    cancel(pipe)
    bridge.cancellations.named("t1")  # while a look is under way, or just over
    await until(lambda: pipe.notes.of(AttemptCancelled), 1)
    await ended(bridge)


async def test_while_the_store_does_not_answer_it_is_asked_again() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, None)
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    cancel(pipe)
    pipe.line.fail("store.load_leader", times=4)
    bridge.cancellations.named("t1")
    await until(lambda: pipe.notes.of(AttemptCancelled), 5)
    await ended(bridge)
    assert len(pipe.line.names("store.load_leader")) == 5


async def test_a_fault_of_a_look_is_told_and_ends_nothing() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(2.0))
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    pipe.line.fail("store.load_leader", ValueError("boom"))
    bridge.cancellations.named("t1")
    await until(lambda: pipe.task().state == "complete")
    await ended(bridge)
    assert pipe.notes.of(Trouble) == [Trouble("cancel of t1", "ValueError: boom")]


@pytest.mark.parametrize("gone", ["removed", "malformed", "ended before it was read"])
async def test_a_record_that_says_nothing_ends_nothing(gone: str) -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(0.5))
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    pipe.line.latency = lambda call: 1.0 if call == "store.load_leader" else 0.0
    if gone == "removed":
        pipe.store.remove("t1")
    elif gone == "malformed":
        pipe.store.put("t1", b"{")
    bridge.cancellations.named("t1")
    await until(lambda: not bridge.running)
    await asyncio.sleep(2)
    await ended(bridge)
    assert not pipe.notes.of(AttemptCancelled)


@pytest.mark.parametrize("latency", [0.01, 0.2])
async def test_named_and_interrupted_at_any_moment_nothing_is_saved_over_it(latency: float) -> None:
    for moment in range(12):
        pipe = Pipe()
        pipe.line.latency = latency
        pipe.exchange.answer(SUBJECT, takes(latency))
        pipe.enqueue()
        bridge = started(pipe)
        await until(lambda pipe=pipe: pipe.exchange.requests)
        cancel(pipe)
        record = pipe.record()
        await asyncio.sleep(moment * latency / 4)
        bridge.cancellations.named("t1")
        bridge.lanes[QUEUE].stop()
        bridge.lanes[QUEUE].interrupt()
        await until(lambda bridge=bridge: not bridge.running)
        await asyncio.sleep(1)
        await ended(bridge)
        assert pipe.record() == record
        assert not pipe.source.items, moment
        assert pipe.notes.of(AttemptCancelled)


async def test_who_was_not_told_finds_it_at_the_save_and_lets_the_item_go() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(1.0))
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    cancel(pipe)
    record = pipe.record()
    await until(lambda: not pipe.source.items, 2)
    await ended(bridge)
    assert pipe.record() == record
    assert not pipe.notes.of(RevisionConflict)
    assert pipe.notes.of(AttemptCancelled) == [AttemptCancelled(QUEUE, "kind", "t1", 1)]


async def test_a_revision_that_was_lost_to_anybody_else_keeps_its_item() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(1.0))
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    pipe.store.put("t1", pipe.task().replace(tries=2).encode())
    await until(lambda: pipe.notes.of(RevisionConflict))
    await ended(bridge)
    assert not pipe.line.names("queue.ack")
    assert not pipe.notes.of(AttemptCancelled)


async def test_of_a_task_that_runs_twice_here_the_later_attempt_is_the_one_that_ends() -> None:
    pipe = Pipe(lease_ns=1_000_000_000, max_run_time_ns=1_000_000_000_000)
    pipe.exchange.answer(SUBJECT, None)
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    pipe.line.fail("queue.renew", times=None)  # its lease runs out, and the item comes again
    await until(lambda: len(pipe.exchange.requests) == 2)
    pipe.line.heal()
    assert bridge.running == 2
    cancel(pipe)
    bridge.cancellations.named("t1")
    await until(lambda: bridge.running == 1, 1)
    assert pipe.notes.of(AttemptCancelled) == [AttemptCancelled(QUEUE, "kind", "t1", 2)]
    bridge.lanes[QUEUE].stop()
    bridge.lanes[QUEUE].abandon()
    await ended(bridge)


async def test_an_attempt_that_began_while_the_store_was_asked_is_looked_at_anew() -> None:
    pipe = Pipe()
    pipe.exchange.answer(SUBJECT, takes(0.5), takes(5.0))
    pipe.enqueue()
    bridge = started(pipe)
    await until(lambda: pipe.exchange.requests)
    record = cancelled(pipe.task(), "cancelled: no", pipe.now())
    pipe.store.put("t1", record.encode())
    pipe.line.latency = lambda call: 0.4 if call == "store.load_leader" else 0.0
    bridge.cancellations.named("t1")
    (attempt,) = bridge.cancellations._attempts["t1"]
    await asyncio.sleep(0.3)
    bridge.cancellations.leave("t1", attempt)  # as if it had ended just now, and the same worker ran it again
    bridge.cancellations.begin("t1", attempt)
    await asyncio.sleep(0.15)
    assert not bridge.cancellations.ended(attempt)
    bridge.cancellations.leave("t1", attempt)
    await until(lambda: not bridge.running)
    await asyncio.sleep(1)
    await ended(bridge)
