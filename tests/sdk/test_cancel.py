"""Cancelling on a real server: what is saved, what goes, who is told, and who has the last word."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sdk_world import change, item_of, queue_of, record_of, unique, until

import ajc
from ajc import cancelling
from ajc.cancelling import cancel_task
from ajc.connection import Message
from ajc.events import TaskStateChanged, decode_event
from ajc.headers import encode_headers
from ajc.instant import Instant
from ajc.result import Result
from ajc.stored_message import last_message
from ajc.subjects import (
    DELAY_STREAM,
    DLQ_STREAM,
    delay_fire_subject,
    delay_schedule_subject,
    dlq_subject,
    item_subject,
    task_subject,
)
from ajc.task_records import save_task

FINAL = ("complete", "expired", "terminated", "queue_error", "unreachable")


@asynccontextmanager
async def told(client: ajc.Client) -> AsyncIterator[list[Message]]:
    """What is published on `ajc.cancel.*` meanwhile."""
    heard: list[Message] = []
    subscription = await client.connection.subscribe("ajc.cancel.*", heard.append)
    await client.connection.flush()
    yield heard
    await subscription.unsubscribe()


async def schedule(client: ajc.Client, queue: str, task_id: str, seconds: float = 3600) -> None:
    due = Instant.now().plus(int(seconds * 1e9))
    pairs = {"Nats-Schedule": f"@at {due.rfc3339()}", "Nats-Schedule-Target": delay_fire_subject(queue, task_id)}
    body = b'{"kind":0,"job":"' + task_id.encode() + b'"}'
    await client.connection.stored(delay_schedule_subject(queue, task_id), body, headers=encode_headers(pairs))


async def delayed(client: ajc.Client, queue: str, task_id: str) -> bool:
    for subject in (delay_schedule_subject(queue, task_id), delay_fire_subject(queue, task_id)):
        try:
            await last_message(client.connection, DELAY_STREAM, subject)
        except ajc.NotFound:
            continue
        return True
    return False


@pytest.mark.parametrize("state", ["new", "active", "blocked", "retry", ""])
async def test_an_unfinished_task_is_cancelled(server: Any, state: str) -> None:
    async with queue_of(server) as (client, queue), told(client) as heard:
        task = await client.enqueue("a", {"n": 1}, queue=queue)
        before = await change(client, task.id, state=state, tries=2, last_err="was")
        events: list[TaskStateChanged] = []
        await client.connection.subscribe(
            f"CHORIA_AJ.E.task_state.{task.id}", lambda message: events.append(decode_event(message.body))
        )
        found = await client.cancel(task.id, "mistake")
        assert found.cancelled is not None
        assert found == before.replace(
            state="terminated", last_err="cancelled: mistake", cancelled=found.cancelled, next_try_at=None
        )
        assert await client.load(task.id) == found
        assert await item_of(client, queue, task.id) is None
        await until(lambda: events and heard)
        assert [(event.state, event.tries) for event in events] == [("terminated", 2)]
        assert [(message.subject, message.body) for message in heard] == [(f"ajc.cancel.{task.id}", b"mistake")]
        with pytest.raises(ajc.NotFound):
            await last_message(client.connection, DLQ_STREAM, dlq_subject(queue, task.id))


async def test_a_waiting_task_s_schedule_goes(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await client.purge_queue(queue)
        await schedule(client, queue, task.id)
        await change(client, task.id, state="retry", tries=1, next_try_at=Instant.now().plus(3600 * 10**9))
        assert (await client.cancel(task.id)).last_err == "cancelled"
        assert not await delayed(client, queue, task.id)


async def test_an_item_in_another_queue_than_the_task_names_is_found(server: Any) -> None:
    async with queue_of(server) as (client, queue), queue_of(server) as (_, other):
        one = await client.enqueue("a", queue=queue)
        await change(client, one.id, queue=other)
        two = await client.enqueue("a", queue=queue)
        await client.connection.api(f"STREAM.PURGE.CHORIA_AJ_Q_{queue}", {"filter": item_subject(queue, two.id)})
        await schedule(client, queue, two.id)
        await change(client, two.id, queue="GONE", state="retry", tries=1)
        three = await client.enqueue("a", queue=queue)
        await change(client, three.id, queue="no queue's name")
        for task in (one, two, three):
            await client.cancel(task.id)
            assert await item_of(client, queue, task.id) is None
            assert not await delayed(client, queue, task.id)


async def test_one_that_is_just_moving_into_its_queue_does_not_stay_there(server: Any) -> None:
    chance = random.Random(5)
    async with queue_of(server) as (client, queue):
        tasks = [await client.enqueue("a", queue=queue) for _ in range(60)]
        await client.purge_queue(queue)

        async def one(task: ajc.Task) -> None:
            await change(client, task.id, state="retry", tries=1)
            await schedule(client, queue, task.id, chance.uniform(0.2, 0.4))
            await asyncio.sleep(chance.uniform(0.1, 0.5))  # some before it fires, some while, some after
            await client.cancel(task.id)

        await asyncio.gather(*(one(task) for task in tasks))
        await until(lambda: _nothing_moves(client, queue))
        assert (await client.queue(queue)).messages == 0


async def _nothing_moves(client: ajc.Client, queue: str) -> bool:
    query = {"subjects_filter": f"CHORIA_AJ.D.*.{queue}.*"}
    return not (await client.connection.api(f"STREAM.INFO.{DELAY_STREAM}", query))["state"].get("subjects")


async def test_an_item_that_its_producer_writes_late_is_taken_away(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        item = await item_of(client, queue, task.id)
        assert item is not None
        await client.purge_queue(queue)
        cancelling_ = asyncio.create_task(client.cancel(task.id))
        await until(lambda: _is(client, task.id, "terminated"))
        await client.connection.stored(item_subject(queue, task.id), item.data)
        await cancelling_
        assert await item_of(client, queue, task.id) is None


async def _is(client: ajc.Client, task_id: str, state: str) -> bool:
    return (await client.load(task_id)).state == state


async def test_a_schedule_that_a_bridge_is_about_to_write_is_taken_away(server: Any) -> None:
    """It has saved the retry, and acknowledges the item once the schedule is stored."""
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await change(client, task.id, state="retry", tries=1, next_try_at=Instant.now().plus(3600 * 10**9))
        running = asyncio.create_task(client.cancel(task.id))
        await until(lambda: _is(client, task.id, "terminated"))
        await until(lambda: _has_no_item(client, queue, task.id))
        await schedule(client, queue, task.id)
        await running
        assert not await delayed(client, queue, task.id)


async def _has_no_item(client: ajc.Client, queue: str, task_id: str) -> bool:
    return await item_of(client, queue, task_id) is None


@pytest.mark.parametrize("state", FINAL)
async def test_a_task_that_has_ended_stays_as_it_is_and_the_caller_learns_it(server: Any, state: str) -> None:
    async with queue_of(server) as (client, queue), told(client) as heard:
        task = await client.enqueue("a", queue=queue)
        ended = await change(client, task.id, state=state, tries=1, last_err="end")
        before = await record_of(client, task.id)
        with pytest.raises(ajc.Conflict, match=f"is {state} already") as caught:
            await client.cancel(task.id, "too late")
        assert caught.value.task == ended
        await client.connection.flush()
        assert await record_of(client, task.id) == before
        assert not heard


async def test_a_state_that_nobody_knows_is_not_touched(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await change(client, task.id, state="paused")
        with pytest.raises(ajc.Conflict, match="'paused'"):
            await client.cancel(task.id)
        assert await item_of(client, queue, task.id) is not None


async def test_cancelling_again_saves_nothing_and_plays_the_rest_again(server: Any) -> None:
    async with queue_of(server) as (client, queue), told(client) as heard:
        task = await client.enqueue("a", queue=queue)
        first = await client.cancel(task.id, "mistake")
        record = await record_of(client, task.id)
        await client.connection.stored(item_subject(queue, task.id), b'{"kind":0,"job":"' + task.id.encode() + b'"}')
        await schedule(client, queue, task.id)
        assert await client.cancel(task.id, "another") == first
        assert await record_of(client, task.id) == record
        assert await item_of(client, queue, task.id) is None
        assert not await delayed(client, queue, task.id)
        await until(lambda: len(heard) == 2)
        assert {message.body for message in heard} == {b"mistake"}


async def test_what_cannot_be_cancelled(server: Any) -> None:
    async with ajc.connect(server.url) as client:
        with pytest.raises(ajc.NotFound, match="task NOPE"):
            await client.cancel("NOPE")
        with pytest.raises(ajc.InvalidName):
            await client.cancel("a.*")
        with pytest.raises(ajc.InvalidValue):
            await client.cancel("NOPE", 7)  # type: ignore[arg-type]
        bad = unique()
        await client.connection.stored(task_subject(bad), b"{nope")
        with pytest.raises(ajc.MalformedTask):
            await client.cancel(bad)


async def test_a_retry_takes_the_mark_away(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await client.cancel(task.id, "mistake")
        again = await client.retry(task.id)
        assert (again.state, again.cancelled) == ("retry", None)
        assert b'cancelled":' not in (await record_of(client, task.id)).data
        assert await item_of(client, queue, task.id) is not None


async def test_a_task_that_is_queued_again_meanwhile_keeps_its_item(server: Any) -> None:
    """Whoever waits for the end may ask for it again before the cancel has tidied up."""
    async with queue_of(server) as (client, queue), ajc.connect(server.url) as other:
        tasks = [await client.enqueue("a", queue=queue) for _ in range(60)]

        async def again(task: ajc.Task) -> None:
            with pytest.raises(ajc.TaskFailed):
                await other.result(task.id, timeout=20)
            await other.retry(task.id)

        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(again(task))
            await other.connection.flush()
            for task in tasks:
                group.create_task(client.cancel(task.id))
        for task in tasks:
            assert (await client.load(task.id)).state == "retry"
            assert await item_of(client, queue, task.id) is not None


async def test_of_many_that_end_and_are_cancelled_at_once_each_has_one_end(server: Any) -> None:
    """EXEC-30: the store decides. Whoever saves first has the last word, and the other one learns it."""
    async with queue_of(server) as (client, queue), ajc.connect(server.url) as bridge:
        tasks = [await client.enqueue("a", queue=queue) for _ in range(150)]
        revisions = {task.id: (await record_of(client, task.id)).revision for task in tasks}
        chance = random.Random(3)

        async def complete(task: ajc.Task) -> bool:
            await asyncio.sleep(chance.uniform(0, 0.05))
            done = task.replace(state="complete", tries=1, result=Result.of_bytes(b"done", Instant.now()))
            try:
                await save_task(bridge.connection, done, revisions[task.id])
            except ajc.Conflict:
                return False
            return True

        async def cancel(task: ajc.Task) -> str:
            await asyncio.sleep(chance.uniform(0, 0.05))
            try:
                await client.cancel(task.id, "race")
            except ajc.Conflict as error:
                return error.task.state if error.task is not None else "unknown"
            return "cancelled"

        both = await asyncio.gather(*(asyncio.gather(complete(task), cancel(task)) for task in tasks))
        ends = set()
        for task, (completed, said) in zip(tasks, both, strict=True):
            found = await client.load(task.id)
            if completed:
                assert (said, found.state) == ("complete", "complete")
            else:
                assert (said, found.state, found.last_err) == ("cancelled", "terminated", "cancelled: race")
            ends.add(found.state)
        assert ends == {"complete", "terminated"}, "there was no race"


async def test_a_lost_revision_is_decided_anew(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        real, looks = cancelling.read_task, []

        async def read(*args: Any, **options: Any) -> Any:
            record = await real(*args, **options)
            looks.append(record.revision)
            if len(looks) < 4:  # somebody begins the task between the look and the save
                await change(client, task.id, state="active", tries=len(looks))
            return record

        monkeypatch.setattr(cancelling, "read_task", read)
        found = await client.cancel(task.id)
        assert (found.state, found.tries) == ("terminated", 3)


async def test_a_lost_answer_is_read_back(own_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands still after it was sent the save, for longer than its answer is waited for."""
    async with queue_of(own_server) as (client, queue), told(client) as heard:
        task = await client.enqueue("a", queue=queue)
        events: list[Message] = []
        await client.connection.subscribe(f"CHORIA_AJ.E.task_state.{task.id}", events.append)
        await client.connection.flush()
        loop = asyncio.get_running_loop()

        def reach(point: str) -> None:
            if point == "cancel.save_sent":
                own_server.signal(signal.SIGSTOP)
                loop.call_later(0.7, own_server.signal, signal.SIGCONT)

        monkeypatch.setattr(cancelling, "reach", reach)
        monkeypatch.setattr(cancelling, "ANSWER_SECONDS", 0.5)
        before = (await record_of(client, task.id)).revision
        found = await client.cancel(task.id, "mistake")
        record = await record_of(client, task.id)
        assert (record.revision, record.data) == (before + 1, found.encode())
        await until(lambda: events and heard)
        assert len(events) == 1
        assert await item_of(client, queue, task.id) is None


