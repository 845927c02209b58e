"""`ports.DeadLetters`."""

from __future__ import annotations

import pytest
from worlds import Opens, make_letter, unique


async def test_a_letter_says_what_it_was_told(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = unique("Q"), unique("t")
        letter = make_letter(queue, task_id)
        await world.letters.publish(letter, b'{"id":"x"}')
        stored = await world.letter(queue, task_id)
        assert stored is not None
        assert (stored.reason, stored.error, stored.tries, stored.time, stored.type, stored.body) == (
            "tries",
            "it broke",
            3,
            letter.time,
            "kind",
            b'{"id":"x"}',
        )


async def test_the_same_letter_twice_is_one(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = unique("Q"), unique("t")
        for _ in range(2):
            await world.letters.publish(make_letter(queue, task_id), b"1")
        assert await world.count_letters(queue) == 1


async def test_a_later_letter_takes_the_place_of_an_earlier_one(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = unique("Q"), unique("t")
        await world.letters.publish(make_letter(queue, task_id), b"1")
        await world.letters.publish(make_letter(queue, task_id, reason="deadline"), b"2")
        stored = await world.letter(queue, task_id)
        assert stored is not None
        assert (stored.reason, stored.body) == ("deadline", b"2")
        assert await world.count_letters(queue) == 1


async def test_letters_of_tasks_and_queues_are_apart(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, other = unique("Q"), unique("Q")
        first, second = unique("t"), unique("t")
        for name, task_id in ((queue, first), (queue, second), (other, first)):
            await world.letters.publish(make_letter(name, task_id), b"1")
        assert (await world.count_letters(queue), await world.count_letters(other)) == (2, 1)


async def test_a_body_that_does_not_fit_is_left_out(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        queue, task_id = unique("Q"), unique("t")
        await world.letters.publish(make_letter(queue, task_id), b"x" * (world.exchange.limit + 1))
        stored = await world.letter(queue, task_id)
        assert stored is not None
        assert (stored.reason, stored.body) == ("tries", b"")


@pytest.mark.parametrize("task_id", ["", "a.b", "a b", "*", ">", "ü", "x\x00y", "long" * 100])
async def test_any_id_has_its_letter(ports_under_test: Opens, task_id: str) -> None:
    async with ports_under_test() as world:
        queue = unique("Q")
        for _ in range(2):
            await world.letters.publish(make_letter(queue, task_id), b"1")
        assert await world.count_letters(queue) == 1
