"""Who waits for room at a responder, and for how long."""

from __future__ import annotations

import asyncio

import pytest
from pipeline_world import SECOND, SUBJECT, Bridge, Pipe, until

from ajc.exchange import ExecReply, ExecRequest
from ajc_bridge.pipeline.dispatch import ExecPolicy
from ajc_bridge.pipeline.room import HOLD_SECONDS, SEARCH_PER_SECOND, SEARCH_REQUESTS, Room


async def searched_in_vain(room: Room) -> int:
    """Use the budget of searches up, while one attempt of the type is under way: its request is returned."""
    first = room.asked("t")
    for number in range(SEARCH_REQUESTS):
        assert await room.wait("t", 10, again=number > 0)
        room.answered("t", room.asked("t"), "busy")
    return first


async def test_one_waiter_is_woken_by_each_attempt_that_ends_in_their_order() -> None:
    room = Room()
    one, other = await searched_in_vain(room), room.asked("t")
    first = asyncio.ensure_future(room.wait("t", 10))
    second = asyncio.ensure_future(room.wait("t", 10))
    await asyncio.sleep(0)
    room.answered("t", one, "success")
    await asyncio.sleep(0)
    assert (await first, second.done()) == (True, False)
    room.asked("t")
    room.asked("t")
    room.answered("t", other, "success")
    assert await second


async def test_a_busy_answer_makes_no_room_and_the_last_one_ends_the_waiting() -> None:
    room = Room()
    requests = [await searched_in_vain(room), room.asked("t")]
    waiting = [asyncio.ensure_future(room.wait("t", 10)) for _ in range(3)]
    await asyncio.sleep(0)
    room.answered("t", requests[0], "busy")
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    room.answered("t", requests[1], "busy")
    assert await asyncio.gather(*waiting) == [False, False, False]
    assert not room.in_use("t")


async def test_nobody_waits_where_nothing_runs_or_too_many_wait_already() -> None:
    room = Room()
    room.answered("t", await searched_in_vain(room), "busy")
    assert not await room.wait("t", 10)
    room.asked("t")
    waiting = [asyncio.ensure_future(room.wait("t", 10)) for _ in range(4)]
    await asyncio.sleep(0)
    assert not await room.wait("t", 10)
    assert not await room.wait("t", 0)
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    assert not await asyncio.wait_for(room.wait("t", 0.001), 1), "those that were cancelled keep no place"


async def test_the_wait_is_over_in_time() -> None:
    room = Room()
    request = await searched_in_vain(room)
    began = asyncio.get_running_loop().time()
    assert not await room.wait("t", 0.01)
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.01)
    room.answered("t", request, "success")
    await asyncio.sleep(SEARCH_REQUESTS / SEARCH_PER_SECOND + 0.1)
    assert room._types == {}


async def test_what_nobody_serves_makes_no_room() -> None:
    room = Room()
    requests = [await searched_in_vain(room), room.asked("t")]
    waiting = asyncio.ensure_future(room.wait("t", 10))
    await asyncio.sleep(0)
    room.answered("t", requests[0], "no_responder")
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not room.in_use("t"), "nothing has ended"
    assert room._types["t"].budget < 1
    room.answered("t", requests[1], "no_responder")
    assert not await waiting


async def test_a_search_that_finds_nobody_ends_as_one_that_is_refused() -> None:
    room = Room()
    assert await room.wait("t", 10)
    room.answered("t", room.asked("t"), "no_responder")
    assert await room.wait("t", 10), "the next may search at once"
    assert room._types["t"].budget < SEARCH_REQUESTS - 1


async def test_somebody_works_on_what_takes_longer_than_a_refusal_and_on_what_has_just_ended() -> None:
    room = Room()
    assert not room.in_use("t")
    request = room.asked("t")
    assert not room.in_use("t"), "it may be refused yet"
    await asyncio.sleep(HOLD_SECONDS + 0.1)
    assert room.in_use("t")
    other = room.asked("t")
    room.answered("t", request, "success")
    assert room.in_use("t")
    await asyncio.sleep(HOLD_SECONDS / 2)
    assert room.in_use("t")
    room.answered("t", other, "busy")
    assert not room.in_use("t"), "nothing is under way"


async def test_one_searches_at_a_time_and_the_next_once_it_was_taken_on() -> None:
    room = Room()
    first = asyncio.ensure_future(room.wait("t", 10))
    second = asyncio.ensure_future(room.wait("t", 10))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (first.done(), second.done()) == (True, False)
    room.asked("t")
    began = asyncio.get_running_loop().time()
    assert await second
    assert 0 < asyncio.get_running_loop().time() - began < 0.1


async def test_the_searches_of_all_attempts_share_one_budget() -> None:
    """All are full: so many requests at once, so many a second, however many attempts there are."""
    room = Room()
    room.asked("t")
    asked = 0

    async def attempt() -> None:
        nonlocal asked
        until = asyncio.get_running_loop().time() + HOLD_SECONDS
        again = False
        while await room.wait("t", until - asyncio.get_running_loop().time(), again=again):
            again = True
            asked += 1
            request = room.asked("t")
            await asyncio.sleep(0.0005)
            room.answered("t", request, "busy")

    for _ in range(5):
        await asyncio.gather(*(attempt() for _ in range(100)))
    assert SEARCH_REQUESTS < asked <= SEARCH_REQUESTS + 5 * HOLD_SECONDS * SEARCH_PER_SECOND + 5


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
    await bridge.stop()


@pytest.mark.parametrize("takes", [0.0005, 0.01, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("tasks", [10, 100])
@pytest.mark.parametrize("catchall", [False, True])
async def test_what_all_refuse_is_asked_for_within_the_budget_however_long_a_refusal_takes(
    takes: float, tasks: int, catchall: bool
) -> None:
    """A program that is started to say "not now" takes longer than a responder that is full."""
    pipe = Pipe(lease_ns=30 * SECOND)
    asked = 0

    async def refuse(_request: ExecRequest) -> ExecReply:
        nonlocal asked
        asked += 1
        await asyncio.sleep(takes)
        return ExecReply("busy", "not now")

    pipe.exchange.answer("ajc.exec.catchall" if catchall else SUBJECT, refuse)
    for number in range(tasks):
        pipe.enqueue(id=f"b{number}")
    bridge = Bridge(pipe.server, slots=200, notes=pipe.notes, exec_policy=ExecPolicy(catchall=catchall))
    bridge.lane()
    await asyncio.sleep(120)  # by then each waits up to half a minute
    asked = 0
    await asyncio.sleep(60)
    first_three = 3 * tasks * 60 / 10  # the mean wait is 16 s
    assert asked <= 60 * SEARCH_PER_SECOND + SEARCH_REQUESTS + first_three
    await bridge.stop()
