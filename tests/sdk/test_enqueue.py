"""One task into its queue: what is stored, what is refused, and what becomes of lost answers."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sdk_world import change, item_of, queue_of, record_of, unique, until, vectors

import ajc
from ajc.client import Client
from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.enqueue import Enqueue
from ajc.entry import prepare
from ajc.headers import parse_headers
from ajc.instant import Instant
from ajc.subjects import task_subject
from ajc.task_records import save_task

ENQUEUED = {case["name"]: case for case in vectors("work_items.json") if case["kind"] == "enqueue"}
LIFECYCLE = {case["name"]: case for case in vectors("lifecycle.jsonl")}


@pytest.mark.parametrize("name", ["enqueue_new", "enqueue_custom_id"])
async def test_the_item_is_stored_as_go_stores_it(server: Any, name: str) -> None:
    case = ENQUEUED[name]
    async with queue_of(server) as (client, queue):
        task_id = case["subject"].rpartition(".")[2] + unique("")
        await client.enqueue("email:new", {}, queue=queue, id=task_id)
        item = await item_of(client, queue, task_id)
        go_id = case["headers"]["Nats-Msg-Id"]
        assert item is not None
        assert item.headers == case["stored_headers_raw"].replace(go_id, task_id).encode()
        assert item.data == case["stored_body"].replace(go_id, task_id).encode()


def shape(op: str, subject: str, headers: Any, body: str) -> Any:
    """What must be alike: the place, the headers, the keys in their order, the state."""
    keys = json.loads(body)
    return op, subject.rpartition(".")[0], headers, list(keys), keys.get("state")


@pytest.mark.parametrize("name", ["complete", "queue_error_no_queue", "queue_error_full", "discard_old_eviction"])
async def test_the_writes_are_go_s_in_go_s_order(server: Any, name: str) -> None:
    """Lifecycle: what the last enqueue of each scenario puts on the wire, until a worker comes."""
    case = LIFECYCLE[name]
    last = [entry for entry in case["wire"] if entry["op"] == "task_write"]
    last_id = next(
        entry["subject"] for entry in reversed(last) if entry["headers"]["Nats-Expected-Last-Subject-Sequence"] == "0"
    ).rpartition(".")[2]
    writes = ("task_write", "event", "item_write")
    go = [entry for entry in case["wire"] if entry["op"] in writes and entry["subject"].endswith(last_id)]
    del go[{"complete": 3, "discard_old_eviction": 3}.get(name, len(go)) :]

    settings = case["queue"]
    entries = max(0, settings["max_entries"])
    when_full = "discard_old" if settings["discard_old"] else "reject"
    async with queue_of(server, max_entries=entries, when_full=when_full) as (client, queue):
        if name == "queue_error_no_queue":
            await client.delete_queue(queue)
        elif entries:
            await client.enqueue("email:new", queue=queue)
        seen: list[tuple[str, str, bytes | None, bytes]] = []
        subjects = {
            "task_write": "CHORIA_AJ.T.*",
            "event": "CHORIA_AJ.E.task_state.*",
            "item_write": f"CHORIA_AJ.Q.{queue}.*",
        }
        if name == "queue_error_no_queue":
            del subjects["item_write"]  # a listener there would hide that nobody takes it
        for op, subject in subjects.items():
            await client.connection.subscribe(
                subject, lambda message, op=op: seen.append((op, message.subject, message.headers, message.body))
            )
        task = ajc.new_task("email:new", {"to": "a@example.net"}, queue=queue)
        _ = [found async for found in client.enqueue_many([task], return_errors=True)]
        await client.connection.flush()
        mine = [
            shape(op, subject, dict(parse_headers(headers).items) if headers else {}, body.decode())
            for op, subject, headers, body in seen
            if subject.endswith(task.id)
        ]
        revision = [write[2]["Nats-Expected-Last-Subject-Sequence"] for write in mine if write[0] == "task_write"][-1]
        wanted = []
        for entry in go:
            headers = dict(entry.get("headers", {}))
            if "Nats-Msg-Id" in headers:
                headers["Nats-Msg-Id"] = task.id
            if headers.get("Nats-Expected-Last-Subject-Sequence", "0") != "0":
                headers["Nats-Expected-Last-Subject-Sequence"] = revision
            subject = entry["subject"].replace(".DEFAULT.", f".{queue}.")
            wanted.append(shape(entry["op"], subject, headers, entry.get("task") or entry["body"]))
        assert mine == wanted


async def test_what_is_returned_is_what_is_stored(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        soon = datetime.now(UTC) + timedelta(hours=1)
        task = await client.enqueue("a", b"\x00raw", queue=queue, deadline=soon, max_tries=0)
        assert (task.state, task.queue, task.payload, task.max_tries) == ("new", queue, b"\x00raw", 0)
        assert task.deadline == Instant.from_datetime(soon)
        assert await client.load(task.id) == task
        assert (await record_of(client, task.id)).data == task.encode()


@pytest.mark.parametrize("deadline", [timedelta(seconds=90), 90, 90.0])
async def test_a_deadline_from_now(server: Any, deadline: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue, deadline=deadline)
        assert task.deadline == task.created.plus(90 * 10**9)


async def test_queue_error_when_the_queue_is_absent(server: Any) -> None:
    async with queue_of(server) as (client, _):
        absent = unique("ABSENT")
        states: list[str] = []
        async with client.watch() as events:
            with pytest.raises(ajc.NotFound, match=absent):
                await client.enqueue("a", queue=absent, id=absent)
            async for event in events:
                if isinstance(event, ajc.TaskStateChanged) and event.task_id == absent:
                    states.append(event.state)
                    if len(states) == 2:
                        break
        assert states == ["new", "queue_error"]
        task = await client.load(absent)
        assert (task.state, task.last_err, task.tries) == ("queue_error", f"queue {absent} does not exist", 0)


async def test_queue_error_when_the_queue_is_full(server: Any) -> None:
    async with queue_of(server, max_entries=1) as (client, queue):
        await client.enqueue("a", queue=queue)
        refused = unique()
        with pytest.raises(ajc.QueueFull, match=queue):
            await client.enqueue("a", queue=queue, id=refused)
        task = await client.load(refused)
        assert (task.state, task.last_err) == ("queue_error", f"queue {queue} is full")
        assert await item_of(client, queue, refused) is None


async def test_a_full_queue_is_waited_for(server: Any) -> None:
    async with queue_of(server, max_entries=1) as (client, queue):
        await client.enqueue("a", queue=queue)
        waiting = asyncio.create_task(client.enqueue("a", queue=queue, wait=timedelta(seconds=20)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await client.purge_queue(queue)
        task = await waiting
        assert (await client.load(task.id)).state == "new"
        assert await item_of(client, queue, task.id)
        with pytest.raises(ajc.QueueFull):
            await client.enqueue("a", queue=queue, wait=0.1)


async def test_discard_old_takes_every_task(server: Any) -> None:
    async with queue_of(server, max_entries=1, when_full="discard_old") as (client, queue):
        first = await client.enqueue("a", queue=queue)
        second = await client.enqueue("a", queue=queue)
        assert await item_of(client, queue, first.id) is None
        assert await item_of(client, queue, second.id)


async def test_no_task_store(own_server: Any) -> None:
    async with ajc.connect(own_server.url) as client:
        with pytest.raises(ajc.NotFound, match="task store"):
            await client.enqueue("a")


async def test_an_id_that_is_taken(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", 1, queue=queue)
        with pytest.raises(ajc.AlreadyExists, match=task.id):
            await client.enqueue("a", 2, queue=queue, id=task.id)
        assert await client.load(task.id) == task
        await change(client, task.id, state="complete")
        with pytest.raises(ajc.AlreadyExists):
            await client.enqueue("a", 1, queue=queue, id=task.id)


async def test_an_enqueue_that_ended_halfway_is_completed_by_the_next(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = ajc.new_task("a", queue=queue)
        await save_task(client.connection, task, 0)
        with pytest.raises(ajc.AlreadyExists):
            await client.enqueue("a", queue=queue, id=task.id)
        assert await item_of(client, queue, task.id)
        # the same task, byte for byte, is the same enqueue
        other = ajc.new_task("a", queue=queue)
        await save_task(client.connection, other, 0)
        assert [found async for found in client.enqueue_many([other])] == [other]
        assert await item_of(client, queue, other.id)


async def test_somebody_else_s_id_is_left_alone(server: Any) -> None:
    async with queue_of(server) as (client, queue):
        task = ajc.new_task("other", queue=queue)
        await save_task(client.connection, task, 0)
        with pytest.raises(ajc.AlreadyExists):
            await client.enqueue("a", queue=queue, id=task.id)
        assert await item_of(client, queue, task.id) is None


async def test_an_id_that_was_removed_can_come_again(server: Any) -> None:
    """The server's memory of item ids (two minutes) must not swallow the second one."""
    async with queue_of(server) as (client, queue):
        task = await client.enqueue("a", queue=queue)
        await client.delete(task.id)
        assert await item_of(client, queue, task.id) is None
        again = await client.enqueue("a", queue=queue, id=task.id)
        assert again.id == task.id
        assert await item_of(client, queue, task.id)


