"""Which items are stranded is known from several looks, each a lease apart."""

from __future__ import annotations

from collections.abc import Iterable

from ajc_bridge.jetstream.sightings import Sightings

LEASE = 30.0
X, Y, Z = 1, 2, 3


def looked(*looks: tuple[float, int, dict[int, int]]) -> list[set[int]]:
    sightings = Sightings()
    return [set(sightings.look(now, stranded, revisions, LEASE)) for now, stranded, revisions in looks]


def every(seconds: float, count: int) -> Iterable[float]:
    return (number * seconds for number in range(count))


def test_what_stays_as_it_is_is_stranded_after_two_leases() -> None:
    found = looked(*((now, 1, {X: 10}) for now in every(10, 8)))
    assert found == [set()] * 6 + [{X}] * 2


def test_looks_that_come_seldom_need_three() -> None:
    assert looked(*((now, 2, {X: 10, Y: 0}) for now in every(45, 3))) == [set(), set(), {X, Y}]


def test_what_comes_and_goes_beside_it_does_not_matter() -> None:
    looks = [(now, 1, {X: 10, 100 + number: number}) for number, now in enumerate(every(15, 6))]
    assert looked(*looks)[-1] == {X}


def test_beside_one_that_waits_for_its_redelivery_nothing_is_sure() -> None:
    assert looked(*((now, 1, {X: 10, Y: 5}) for now in every(30, 9))) == [set()] * 9


def test_one_that_waits_is_not_taken_for_one_that_was_saved_lately() -> None:
    """The other one, the stranded, is younger for a while: then its count fits the wrong one."""
    looks = [(0.0, 1, {X: 10, Y: 5}), (30.0, 1, {X: 11, Y: 5}), (60.0, 1, {X: 11, Y: 5}), (90.0, 1, {X: 11, Y: 5})]
    assert looked(*looks) == [set()] * 4


def test_one_that_begins_at_last_is_not_taken() -> None:
    looks = [(now, 1, {X: 10, Y: 5}) for now in every(30, 3)]
    looks += [(90.0, 1, {X: 10, Y: 6}), (105.0, 1, {X: 10, Y: 6}), (119.0, 1, {X: 10, Y: 6})]
    assert looked(*looks) == [set()] * 6
    assert looked(*looks[:4], (120.0, 1, {X: 10}))[-1] == {X}


def test_another_count_begins_anew() -> None:
    looks = [(0.0, 1, {X: 10}), (30.0, 1, {X: 10}), (50.0, 2, {X: 10, Y: 5}), (60.0, 1, {X: 10}), (89.0, 1, {X: 10})]
    assert looked(*looks) == [set()] * 5
    assert looked(*looks, (90.0, 1, {X: 10}))[-1] == {X}


def test_an_item_that_is_gone_and_back_is_another_one() -> None:
    assert looked((0.0, 1, {X: 10}), (30.0, 0, {}), (60.0, 1, {X: 10}), (90.0, 1, {X: 10})) == [set()] * 4
