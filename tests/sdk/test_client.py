"""The client's verbs on a real server, with steps that a bridge would take done by hand."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from sdk_world import change, connected, item_of, queue_of, unique, until

import ajc
from ajc.connection import Message
from ajc.headers import encode_headers
from ajc.instant import Instant
from ajc.progress import Progress
from ajc.result import Result
from ajc.stored_message import last_message
from ajc.subjects import (
    delay_fire_subject,
    delay_schedule_subject,
    dlq_subject,
    item_subject,
    progress_subject,
    task_subject,
)


async def finish(client: ajc.Client, task_id: str, value: bytes = b"done") -> None:
    await change(client, task_id, state="complete", tries=1, result=Result.of_bytes(value, Instant.now()))


async def schedule(client: ajc.Client, queue: str, task_id: str) -> None:
    due = Instant.now().plus(3600 * 10**9)
    pairs = {"Nats-Schedule": f"@at {due.rfc3339()}", "Nats-Schedule-Target": delay_fire_subject(queue, task_id)}
    await client.connection.stored(delay_schedule_subject(queue, task_id), b"{}", headers=encode_headers(pairs))


async def dead_letter(client: ajc.Client, queue: str, task_id: str, body: bytes = b"{}", **headers: str) -> None:
    pairs = {f"AJ-{name.replace('_', '-')}": value for name, value in headers.items()}
    await client.connection.stored(dlq_subject(queue, task_id), body, headers=encode_headers(pairs))


async def exists(client: ajc.Client, stream: str, subject: str) -> bool:
    try:
        await last_message(client.connection, stream, subject)
    except ajc.NotFound:
        return False
    return True


async def test_load(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", {"n": 1}, queue=queue)
        assert await client.load(task.id) == task
        with pytest.raises(ajc.NotFound, match="task NOPE"):
            await client.load("NOPE")
        with pytest.raises(ajc.InvalidName):
            await client.load("a.b")
        bad = unique()
        await client.connection.stored(task_subject(bad), b"{nope")
        with pytest.raises(ajc.MalformedTask):
            await client.load(bad)
        await client.connection.api("STREAM.PURGE.CHORIA_AJ_TASKS", {"filter": task_subject(bad)})


async def test_result_of_a_task_that_is_complete_already(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await finish(client, task.id)
        done = await client.result(task.id, timeout=5)
        assert done.result is not None
        assert done.result.data == b"done"


async def test_result_wakes_on_the_event(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        waiting = [asyncio.create_task(client.result(task.id, timeout=timedelta(seconds=20))) for _ in range(3)]
        await asyncio.sleep(0.1)
        await change(client, task.id, state="active", tries=1)
        await finish(client, task.id)
        for done in await asyncio.gather(*waiting):
            assert done.state == "complete"


async def test_result_does_not_need_the_event(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        waiting = asyncio.create_task(client.result(task.id, timeout=20))
        await asyncio.sleep(0.1)
        stored = (await client.load(task.id)).replace(state="complete")
        await client.connection.stored(task_subject(task.id), stored.encode())
        assert (await waiting).state == "complete"


@pytest.mark.parametrize("state", ["expired", "terminated", "queue_error", "unreachable"])
async def test_result_of_a_task_that_failed(server: Any, state: str) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await change(client, task.id, state=state, last_err="why", tries=2)
        with pytest.raises(ajc.TaskFailed, match=f"{state} after 2 tries: why") as failed:
            await client.result(task.id, timeout=5)
        assert failed.value.task.state == state


async def test_result_that_does_not_come(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        with pytest.raises(ajc.TaskTimeout, match=task.id):
            await client.result(task.id, timeout=0.2)
        with pytest.raises(ajc.NotFound):
            await client.result("NOPE", timeout=5)


async def test_result_through_a_restart_of_the_server(own_server: Any) -> None:
    async with queue_of(own_server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        waiting = asyncio.create_task(client.result(task.id, timeout=40))
        await asyncio.sleep(0.1)
        own_server.stop()
        await until(lambda: not client.connection.connected)
        own_server.start()
        await client.connection.wait_connected()
        await finish(client, task.id)
        assert (await waiting).state == "complete"


async def test_watch_sees_what_is_published_after_it_opened(server: Any) -> None:
    async with queue_of(server) as (client, queue), client.watch() as events:
        task = await client.enqueue("a", queue=queue)
        await client.connection.flush()
        client.connection.publish("CHORIA_AJ.E.task_state.x", b"{nope")
        async for event in events:
            if isinstance(event, ajc.TaskStateChanged) and event.task_id == task.id:
                assert (event.state, event.queue, event.task_type, event.tries) == ("new", queue, "a", 0)
                break
        assert events.missed == 0


async def test_watch_of_one_task_and_its_end(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        mine = unique()
        events = client.watch(mine)
        await events.open()
        await client.enqueue("a", queue=queue)
        await client.enqueue("a", queue=queue, id=mine)
        event = await anext(aiter(events))
        assert isinstance(event, ajc.TaskStateChanged)
        assert event.task_id == mine
        said = Progress(50, "half")
        for task_id in (unique(), mine):
            event = ajc.TaskProgressed.of(task_id, said, ajc.Instant.now(), queue=queue, task_type="a", tries=1)
            client.connection.publish(progress_subject(task_id), event.encode())
        assert await anext(aiter(events)) == event
        await events.close()
        assert [found async for found in events] == []


async def test_retry_of_a_complete_task(server: Any) -> None:
    """Lifecycle `retry_by_id_of_complete`: the result goes, tries stay; the item has no Nats-Msg-Id."""
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await client.purge_queue(queue)
        await finish(client, task.id)
        again = await client.retry(task.id)
        assert (again.state, again.tries, again.result, again.queue) == ("retry", 1, None, queue)
        assert await client.load(task.id) == again
        item = await item_of(client, queue, task.id)
        assert item is not None
        assert (item.headers, item.data) == (None, b'{"kind":0,"job":"%b"}' % task.id.encode())


async def test_retry_keeps_the_error_and_may_move_to_another_queue(server: Any) -> None:
    """Lifecycle `retry_by_id_of_terminated_keeps_error`."""
    async with queue_of(server) as (client, queue), queue_of(server) as (_, other):
        task = await client.enqueue("a", queue=queue)
        await change(client, task.id, state="terminated", last_err="no", tries=3, dead_letter="terminated")
        await schedule(client, queue, task.id)
        await dead_letter(client, queue, task.id)
        again = await client.retry(task.id, queue=other)
        assert (again.state, again.last_err, again.tries, again.queue) == ("retry", "no", 3, other)
        assert again.dead_letter == ""
        assert await item_of(client, other, task.id)
        assert await item_of(client, queue, task.id) is None
        assert not await exists(client, "CHORIA_AJ_DELAY", delay_schedule_subject(queue, task.id))
        assert not await exists(client, "CHORIA_AJ_DLQ", dlq_subject(queue, task.id))


@pytest.mark.parametrize(
    ("own", "queue_s", "tries", "left"), [(3, 0, 3, 0), (3, 0, 2, 2), (0, 2, 2, 0), (5, 2, 2, 0), (0, 0, 9, 9)]
)
async def test_tries_that_were_used_up_start_again(server: Any, own: int, queue_s: int, tries: int, left: int) -> None:
    async with queue_of(server, max_tries=queue_s) as (client, queue):
        task = await client.enqueue("a", queue=queue, max_tries=own)
        await change(client, task.id, state="expired", tries=tries)
        assert (await client.retry(task.id)).tries == left


async def test_retry_that_makes_no_sense(server: Any) -> None:
    async with queue_of(server, max_entries=1) as (client, queue):
        task = await client.enqueue("a", queue=queue, deadline=0.05)
        with pytest.raises(ajc.Conflict, match="queued already"):
            await client.retry(task.id)
        await change(client, task.id, state="blocked")
        with pytest.raises(ajc.Conflict, match="other tasks"):
            await client.retry(task.id)
        await change(client, task.id, state="paused")
        with pytest.raises(ajc.Conflict, match="'paused'"):
            await client.retry(task.id)
        await change(client, task.id, state="expired")
        await asyncio.sleep(0.06)
        with pytest.raises(ajc.Conflict, match="deadline"):
            await client.retry(task.id)
        again = await client.retry(task.id, deadline=60)
        assert again.deadline is not None
        await change(client, task.id, state="active")
        with pytest.raises(ajc.Conflict, match="runs now"):
            await client.retry(task.id)
        with pytest.raises(ajc.NotFound):
            await client.retry("NOPE")
        other = ajc.new_task("a", queue=queue).replace(state="terminated")
        await client.connection.stored(task_subject(other.id), other.encode())
        with pytest.raises(ajc.NotFound, match="ABSENT"):
            await client.retry(other.id, queue=unique("ABSENT"))
        await client.purge_queue(queue)
        await client.enqueue("a", queue=queue)
        with pytest.raises(ajc.QueueFull):
            await client.retry(other.id)
        assert (await client.load(other.id)).state == "queue_error"


async def test_delete_takes_everything_that_belongs_to_the_task(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await schedule(client, queue, task.id)
        await dead_letter(client, queue, task.id)
        assert await client.delete(task.id) == task
        for stream, subject in (
            ("CHORIA_AJ_TASKS", task_subject(task.id)),
            (f"CHORIA_AJ_Q_{queue}", item_subject(queue, task.id)),
            ("CHORIA_AJ_DELAY", delay_schedule_subject(queue, task.id)),
            ("CHORIA_AJ_DLQ", dlq_subject(queue, task.id)),
        ):
            assert not await exists(client, stream, subject)
        with pytest.raises(ajc.NotFound):
            await client.delete(task.id)


@pytest.mark.parametrize("way", ["delete", "cancel", "retry elsewhere"])
async def test_an_item_that_goes_takes_no_lease_of_others_with_it(server: Any, way: str) -> None:
    """The server must not take the items around it for acknowledged: they would never be delivered again."""
    async with queue_of(server, lease=1) as (client, queue), queue_of(server) as (_, other):
        tasks = [await client.enqueue("a", queue=queue) for _ in range(4)]
        pull = f"$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_{queue}.WORKERS"
        got: list[Message] = []
        inbox = f"{client.connection.inbox_prefix}.{queue}"
        await client.connection.subscribe(inbox, got.append)
        client.connection.publish(pull, b'{"batch": 3, "no_wait": true}', reply=inbox)
        await until(lambda: len(got) == 3)
        if way == "delete":
            await client.delete(tasks[1].id)
        elif way == "cancel":
            await client.cancel(tasks[1].id)
        else:
            await change(client, tasks[1].id, state="expired")
            await client.retry(tasks[1].id, queue=other)
        client.connection.publish(got[2].reply, b"+ACK")
        got.clear()
        client.connection.publish(pull, b'{"batch": 2, "expires": 20000000000}', reply=inbox)
        await until(lambda: len(got) == 2)
        assert {message.subject.rpartition(".")[2] for message in got} == {tasks[0].id, tasks[3].id}


async def test_delete_of_a_running_task_wants_force(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await change(client, task.id, state="active")
        with pytest.raises(ajc.Conflict):
            await client.delete(task.id)
        await client.delete(task.id, force=True)
        with pytest.raises(ajc.NotFound):
            await client.load(task.id)


@pytest.mark.parametrize("direct", [True, False])
async def test_tasks_are_listed_in_batches_or_one_by_one(own_server: Any, direct: bool) -> None:
    async with queue_of(own_server) as (client, queue):
        ids = [task.id async for task in client.enqueue_many([ajc.new_task("a") for _ in range(600)], queue=queue)]
        await change(client, ids[0], state="complete")
        await client.enqueue("b", queue=queue)
        await client.connection.stored(task_subject("broken"), b"{nope")
        if not direct:
            config = (await client.connection.api("STREAM.INFO.CHORIA_AJ_TASKS"))["config"]
            await client.connection.api("STREAM.UPDATE.CHORIA_AJ_TASKS", {**config, "allow_direct": False})
        listed = [task async for task in client.tasks()]
        assert [task.id for task in listed[:600]] == [*ids[1:], ids[0]]
        assert len(listed) == 601
        assert [task.id async for task in client.tasks(states=["complete"])] == [ids[0]]
        assert [task.type async for task in client.tasks(type="b")] == ["b"]
        assert len([task async for task in client.tasks(queue=queue, limit=7)]) == 7
        assert [task async for task in client.tasks(queue="OTHER")] == []
        assert [task async for task in client.tasks(limit=0)] == []


async def test_an_empty_store_and_none(own_server: Any) -> None:
    async with ajc.connect(own_server.url) as client:
        with pytest.raises(ajc.NotFound):
            _ = [task async for task in client.tasks()]
        assert [letter async for letter in client.dead_letters()] == []
        assert await client.queues() == []
        await client.ensure_queue(ajc.Queue("Q"))
        assert [task async for task in client.tasks()] == []


async def test_queues(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with queue_of(server, max_tries=3) as (client, queue):
        assert queue in await client.queues()
        await client.enqueue("a", queue=queue)
        info = await client.queue(queue)
        assert (info.messages, info.pending, info.ack_pending, info.stranded) == (1, 1, 0, 0)
        with caplog.at_level(logging.WARNING):
            await client.ensure_queue(ajc.Queue(queue, max_tries=4))
        assert f"queue {queue} is there already, and its max_tries is 3, not 4" in caplog.text
        assert await client.purge_queue(queue) == 1
        await client.delete_queue(queue)
        assert queue not in await client.queues()
        with pytest.raises(ajc.NotFound):
            await client.queue(queue)


async def test_dead_letters(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = ajc.new_task("a", queue=queue).replace(state="terminated")
        now = Instant.now()
        await dead_letter(
            client,
            queue,
            task.id,
            task.encode(),
            Dlq_Reason="terminated",
            Dlq_Error="no address",
            Dlq_Tries="2",
            Dlq_Time=now.rfc3339(),
            Task_Id=task.id,
            Task_Type="a",
            Queue=queue,
        )
        await dead_letter(client, queue, "bare", b"{nope", Dlq_Tries="x", Dlq_Time="x")
        first, second = [letter async for letter in client.dead_letters(queue)]
        assert (first.queue, first.task_id, first.type, first.reason) == (queue, task.id, "a", "terminated")
        assert (first.error, first.tries, first.time, first.task) == ("no address", 2, now, task)
        assert (second.queue, second.task_id, second.tries, second.task) == (queue, "bare", 0, None)
        assert await client.dead_letter(task.id) == first
        assert await client.dead_letter(task.id, queue) == first
        with pytest.raises(ajc.NotFound):
            await client.dead_letter(task.id, "OTHER")
        with pytest.raises(ajc.NotFound):
            await client.dead_letter("NOPE")


async def test_the_connection_is_closed_with_the_block(server: Any) -> None:
    async with ajc.connect(server.url) as client:
        assert client.connection.connected
    assert client.connection.closed
    with pytest.raises(ajc.Closed):
        await client.enqueue("a")
    await client.close()
    async with connected(server) as connection:
        assert connection.connected