@pytest.mark.parametrize("name", ["catchall", "", "a.b", "a b", "*", "x" * 129, "a\n"])
async def test_types_that_cannot_be_enqueued(server: Any, name: str) -> None:
    async with queue_of(server) as (client, queue):
        with pytest.raises(ajc.InvalidName):
            await client.enqueue(name, queue=queue)
        with pytest.raises(ajc.InvalidName):
            await client.enqueue("a", queue=queue, id=name if name != "catchall" else "")
        with pytest.raises(ajc.InvalidName):
            await client.enqueue("a", queue=name if name != "catchall" else "a:b")


@pytest.mark.parametrize(
    "wrong",
    [
        {"payload": {1, object}},
        {"payload": float("nan")},
        {"deadline": -1},
        {"deadline": "tomorrow"},
        {"deadline": datetime(2030, 1, 1)},  # noqa: DTZ001
        {"max_tries": -1},
        {"max_tries": 1.5},
        {"wait": -1},
        {"wait": "long"},
    ],
)
async def test_values_that_cannot_be_enqueued(server: Any, wrong: dict[str, Any]) -> None:
    async with queue_of(server) as (client, queue):
        with pytest.raises(ajc.InvalidValue):
            await client.enqueue("a", **{"queue": queue, **wrong})


@pytest.mark.parametrize(
    "state", ["active", "retry", "expired", "terminated", "complete", "queue_error", "unreachable", ""]
)
async def test_states_that_cannot_be_enqueued(server: Any, state: str) -> None:
    """Lifecycle `enqueue_refused_by_state`: nothing is published."""
    async with queue_of(server) as (client, queue):
        task = ajc.new_task("a", queue=queue).replace(state=state)
        with pytest.raises(ajc.InvalidValue, match="state"):
            _ = [found async for found in client.enqueue_many([task])]
        with pytest.raises(ajc.NotFound):
            await client.load(task.id)


