"""Slots among queues: by weight, within limits, none idle while somebody wants it, none lost."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_world import Notes, assert_at_rest

from ajc.testing import run_virtually
from ajc_bridge.happenings import SlotsChanged
from ajc_bridge.pipeline.fair_share import IDLE_WAIT_SECONDS, FairShare, Grant

WEIGHTS = st.integers(1, 100)
LANES = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 12)), min_size=1, max_size=6)


async def granted(share: FairShare, *names: str, hungry: bool = True) -> dict[str, Grant]:
    """Let these ask in the same turn; those that get nothing are left out and ask no more."""
    asking = {name: asyncio.ensure_future(share.acquire(name, hungry=hungry)) for name in names}
    await asyncio.sleep(0.001)
    got = {name: ask.result() for name, ask in asking.items() if ask.done()}
    for ask in asking.values():
        ask.cancel()
    await asyncio.gather(*asking.values(), return_exceptions=True)
    return got


def slots(got: dict[str, Grant]) -> dict[str, int]:
    return {name: grant.slots for name, grant in got.items()}


def make(total: int, **lanes: tuple[int, int]) -> FairShare:
    share = FairShare(total, Notes())
    for name, (weight, limit) in lanes.items():
        share.add(name, weight, limit)
    return share


async def test_a_hungry_queue_alone_gets_every_slot() -> None:
    assert slots(await granted(make(20, a=(1, 0)), "a")) == {"a": 20}


async def test_a_queue_that_is_not_known_to_have_items_gets_one() -> None:
    share = make(20, a=(1, 0))
    assert await granted(share, "a", hungry=False) == {"a": Grant(1, IDLE_WAIT_SECONDS, due=20)}


async def test_slots_go_by_weight() -> None:
    share = make(40, a=(10, 0), b=(10, 0), c=(20, 0))
    assert slots(await granted(share, "a", "b", "c")) == {"a": 10, "b": 10, "c": 20}


async def test_a_queue_at_its_limit_leaves_the_rest_to_others() -> None:
    share = make(30, a=(100, 4), b=(1, 0), c=(1, 0))
    assert slots(await granted(share, "a", "b", "c")) == {"a": 4, "b": 13, "c": 13}
    assert await granted(share, "a") == {}


async def test_the_share_of_a_queue_that_asks_again_in_a_moment_is_kept_for_it() -> None:
    share = make(20, a=(10, 0), b=(10, 0))
    assert slots(await granted(share, "a", "b")) == {"a": 10, "b": 10}
    for _ in range(10):
        share.start("a")
        share.start("b")
    for _ in range(4):
        share.finish("a")  # a is hungry, and fetches more in a moment
    assert slots(await granted(share, "b")) == {}
    assert slots(await granted(share, "a", "b")) == {"a": 4}


async def test_a_queue_that_found_no_more_leaves_its_share_to_others() -> None:
    share = make(20, a=(10, 0), b=(10, 0))
    await granted(share, "a", "b")
    for _ in range(10):
        share.start("b")
    share.release("a", 10)
    assert slots(await granted(share, "b")) == {"b": 10}


async def test_an_idle_queue_looks_in_only_for_a_moment_while_another_wants_more() -> None:
    share = make(2, a=(1, 0), b=(1, 0))
    assert slots(await granted(share, "a")) == {"a": 2}
    share.start("a")
    share.start("a")
    looking = asyncio.ensure_future(share.acquire("b", hungry=False))
    wanting = asyncio.ensure_future(share.acquire("a", hungry=True))
    await asyncio.sleep(0.001)
    assert not looking.done()
    share.finish("a")
    assert await looking == Grant(1, 0.0)
    wanting.cancel()


async def test_many_idle_queues_leave_half_of_the_slots_alone() -> None:
    names = [f"q{number}" for number in range(20)]
    share = make(8, **dict.fromkeys(names, (1, 0)))
    got: dict[str, Grant] = {}
    for name in names:
        got |= await granted(share, name, hungry=False)
        if name in got and got[name].wait == 0:
            share.release(name, got[name].slots)
    assert sum(grant.wait > 0 for grant in got.values()) <= 5
    assert len(got) == 20


async def test_a_queue_whose_due_is_less_than_a_slot_has_its_turn() -> None:
    share = make(10, big=(100, 0), small=(1, 0))
    turns = {"big": 0, "small": 0}

    async def work(name: str) -> None:
        while True:
            grant = await share.acquire(name, hungry=True)
            for _ in range(grant.slots):
                share.start(name)
            turns[name] += grant.slots
            await asyncio.sleep(0.01)
            for _ in range(grant.slots):
                share.finish(name)

    works = [asyncio.ensure_future(work(name)) for name in turns]
    await asyncio.sleep(5)
    for one in works:
        one.cancel()
    assert turns["small"] >= 20
    assert turns["big"] > 40 * turns["small"]


async def test_more_slots_go_to_whoever_waits_and_fewer_take_effect_as_they_come_free() -> None:
    share = make(2, a=(1, 0))
    await granted(share, "a")
    waiting = asyncio.ensure_future(share.acquire("a", hungry=True))
    await asyncio.sleep(0.001)
    assert not waiting.done()
    share.resize(5)
    assert (await waiting).slots == 3
    share.resize(1)
    for _ in range(4):
        share.start("a")
        share.finish("a")
    assert slots(await granted(share, "a")) == {}
    share.start("a")
    share.finish("a")
    assert slots(await granted(share, "a")) == {"a": 1}


async def test_another_weight_and_limit_count_from_the_next_slot_on() -> None:
    share = make(20, a=(10, 0), b=(10, 0))
    share.change("a", 30, 0)
    assert slots(await granted(share, "a", "b")) == {"a": 15, "b": 5}
    share.change("a", 30, 16)
    share.resize(100)
    assert slots(await granted(share, "a")) == {"a": 1}


async def test_who_stops_waiting_takes_nothing_with_it() -> None:
    share = make(5, a=(1, 0))
    asking = asyncio.ensure_future(share.acquire("a", hungry=True))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert_at_rest(share)
    # granted and cancelled in the same turn
    asking = asyncio.ensure_future(share.acquire("a", hungry=True))
    await asyncio.sleep(0)
    share._share_out()
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert_at_rest(share)
    assert slots(await granted(share, "a")) == {"a": 5}


async def test_an_item_that_nobody_waited_for_takes_a_slot_beyond() -> None:
    share = make(2, a=(1, 0))
    await granted(share, "a")
    share.start("a")
    share.start("a")
    share.start("a", reserved=False)
    assert share.busy == 3
    share.finish("a")
    assert slots(await granted(share, "a")) == {}
    share.finish("a")
    assert slots(await granted(share, "a")) == {"a": 1}


async def test_a_queue_that_leaves_gives_back_what_it_holds_as_it_comes_free() -> None:
    share = make(4, a=(1, 0), b=(1, 0))
    await granted(share, "a")
    share.start("a")
    waiting = asyncio.ensure_future(share.acquire("b", hungry=True))
    share.remove("a")
    await asyncio.sleep(0.001)
    assert not waiting.done()
    share.release("a", 3)
    assert (await waiting).slots == 3
    share.finish("a")
    share.release("b", 3)
    assert slots(await granted(share, "b")) == {"b": 4}
    share.remove("b")
    share.release("b", 4)
    assert not share._lanes


async def test_a_queue_that_leaves_while_it_waits_is_told() -> None:
    share = make(1, a=(1, 0), b=(1, 0))
    await granted(share, "b")
    waiting = asyncio.ensure_future(share.acquire("a", hungry=True))
    await asyncio.sleep(0)
    share.remove("a")
    await asyncio.wait({waiting})
    assert waiting.cancelled()


async def test_a_queue_that_comes_again_before_it_is_gone_keeps_its_account() -> None:
    share = make(4, a=(1, 3))
    await granted(share, "a")
    for _ in range(3):
        share.start("a")
    share.remove("a")
    share.add("a", 1, 4)
    assert slots(await granted(share, "a")) == {"a": 1}
    share.release("a", 1)
    for _ in range(3):
        share.finish("a")
    assert_at_rest(share)
    assert slots(await granted(share, "a")) == {"a": 4}


async def test_the_journal_is_told_how_slots_are_used() -> None:
    notes = Notes()
    share = FairShare(3, notes)
    share.add("a", 1, 0)
    await granted(share, "a")
    share.start("a")
    share.release("a", 1)
    await asyncio.sleep(0.001)
    assert notes.of(SlotsChanged)[-1] == SlotsChanged(3, 1, 1)


@given(st.lists(WEIGHTS, min_size=2, max_size=6), st.integers(1, 200))
def test_nobody_who_is_hungry_has_less_than_its_due(weights: list[int], total: int) -> None:
    async def scenario() -> dict[str, int]:
        share = make(total, **{f"q{place}": (weight, 0) for place, weight in enumerate(weights)})
        return slots(await granted(share, *share._lanes))

    got = run_virtually(scenario())
    assert sum(got.values()) == total
    for place, weight in enumerate(weights):
        due = total * weight / sum(weights)
        assert got.get(f"q{place}", 0) >= math.floor(due)
        if len(weights) == 2:
            assert abs(got.get(f"q{place}", 0) - due) <= 1


class _Market:
    """Lanes that ask, hold and give back at random, and a look at the accounts at every share-out."""

    def __init__(self, total: int, lanes: list[tuple[int, int]], chance: random.Random) -> None:
        self.total = total
        self.chance = chance
        self.share = FairShare(total, self)
        self.names = [f"q{place}" for place in range(len(lanes))]
        self.limits = dict(zip(self.names, (limit for _, limit in lanes), strict=True))
        for name, (weight, limit) in zip(self.names, lanes, strict=True):
            self.share.add(name, weight, limit)
        self.turns = dict.fromkeys(self.names, 0)

    def note(self, _detail: Any) -> None:
        share = self.share
        assert 0 <= share._used <= self.total
        assert share._used == sum(lane.used for lane in share._lanes.values())
        assert share._busy == sum(lane.busy for lane in share._lanes.values())
        for name, lane in share._lanes.items():
            assert 0 <= lane.busy <= lane.used
            assert self.limits[name] <= 0 or lane.used <= self.limits[name]
        wanting = [lane for lane in share._lanes.values() if lane.room > 0 and lane.hungry]
        if wanting and all(lane.waiter is not None and not lane.waiter.done() for lane in wanting):
            assert share._used == self.total, "a slot is free while somebody wants it"

    async def trade(self, name: str, *, hungry: Callable[[], bool]) -> None:
        while True:
            grant = await self.share.acquire(name, hungry=hungry())
            assert grant.slots >= 1
            filled = self.chance.randint(0, grant.slots)
            await asyncio.sleep(self.chance.choice((0, 0, 0.001)))
            for _ in range(filled):
                self.share.start(name)
                asyncio.get_running_loop().call_later(self.chance.random() * 0.05, self.share.finish, name)
            self.turns[name] += 1
            self.share.release(name, grant.slots - filled)
            await asyncio.sleep(self.chance.random() * 0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), LANES, st.integers(0, 2**32))
def test_whatever_happens_accounts_are_true_and_slots_come_back(
    total: int, lanes: list[tuple[int, int]], seed: int
) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        market = _Market(total, lanes, chance)
        trades = {
            name: asyncio.ensure_future(market.trade(name, hungry=lambda: chance.random() < 0.7))
            for name in market.names
        }
        for _ in range(8):
            await asyncio.sleep(chance.random() * 0.2)
            name = chance.choice(market.names)
            trades[name].cancel()  # a queue whose pull is ended at any moment gives everything back
            await asyncio.wait({trades[name]})
            _give_back_what_was_pulled(market, name)
            trades[name] = asyncio.ensure_future(market.trade(name, hungry=lambda: True))
        await asyncio.sleep(2)
        assert all(turns > 0 for turns in market.turns.values()), "somebody starves"
        for name, trade in trades.items():
            trade.cancel()
            await asyncio.wait({trade})
            assert trade.cancelled()
            _give_back_what_was_pulled(market, name)
        await asyncio.sleep(1)
        assert_at_rest(market.share)

    run_virtually(scenario())


def _give_back_what_was_pulled(market: _Market, name: str) -> None:
    """Do what `Lane` does in its `finally`: slots that were granted and got no item."""
    lane = market.share._lanes[name]
    market.share.release(name, lane.used - lane.busy)


@pytest.mark.parametrize(("weights", "total"), [((10, 1), 22), ((10, 10, 20), 40), ((1, 1, 1, 1), 8)])
async def test_over_time_busy_slots_go_by_weight(weights: tuple[int, ...], total: int) -> None:
    chance = random.Random(7)
    share = FairShare(total, Notes())
    names = [f"q{place}" for place in range(len(weights))]
    for name, weight in zip(names, weights, strict=True):
        share.add(name, weight, 0)

    async def work(name: str) -> None:
        while True:
            grant = await share.acquire(name, hungry=True)
            await asyncio.sleep(0.001)
            for _ in range(grant.slots):
                share.start(name)
                asyncio.get_running_loop().call_later(chance.random() * 0.1, share.finish, name)
            await asyncio.sleep(0.005)

    works = [asyncio.ensure_future(work(name)) for name in names]
    seen = dict.fromkeys(names, 0)
    for _ in range(2_000):
        await asyncio.sleep(0.01)
        for name in names:
            seen[name] += share._lanes[name].busy
    for one in works:
        one.cancel()
    every = sum(seen.values())
    for name, weight in zip(names, weights, strict=True):
        assert seen[name] / every == pytest.approx(weight / sum(weights), rel=0.15)


@pytest.mark.parametrize(("total", "least"), [(1, 0.3), (2, 0.45), (5, 0.75), (20, 0.75), (100, 0.75)])
async def test_a_queue_with_items_has_most_slots_though_hundreds_look_in(total: int, least: float) -> None:
    """A look takes two milliseconds here, and each idle queue looks again a tenth of a second after its last one."""
    idle = [f"idle{number}" for number in range(300)]
    share = make(total, busy=(10, 0), **dict.fromkeys(idle, (10, 0)))
    looks = dict.fromkeys(idle, 0)
    done = 0

    async def look_in(name: str) -> None:
        while True:
            grant = await share.acquire(name, hungry=False)
            looks[name] += 1
            await asyncio.sleep(0.002)
            share.release(name, grant.slots)
            await asyncio.sleep(0.1)

    async def work() -> None:
        nonlocal done
        await asyncio.sleep(0.005)
        share.finish("busy")
        done += 1

    async def take() -> None:
        while True:
            grant = await share.acquire("busy", hungry=True)
            for _ in range(grant.slots):
                share.start("busy")
                running.add(asyncio.ensure_future(work()))

    running: set[asyncio.Future[None]] = set()
    running.update(asyncio.ensure_future(one) for one in (take(), *(look_in(name) for name in idle)))
    await asyncio.sleep(5)
    assert done >= least * 5 * total / 0.005
    assert min(looks.values()) >= 2
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def test_pulls_that_wait_for_items_take_nothing_from_those_that_only_look_in() -> None:
    """Idle queues hold half of the slots for five seconds each when the first items come: the others are not asked."""

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        idle = [f"idle{number}" for number in range(300)]
        share = make(200, busy=(10, 0), **dict.fromkeys(idle, (10, 0)))
        longest = 0.0

        async def look_in(name: str) -> None:
            nonlocal longest
            while True:
                asked = loop.time()
                grant = await share.acquire(name, hungry=False)
                longest = max(longest, loop.time() - asked)
                await asyncio.sleep(grant.wait or 0.002)
                share.release(name, grant.slots)
                if not grant.wait:
                    await asyncio.sleep(0.1)

        async def take() -> None:
            while True:
                grant = await share.acquire("busy", hungry=True)
                for _ in range(grant.slots):
                    share.start("busy")
                    loop.call_later(0.05, share.finish, "busy")

        running = [asyncio.ensure_future(look_in(name)) for name in idle]
        await asyncio.sleep(12)
        assert sum(lane.used for lane in share._lanes.values()) >= 100
        running.append(asyncio.ensure_future(take()))
        await asyncio.sleep(6)
        for one in running:
            one.cancel()
        return longest

    assert run_virtually(scenario()) < 0.6
