"""Turns among queues whose tasks are quick: batches worth a pull, the same shares over time, nobody kept waiting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from pipeline_world import Notes

from ajc.testing import run_virtually
from ajc_bridge.pipeline.accounts import Account
from ajc_bridge.pipeline.fair_share import FairShare, Grant
from ajc_bridge.pipeline.turns import batch_of, plan_turns, take_turns

SLOTS = 200
QUICK = 0.01
SLOW = 0.5
LOADED = 0.07
"""What 200 slots are held for where the bridge itself, or its server, is what limits it: 3,000 tasks a second."""


class Queues:
    """Queues with endless items, each of which takes as long as `seconds` says; their pulls take two milliseconds."""

    def __init__(self, weights: dict[str, int], seconds: Callable[[str], float], total: int = SLOTS) -> None:
        self.share = FairShare(total, Notes())
        self.seconds = seconds
        self.done: Counter[str] = Counter()
        self.grants: list[tuple[str, Grant]] = []
        self.most: Counter[str] = Counter()
        for name, weight in weights.items():
            self.share.add(name, weight, 0)
        self.works = [asyncio.ensure_future(self.work(name)) for name in weights]

    async def work(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            grant = await self.share.acquire(name, hungry=True)
            self.grants.append((name, grant))
            await asyncio.sleep(0.002)
            for _ in range(grant.slots):
                self.share.start(name)
                loop.call_later(self.seconds(name), self.finish, name)
            self.most[name] = max(self.most[name], self.share._lanes[name].used)

    def finish(self, name: str) -> None:
        self.share.finish(name)
        self.done[name] += 1

    async def run(self, seconds: float) -> None:
        self.done.clear()
        self.grants.clear()
        self.most.clear()
        await asyncio.sleep(seconds)

    def stop(self) -> None:
        for work in self.works:
            work.cancel()


def names(count: int, weight: int = 10) -> dict[str, int]:
    return {f"q{number}": weight for number in range(count)}


@pytest.mark.parametrize(("quick", "seconds"), [(QUICK, 4), (LOADED, 20)])
def test_quick_queues_pull_in_batches_and_do_equally_much(quick: float, seconds: int) -> None:
    async def scenario() -> Queues:
        queues = Queues(names(20), lambda _: quick)
        await queues.run(1)
        await queues.run(seconds)
        queues.stop()
        return queues

    queues = run_virtually(scenario())
    pulled = sum(grant.slots for _, grant in queues.grants)
    assert pulled / len(queues.grants) >= batch_of(SLOTS) / 2
    assert pulled >= seconds / (quick + 0.002) * SLOTS * 0.7, "slots lie idle"
    assert min(queues.done.values()) >= 0.9 * max(queues.done.values())
    assert max(queues.most.values()) <= batch_of(SLOTS)


def test_over_time_turns_go_by_weight() -> None:
    async def scenario() -> Queues:
        queues = Queues({**names(10, 10), "heavy": 30}, lambda _: QUICK)
        await queues.run(1)
        await queues.run(8)
        queues.stop()
        return queues

    queues = run_virtually(scenario())
    others = sum(queues.done[name] for name in names(10)) / 10
    assert queues.done["heavy"] / others == pytest.approx(3, rel=0.15)


def test_queues_that_are_not_quick_hold_their_shares_at_every_moment() -> None:
    async def scenario() -> Queues:
        queues = Queues(names(20), lambda _: SLOW)
        await queues.run(4)
        queues.stop()
        return queues

    assert max(run_virtually(scenario()).most.values()) <= SLOTS / 20 + 1


def test_one_slow_queue_ends_the_turns_of_all() -> None:
    """Its share must be there at every moment, not over time: it cannot give back in a moment what it has too much."""

    async def scenario() -> Queues:
        queues = Queues(names(20), lambda name: SLOW if name == "q7" else QUICK)
        await queues.run(2)
        await queues.run(2)
        queues.stop()
        return queues

    queues = run_virtually(scenario())
    assert queues.most["q7"] <= SLOTS / 20 + 1
    assert queues.done["q7"] >= 2 / SLOW * (SLOTS / 20) * 0.8


def test_turns_end_soon_when_quick_tasks_become_slow() -> None:
    slow = False

    async def scenario() -> tuple[int, int]:
        nonlocal slow
        queues = Queues(names(20), lambda _: 5.0 if slow else QUICK)
        await queues.run(1)
        slow = True
        await queues.run(0.3)
        held = [account.used for account in queues.share._lanes.values()]
        queues.stop()
        return sum(held), sum(1 for used in held if used)

    used, holders = run_virtually(scenario())
    assert used == SLOTS, "slots are kept back for turns that never come"
    assert holders >= 3


def test_slots_that_slow_tasks_hold_are_not_waited_for() -> None:
    """A queue at its limit holds so many that what is left can never be worth a turn of all slots."""

    async def scenario() -> Queues:
        queues = Queues({"long": 10}, lambda name: 1_000.0 if name == "long" else QUICK)
        queues.share.change("long", 10, SLOTS - 35)
        await queues.run(0.1)
        for name in names(10):
            queues.share.add(name, 10, 0)
            queues.works.append(asyncio.ensure_future(queues.work(name)))
        await queues.run(1)
        await queues.run(2)
        queues.stop()
        return queues

    queues = run_virtually(scenario())
    assert sum(queues.done.values()) >= 0.7 * 35 * 2 / (QUICK + 0.002)
    assert min(queues.done[name] for name in names(10)) >= 0.5 * max(queues.done.values())


def test_slots_are_kept_back_for_a_moment_at_most() -> None:
    """What is free then goes out, worth a turn or not: those who hold the rest were quick until now."""

    async def scenario() -> tuple[float, list[int]]:
        loop = asyncio.get_running_loop()
        share = FairShare(SLOTS, Notes())
        for name in names(20):
            share.add(name, 10, 0)
            share._lanes[name].finished = 64
        for _ in range(SLOTS - 35):
            share.start("q0", reserved=False)
        begun = loop.time()
        async with asyncio.timeout(5):
            grants = await asyncio.gather(*(share.acquire(name, hungry=True) for name in list(names(20))[1:]))
        return loop.time() - begun, [grant.slots for grant in grants]

    waited, slots = run_virtually(scenario())
    assert waited <= 0.1
    assert sum(slots) == 35


def test_a_queue_with_one_item_now_and_then_is_served_at_once_among_others_turns() -> None:
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        queues = Queues(names(20), lambda _: QUICK)
        await queues.run(1)
        queues.share.add("seldom", 10, 0)
        waits = []
        for _ in range(50):
            asked = loop.time()
            grant = await queues.share.acquire("seldom", hungry=False)
            waits.append(loop.time() - asked)
            assert grant.slots == 1
            queues.share.release("seldom", 1)
            await asyncio.sleep(0.013)
        queues.stop()
        return waits

    waits = run_virtually(scenario())
    assert max(waits) <= 2 * QUICK


def test_hundreds_of_queues_that_look_in_leave_most_slots_to_those_that_take_turns() -> None:
    """A look takes a twentieth of a second here: the server is slow."""

    async def scenario() -> tuple[int, int, int]:
        queues = Queues(names(8), lambda _: QUICK)
        await queues.run(1)
        most = looking = 0
        looks: Counter[str] = Counter()

        async def look_in(name: str) -> None:
            nonlocal most, looking
            while True:
                grant = await queues.share.acquire(name, hungry=False)
                looking += grant.slots
                most = max(most, looking)
                looks[name] += 1
                await asyncio.sleep(0.05)
                looking -= grant.slots
                queues.share.release(name, grant.slots)
                await asyncio.sleep(0.1)

        for name in (idle := [f"idle{number}" for number in range(400)]):
            queues.share.add(name, 10, 0)
            queues.works.append(asyncio.ensure_future(look_in(name)))
        await queues.run(4)
        queues.stop()
        return most, min(looks[name] for name in idle), sum(grant.slots for _, grant in queues.grants)

    most, fewest, pulled = run_virtually(scenario())
    assert most <= SLOTS // 4
    assert fewest >= 4
    assert pulled >= 4 / (QUICK + 0.002) * SLOTS * 0.5


def test_who_comes_back_after_a_while_has_no_claim_to_what_it_did_not_want() -> None:
    async def scenario() -> Queues:
        queues = Queues(names(19), lambda _: QUICK)
        await queues.run(5)
        queues.share.add("late", 10, 0)
        queues.works.append(asyncio.ensure_future(queues.work("late")))
        await queues.run(2)
        queues.stop()
        return queues

    queues = run_virtually(scenario())
    assert queues.done["late"] <= 1.3 * max(queues.done[name] for name in names(19))
    assert queues.done["late"] >= 0.7 * min(queues.done[name] for name in names(19))


def test_what_a_queue_did_alone_is_no_debt_to_those_that_join_it() -> None:
    async def scenario() -> Queues:
        queues = Queues({"first": 10}, lambda _: QUICK)
        await queues.run(60)
        for name in names(19):
            queues.share.add(name, 10, 0)
            queues.works.append(asyncio.ensure_future(queues.work(name)))
        await queues.run(1)
        await queues.run(3)
        queues.stop()
        return queues

    queues = run_virtually(scenario())
    assert queues.done["first"] >= 0.8 * max(queues.done.values())
    assert sum(grant.slots for _, grant in queues.grants) / len(queues.grants) >= batch_of(SLOTS) / 2, "turns are taken"


def test_a_queue_that_was_held_back_for_long_does_not_keep_the_others_waiting_as_long() -> None:
    async def scenario() -> Queues:
        queues = Queues(names(20), lambda _: QUICK)
        queues.share.change("q0", 10, 1)
        await queues.run(20)
        queues.share.change("q0", 10, 0)
        await queues.run(2)
        await queues.run(3)
        queues.stop()
        return queues

    queues = run_virtually(scenario())
    assert queues.done["q0"] <= 1.2 * min(queues.done[name] for name in names(20))


def test_a_pull_that_waits_for_items_does_not_make_a_queue_slow() -> None:
    """An idle queue's pull holds its slot for seconds, over and over: its tasks are as quick as they were."""

    async def scenario() -> list[int]:
        share = FairShare(SLOTS, Notes())
        share.add("idle", 10, 0)
        share.add("other", 10, 0)
        for _ in range(100):
            grant = await share.acquire("idle", hungry=False)
            assert grant.wait > 0
            await asyncio.sleep(grant.wait)
            share.resize(SLOTS)  # another change in the same turn comes first
            share.start("idle")
            await asyncio.sleep(QUICK)
            share.finish("idle")
        known = [share._lanes["idle"].quick]
        for _ in range(100):
            grant = await share.acquire("idle", hungry=False)
            share.start("idle")
            await asyncio.sleep(SLOW)
            share.finish("idle")
        return [*known, share._lanes["idle"].quick]

    assert run_virtually(scenario()) == [True, False]