async def test_a_task_with_dependencies_is_blocked(server: Any) -> None:
    """Work items `enqueue_blocked`: the item is that of any task."""
    async with queue_of(server) as (client, queue):
        task = ajc.new_task("a", queue=queue).replace(dependencies=("x",))
        stored = [found async for found in client.enqueue_many([task])]
        assert stored[0].state == "blocked"
        assert await item_of(client, queue, task.id)


async def test_sizes_are_checked_before_anything_is_sent(make_server: Any) -> None:
    server = make_server("max_payload: 4096")
    async with queue_of(server) as (client, queue):
        big = unique()
        with pytest.raises(ajc.TooLarge, match=r"task of .* bytes exceeds 4096"):
            await client.enqueue("a", "x" * 4000, queue=queue, id=big)
        with pytest.raises(ajc.NotFound):
            await client.load(big)
        assert await client.enqueue("a", "x", queue=queue)  # the connection still stands


async def test_an_answer_that_comes_late_is_no_second_task(own_server: Any) -> None:
    """The server stands still for longer than one answer is waited for; everything was done once."""
    async with queue_of(own_server) as (client, queue):
        task = ajc.new_task("a", queue=queue)
        own_server.signal(signal.SIGSTOP)
        running = asyncio.create_task(
            Enqueue(client.connection, prepare(client.connection, task, queue), timeout=40).run()
        )
        await asyncio.sleep(5.5)
        own_server.signal(signal.SIGCONT)
        assert await running == task
        assert (await client.load(task.id)) == task
        assert (await client.queue(queue)).messages == 1
        info = await client.connection.api("STREAM.INFO.CHORIA_AJ_TASKS")
        assert info["state"]["messages"] == 1


async def test_a_server_that_comes_back_gets_the_task_once(own_server: Any) -> None:
    async with queue_of(own_server) as (client, queue):
        own_server.stop()
        await until(lambda: not client.connection.connected)
        running = asyncio.create_task(client.enqueue("a", queue=queue))
        await asyncio.sleep(0.1)
        own_server.start()
        task = await running
        assert (await client.load(task.id)) == task
        assert (await client.queue(queue)).messages == 1


async def test_no_server_is_unavailable_after_the_time(own_server: Any) -> None:
    async with ajc.connect(own_server.url, timeout=0.5) as client:
        await client.ensure_queue(ajc.Queue("Q"))
        own_server.stop()
        await until(lambda: not client.connection.connected)
        with pytest.raises(ajc.Unavailable, match="may be stored: enqueue it again under the same id"):
            await client.enqueue("a", queue="Q", id="mine")


async def test_an_enqueuer_needs_few_rights(make_server: Any) -> None:
    """Publish on the store and the queue, and its own inbox: no right to read, and still exact answers."""
    server = make_server(
        """
        authorization { users: [
          { user: admin, password: a },
          { user: app, password: a, permissions: {
              publish: ["CHORIA_AJ.T.*", "CHORIA_AJ.Q.Q.*"], subscribe: ["_INBOX_app.>"] } } ] }
        """
    )
    async with ajc.connect(server.url.replace("//", "//admin:a@")) as admin:
        await admin.ensure_queue(ajc.Queue("Q", max_entries=1))
        options = ConnectOptions(servers=(server.url,), user="app", password="a", inbox_prefix="_INBOX_app")
        async with Client(await Connection.open(options)) as client:
            task = await client.enqueue("a", queue="Q")
            with pytest.raises(ajc.QueueFull):
                await client.enqueue("a", queue="Q")
        assert await admin.load(task.id) == task


async def test_a_lost_revision_of_a_refused_task_is_left_to_its_owner(server: Any) -> None:
    async with queue_of(server, max_entries=1) as (client, queue):
        await client.enqueue("a", queue=queue)
        task = ajc.new_task("a", queue=queue)
        careful = Enqueue(client.connection, prepare(client.connection, task, queue))
        await client.connection.stored(task_subject(task.id), task.encode())
        revision = (await record_of(client, task.id)).revision
        await change(client, task.id, state="terminated", last_err="cancelled: no")
        with pytest.raises(ajc.QueueFull):
            await careful.run_saved(revision)
        assert (await client.load(task.id)).state == "terminated"
