"""Many tasks: pipelined, in order, one outcome each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sdk_world import item_of, queue_of, record_of, unique, until

import ajc
from ajc.connection import Connection
from ajc.enqueue_many import EnqueueMany
from ajc.entry import prepare
from ajc.instant import Instant


def tasks(count: int) -> list[ajc.Task]:
    return [ajc.new_task("a", {"n": number}) for number in range(count)]


async def test_one_outcome_a_task_in_their_order(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        asked = tasks(1000)
        stored = [task async for task in client.enqueue_many(asked, queue=queue)]
        assert [task.id for task in stored] == [task.id for task in asked]
        assert {(task.state, task.queue) for task in stored} == {("new", queue)}
        assert (await client.queue(queue)).messages == 1000
        assert (await record_of(client, asked[500].id)).data == stored[500].encode()
        item = await item_of(client, queue, asked[0].id)
        assert item is not None
        assert b"Nats-Msg-Id: " + asked[0].id.encode() in (item.headers or b"")


async def test_any_iterable_will_do(server: Any) -> None:
    async def later() -> AsyncIterator[ajc.Task]:
        for task in tasks(3):
            await asyncio.sleep(0)
            yield task

    async with queue_of(server) as (client, queue):
        assert len([task async for task in client.enqueue_many(iter(tasks(3)), queue=queue)]) == 3
        assert len([task async for task in client.enqueue_many(later(), queue=queue)]) == 3
        assert [task async for task in client.enqueue_many([], queue=queue)] == []


async def test_a_task_s_own_queue_counts(server: Any) -> None:
    async with queue_of(server) as (client, queue), queue_of(server) as (_, other):
        mixed = [ajc.new_task("a", queue=other), ajc.new_task("a")]
        assert [task.queue async for task in client.enqueue_many(mixed, queue=queue)] == [other, queue]


async def test_errors_stand_in_their_task_s_place(server: Any) -> None:
    async with queue_of(server) as (client, queue), queue_of(server, max_entries=1) as (_, full):
        asked = [
            ajc.new_task("a"),
            ajc.new_task("a", queue=full),
            ajc.new_task("a", queue=full),
            ajc.new_task("a", "x" * (1 << 20)),
            ajc.new_task("a", queue=unique("ABSENT")),
            ajc.new_task("a"),
        ]
        asked.append(ajc.new_task("b", id=asked[0].id))
        outcomes = [found async for found in client.enqueue_many(asked, queue=queue, return_errors=True)]
        assert [type(outcome) for outcome in outcomes] == [
            ajc.Task,
            ajc.Task,
            ajc.QueueFull,
            ajc.TooLarge,
            ajc.NotFound,
            ajc.Task,
            ajc.AlreadyExists,
        ]
        assert (await client.load(asked[2].id)).state == "queue_error"
        assert (await client.load(asked[4].id)).state == "queue_error"


async def test_the_first_error_is_raised_once_the_rest_has_landed(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        asked = tasks(50)
        asked[10] = ajc.new_task("a", queue=unique("ABSENT"))
        stored: list[ajc.Task] = []

        async def enqueue() -> None:
            async for task in client.enqueue_many(asked, queue=queue):
                stored.append(task)  # noqa: PERF401  (what came before the error counts)

        with pytest.raises(ajc.NotFound):
            await enqueue()
        assert [task.id for task in stored] == [task.id for task in asked[:10]]
        assert (await client.queue(queue)).messages == 49
        assert (await client.load(asked[49].id)).state == "new"


async def test_what_is_under_way_lands_when_the_reader_stops(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        taken = 0

        def source() -> Iterator[ajc.Task]:
            nonlocal taken
            for task in tasks(1000):
                taken += 1
                yield task

        many = client.enqueue_many(source(), queue=queue)
        await anext(many)
        await many.aclose()  # type: ignore[attr-defined]  # as leaving an `async for` does, later
        assert taken < 1000
        assert (await client.queue(queue)).messages == taken


async def test_an_iterable_that_raises(server: Any) -> None:
    def source() -> Iterator[ajc.Task]:
        yield from tasks(5)
        raise KeyError("broken")

    async with queue_of(server) as (client, queue):
        with pytest.raises(KeyError):
            _ = [task async for task in client.enqueue_many(source(), queue=queue)]
        assert (await client.queue(queue)).messages == 5


async def test_the_same_task_twice_is_one(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = ajc.new_task("a")
        assert len([found async for found in client.enqueue_many([task, task, task], queue=queue)]) == 3
        assert (await client.queue(queue)).messages == 1


async def test_only_so_many_are_under_way(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        begun = 0

        def source() -> Iterator[ajc.Task]:
            nonlocal begun
            for task in tasks(40):
                begun += 1
                yield task

        many = EnqueueMany(client.connection, source(), queue=queue, in_flight=8)
        landed = 0
        async for _ in many.outcomes():
            landed += 1
            assert many._under_way <= 8
        assert landed == begun == 40


async def test_a_server_that_restarts_in_between(own_server: Any) -> None:
    async with queue_of(own_server) as (client, queue):
        asked = tasks(3000)
        stored: list[str] = []

        async def enqueue() -> None:
            async for task in client.enqueue_many(asked, queue=queue):
                stored.append(task.id)  # noqa: PERF401  (watched while it grows)

        running = asyncio.create_task(enqueue())
        await until(lambda: len(stored) > 200)
        own_server.stop()
        own_server.start()
        await running
        assert stored == [task.id for task in asked]
        info = await client.connection.api("STREAM.INFO.CHORIA_AJ_TASKS")
        assert info["state"]["messages"] == 3000
        assert (await client.queue(queue)).messages == 3000


@pytest.mark.parametrize("fast", [True, False])
async def test_what_it_stores_is_what_a_single_enqueue_stores(server: Any, fast: bool) -> None:
    async with queue_of(server) as (client, queue), queue_of(server) as (other, another):
        connection = await Connection.open(client.connection.options, fast=fast)
        blocked = ajc.new_task("b").replace(dependencies=("x",))
        old = ajc.new_task("c", b"\xff", id="o:1_" + unique("d"), max_tries=0).replace(
            last_err='"\n', created=Instant(7)
        )
        asked = [ajc.new_task("a", {"n": 1}), blocked, old]
        async with client.watch() as events:
            stored = [task async for task in EnqueueMany(connection, asked, queue=queue).outcomes()]
            told: list[Any] = []
            while len(told) < len(asked):
                event = await anext(aiter(events))
                told += [event] if event.task_id in {task.id for task in asked} else []
        assert [(event.task_id, event.state, event.queue) for event in told] == [
            (task.id, task.state, task.queue) for task in stored
        ]
        for task in stored:
            entry = prepare(client.connection, task.replace(queue=""), queue)
            assert entry.task == task
            assert (await record_of(client, task.id)).data == entry.body
            item = await item_of(client, queue, task.id)
            assert (item.subject, item.data, item.headers) == (entry.item_subject, entry.item_body, entry.item_headers)
        for wrong in (ajc.new_task("a").replace(queue="no queue"), ajc.new_task("a").replace(id="a b"), done_task()):
            (refused,) = [found async for found in EnqueueMany(connection, [wrong], queue=another).outcomes()]
            assert isinstance(refused, ajc.InvalidName | ajc.InvalidValue)
        assert (await other.queue(another)).messages == 0
        await connection.close()


def done_task() -> ajc.Task:
    return ajc.new_task("a").replace(state="complete")