async def test_a_server_that_comes_back_is_waited_for(own_server: Any) -> None:
    async with queue_of(own_server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        own_server.stop()
        await until(lambda: not client.connection.connected)
        running = asyncio.create_task(client.cancel(task.id))
        await asyncio.sleep(0.1)
        own_server.start()
        assert (await running).state == "terminated"
        assert await item_of(client, queue, task.id) is None


async def test_no_server_is_unavailable_after_the_time(own_server: Any) -> None:
    async with ajc.connect(own_server.url, timeout=0.5) as client:
        await client.ensure_queue(ajc.Queue("Q"))
        task = await client.enqueue("a", queue="Q")
        own_server.stop()
        await until(lambda: not client.connection.connected)
        with pytest.raises(ajc.Unavailable, match="may be cancelled: cancel it again"):
            await client.cancel(task.id)


@pytest.mark.parametrize(("room", "said"), [(260, "cancelled: xxx"), (120, "cancelled")])
async def test_a_task_that_has_no_room_for_the_reason_gets_less_of_it(make_server: Any, room: int, said: str) -> None:
    server = make_server("max_payload: 65536")
    async with queue_of(server) as (client, queue):
        empty = len(ajc.new_task("a", b"", queue=queue).encode()) + len(
            "\nNATS/1.0Nats-Expected-Last-Subject-Sequence: 1"
        )
        size = (65_536 - empty - room) // 4 * 3
        task = await client.enqueue("a", b"x" * size, queue=queue)
        found = await cancel_task(client.connection, task.id, "x" * 4_000)
        assert found.last_err.startswith(said)
        assert len(found.last_err) <= 80
        assert await client.load(task.id) == found
