"""Leases of running attempts: renewed in time, given up when they ran out here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from pipeline_world import LEASE_SECONDS, SECOND, Pipe, until

from ajc.errors import StoreError
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.happenings import ItemCameAgain, LeaseLost
from ajc_bridge.pipeline.keepalive import Keepalive
from ajc_bridge.ports import Lease

THIRTY = QueuePolicy("Q", lease_ns=30 * SECOND)


@asynccontextmanager
async def keeping(pipe: Pipe, *, renews: bool = True) -> AsyncIterator[Keepalive]:
    lease_ns = round(pipe.source.lease_seconds * SECOND)
    keepalive = Keepalive(
        pipe.end, pipe.server.clock, pipe.notes, replace(pipe.policy, lease_ns=lease_ns, renews=renews)
    )
    running = asyncio.ensure_future(keepalive.run())
    yield keepalive
    assert not running.done(), "the watch has ended"
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


async def held(pipe: Pipe, keepalive: Keepalive, task_id: str = "t1") -> Lease:
    pipe.source.put(task_id)
    lease = await pipe.lease()
    keepalive.hold(lease)
    return lease


@pytest.mark.parametrize("seconds", [0.25, 1.0, 30.0, 3600.0])
async def test_a_lease_is_renewed_as_long_as_it_is_held(seconds: float) -> None:
    pipe = Pipe(lease_ns=int(seconds * SECOND))
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        for _ in range(200):
            await asyncio.sleep(seconds / 20)
            assert lease.until - pipe.server.clock.monotonic() > seconds / 2
        assert not lease.lost
        assert pipe.source.leased == 1
        assert 20 <= len(pipe.line.names("queue.renew")) <= 45


async def test_what_is_released_is_renewed_no_more() -> None:
    pipe = Pipe()
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        keepalive.release(lease)
        keepalive.release(lease)
        await asyncio.sleep(LEASE_SECONDS + 1)
        assert not pipe.line.names("queue.renew")
        assert not lease.lost
        assert not keepalive._leases


async def test_a_queue_made_by_go_is_never_renewed() -> None:
    pipe = Pipe()
    async with keeping(pipe, renews=False) as keepalive:
        lease = await held(pipe, keepalive)
        await asyncio.sleep(LEASE_SECONDS - 1)
        assert not lease.lost
        assert not keepalive.short(lease)
        await asyncio.sleep(2)
        assert lease.lost
        assert not pipe.line.names("queue.renew")
        assert pipe.notes.of(LeaseLost) == [LeaseLost("Q", "t1")]
        assert not keepalive._leases


@pytest.mark.parametrize("error", [None, StoreError(1, "what")])
async def test_a_renewal_that_fails_is_repeated(error: Exception | None) -> None:
    pipe = Pipe()
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        pipe.line.fail("queue.renew", error, times=3)
        await asyncio.sleep(10 * LEASE_SECONDS)
        assert not lease.lost


async def test_a_server_that_is_away_for_too_long_is_a_lease_lost_once() -> None:
    pipe = Pipe()
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        pipe.server.go_away()
        await asyncio.sleep(LEASE_SECONDS - 2)
        assert not lease.lost
        await asyncio.sleep(4)
        assert lease.lost
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert pipe.notes.of(LeaseLost) == [LeaseLost("Q", "t1")]


async def test_a_slow_renewal_is_not_sent_twice() -> None:
    pipe = Pipe()
    pipe.line.latency = 3.0
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        await asyncio.sleep(LEASE_SECONDS * 2 / 3)
        assert len(pipe.line.names("queue.renew")) == 1
        assert not lease.lost


async def test_a_renewal_whose_answer_comes_after_the_end_is_too_late() -> None:
    pipe = Pipe()
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        pipe.line.latency = 40.0
        await asyncio.sleep(60)
        assert lease.lost


async def test_a_lease_under_half_is_short() -> None:
    pipe = Pipe()
    keepalive = Keepalive(pipe.end, pipe.server.clock, pipe.notes, THIRTY)
    lease = await held(pipe, keepalive)
    assert not keepalive.short(lease)
    await asyncio.sleep(16)
    assert keepalive.short(lease)
    await keepalive.renew(lease)
    assert not keepalive.short(lease)
    assert lease.until == pipe.server.clock.monotonic() + 30


async def test_a_lost_lease_is_not_renewed() -> None:
    pipe = Pipe()
    keepalive = Keepalive(pipe.end, pipe.server.clock, pipe.notes, THIRTY)
    lease = await held(pipe, keepalive)
    lease.lost = True
    await keepalive.renew(lease)
    assert not pipe.line.names("queue.renew")


async def test_a_lease_that_its_queue_knows_to_be_over_is_let_go_in_silence() -> None:
    pipe = Pipe()
    async with keeping(pipe, renews=False) as keepalive:
        lease = await held(pipe, keepalive)
        lease.lost = True
        await asyncio.sleep(LEASE_SECONDS + 1)
        assert not keepalive._leases
        assert not pipe.notes.of(LeaseLost)


async def test_another_lease_time_is_kept_by_from_then_on() -> None:
    pipe = Pipe(lease_ns=3 * SECOND)
    async with keeping(pipe) as keepalive:
        keepalive.lease_seconds = 300.0
        await asyncio.sleep(1)
        keepalive.lease_seconds = 3.0
        lease = await held(pipe, keepalive)
        await asyncio.sleep(30)
        assert not lease.lost


async def test_an_item_that_comes_again_too_soon_is_taken_over_and_renewed_at_once() -> None:
    pipe = Pipe()
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        await asyncio.sleep(1)
        again = replace(lease, token=b"1.2", deliveries=2, until=lease.until + 1)
        assert keepalive.take_over(again)
        assert (lease.token, lease.until) == (b"1.2", again.until)
        assert pipe.notes.of(ItemCameAgain) == [ItemCameAgain("Q", "t1", 2)]
        await until(lambda: len(pipe.line.names("queue.renew")) == 1)


@pytest.mark.parametrize("why", ["other item", "other body", "lost", "at its end", "over", "let go", "no renewal"])
async def test_what_is_not_held_is_not_taken_over(why: str) -> None:
    pipe = Pipe()
    policy = replace(THIRTY, renews=why != "no renewal")
    keepalive = Keepalive(pipe.end, pipe.server.clock, pipe.notes, policy)
    lease = await held(pipe, keepalive)
    again = replace(lease, token=b"1.2", deliveries=2)
    if why == "other item":
        again.subject_id = "t2"
    elif why == "other body":
        again.body = b"another"
    elif why == "lost":
        lease.lost = True
    elif why == "at its end":
        lease.until = pipe.server.clock.monotonic() + 0.005
    elif why == "over":
        lease.until = pipe.server.clock.monotonic() - 1
    elif why == "let go":
        keepalive.release(lease)
    token = lease.token
    assert not keepalive.take_over(again)
    assert lease.token == token


async def test_a_shorter_lease_is_kept_by_at_once() -> None:
    pipe = Pipe()
    async with keeping(pipe) as keepalive:
        lease = await held(pipe, keepalive)
        await asyncio.sleep(5)
        keepalive.policy = replace(THIRTY, lease_ns=3 * SECOND)
        assert lease.until == pipe.server.clock.monotonic() + 3
        await asyncio.sleep(0.1)
        assert len(pipe.line.names("queue.renew")) == 1