def account(*, used: int = 0, limit: int = 0, hungry: bool = True, had: float = 0.0) -> Account[Grant]:
    made: Account[Grant] = Account(10, limit)
    made.used, made.hungry, made.had, made.due = used, hungry, had, 10
    made.finished = 64
    return made


def test_few_queues_or_few_slots_have_no_need_of_turns() -> None:
    many = [account() for _ in range(20)]
    assert take_turns(many, SLOTS)
    assert not take_turns(many[:6], SLOTS)
    assert not take_turns(many, 79)
    fresh: Account[Grant] = Account(10, 0)
    fresh.hungry = True  # nothing is known of its tasks yet
    assert not take_turns([*many, fresh], SLOTS)


def test_a_queue_at_its_limit_takes_what_that_allows() -> None:
    short, other = account(limit=4), account(had=1.0)
    assert plan_turns([short, other], [short, other], SLOTS, 100) == 100 - 4 - batch_of(SLOTS)
    assert (short.planned, other.planned) == (4, batch_of(SLOTS))


def test_the_first_in_line_waits_for_a_turn_that_is_worth_it() -> None:
    first, second = account(), account(had=1.0)
    assert plan_turns([first, second], [second, first], SLOTS, 30) == 30
    assert (first.planned, second.planned) == (0, 0)
    assert plan_turns([first, second], [second, first], SLOTS, 50) == 0
    assert (first.planned, second.planned) == (50, 0)


def test_who_is_in_the_middle_of_its_turn_leaves_the_next_to_others() -> None:
    amid, second = account(used=60), account(had=1.0)
    plan_turns([amid, second], [amid, second], SLOTS, 100)
    assert (amid.planned, second.planned) == (0, batch_of(SLOTS))
