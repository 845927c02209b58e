"""Who waits for room at a responder, and for how long."""

from __future__ import annotations

import asyncio

import pytest
from pipeline_world import QUEUE, SECOND, SUBJECT, Bridge, Pipe, until

from ajc.exchange import ExecReply, ExecRequest
from ajc_bridge.pipeline.room import Room


async def test_one_waiter_is_woken_by_each_attempt_that_ends_in_their_order() -> None:
    room = Room()
    for _ in range(2):
        room.asked("t")
    first = asyncio.ensure_future(room.wait("t", 10))
    second = asyncio.ensure_future(room.wait("t", 10))
    await asyncio.sleep(0)
    room.answered("t", busy=False)
    await asyncio.sleep(0)
    assert (await first, second.done()) == (True, False)
    room.asked("t")
    room.answered("t", busy=False)
    assert await second


async def test_a_busy_answer_makes_no_room_and_the_last_one_ends_the_waiting() -> None:
    room = Room()
    for _ in range(2):
        room.asked("t")
    waiting = [asyncio.ensure_future(room.wait("t", 10)) for _ in range(3)]
    await asyncio.sleep(0)
    room.answered("t", busy=True)
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    room.answered("t", busy=True)
    assert await asyncio.gather(*waiting) == [False, False, False]
    assert not room.in_use("t")


async def test_nobody_waits_where_nothing_runs_or_too_many_wait_already() -> None:
    room = Room()
    assert not await room.wait("t", 10)
    room.asked("t")
    waiting = [asyncio.ensure_future(room.wait("t", 10)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not await room.wait("t", 10)
    assert not await room.wait("t", 0)
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    assert not await asyncio.wait_for(room.wait("t", 0.01), 1), "those that were cancelled keep no place"


async def test_the_wait_is_over_in_time() -> None:
    room = Room()
    room.asked("t")
    began = asyncio.get_running_loop().time()
    assert not await room.wait("t", 0.5)
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.5)
    assert room.in_use("t")
    room.answered("t", busy=False)
    assert room._types == {}


async def test_a_burst_beyond_a_responders_concurrency_keeps_it_at_work() -> None:
    """300 tasks of 0.2 s at a responder for 10: 6 s of work, and done in little more."""
    pipe = Pipe(lease_ns=30 * SECOND)
    working = 0

    async def ten_at_a_time(_request: ExecRequest) -> ExecReply:
        nonlocal working
        if working >= 10:
            return ExecReply("busy", "full")
        working += 1
        await asyncio.sleep(0.2)
        working -= 1
        return ExecReply("success", body=b"1")

    pipe.exchange.answer(SUBJECT, ten_at_a_time)
    names = [f"b{number}" for number in range(300)]
    for name in names:
        pipe.enqueue(id=name)
    bridge = Bridge(pipe.server, slots=200, notes=pipe.notes)
    bridge.lane()
    began = asyncio.get_running_loop().time()
    await until(lambda: all(pipe.task(name).state == "complete" for name in names), 60)
    assert asyncio.get_running_loop().time() - began < 12
    assert {pipe.task(name).tries for name in names} == {1}
    assert bridge.lanes[QUEUE]._room._types == {}
    await bridge.stop()
