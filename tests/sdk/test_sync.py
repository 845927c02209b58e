"""The blocking client: the same verbs, from any thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sdk_world import unique

import ajc
from ajc.headers import encode_headers
from ajc.instant import Instant
from ajc.result import Result
from ajc.subjects import dlq_subject
from ajc.task_records import read_task, save_task


@pytest.fixture
def client(server: Any) -> Iterator[ajc.SyncClient]:
    with ajc.connect_sync(server.url) as client:
        yield client


@pytest.fixture
def queue(client: ajc.SyncClient) -> str:
    return client.ensure_queue(ajc.Queue(unique())).name


def finish(client: ajc.SyncClient, task_id: str) -> None:
    async def save() -> None:
        connection = client._client.connection
        record = await read_task(connection, task_id)
        done = record.task.replace(state="complete", result=Result.of_bytes(b"done", Instant.now()))
        await save_task(connection, done, record.revision)

    client._call(save())


def test_the_verbs(client: ajc.SyncClient, queue: str) -> None:
    task = client.enqueue("a", {"n": 1}, queue=queue, deadline=60)
    assert client.load(task.id) == task
    assert [found.id for found in client.tasks(queue=queue)] == [task.id]
    finish(client, task.id)
    done = client.result(task.id, timeout=10)
    assert done.result is not None
    assert done.result.data == b"done"
    assert client.retry(task.id).state == "retry"
    assert client.cancel(task.id, "mistake").last_err == "cancelled: mistake"
    assert client.delete(task.id).id == task.id
    with pytest.raises(ajc.NotFound):
        client.load(task.id)
    with pytest.raises(ajc.TaskTimeout):
        client.result(client.enqueue("a", queue=queue).id, timeout=0.1)
    assert client.queue(queue).messages == 1
    assert queue in client.queues()
    assert client.purge_queue(queue) == 1
    client.delete_queue(queue)
    with pytest.raises(ajc.NotFound):
        client.queue(queue)


def test_many(client: ajc.SyncClient, queue: str) -> None:
    here = threading.get_ident()
    asked: list[str] = []

    def source() -> Iterator[ajc.Task]:
        for _ in range(1500):
            assert threading.get_ident() == here
            task = ajc.new_task("a")
            asked.append(task.id)
            yield task

    assert [task.id for task in client.enqueue_many(source(), queue=queue)] == asked
    assert client.queue(queue).messages == 1500
    absent = ajc.new_task("a", queue=unique("ABSENT"))
    good = ajc.new_task("a")
    outcomes = list(client.enqueue_many([good, absent, ajc.new_task("a")], queue=queue, return_errors=True))
    assert [type(outcome) for outcome in outcomes] == [ajc.Task, ajc.NotFound, ajc.Task]
    with pytest.raises(ajc.NotFound):
        list(client.enqueue_many([absent.replace(id="other-" + unique())], queue=queue))


def test_watch(client: ajc.SyncClient, queue: str) -> None:
    events = client.watch()
    task = client.enqueue("a", queue=queue)
    found = next(event for event in events if isinstance(event, ajc.TaskStateChanged) and event.task_id == task.id)
    assert found.state == "new"
    events.close()  # type: ignore[attr-defined]  # a generator


def test_dead_letters(client: ajc.SyncClient, queue: str) -> None:
    async def put() -> None:
        headers = encode_headers({"AJ-Dlq-Reason": "tries"})
        await client._client.connection.stored(dlq_subject(queue, "x"), b"{}", headers=headers)

    client._call(put())
    assert [letter.reason for letter in client.dead_letters(queue)] == ["tries"]
    assert client.dead_letter("x", queue).reason == "tries"


def test_many_threads_share_it(client: ajc.SyncClient, queue: str) -> None:
    def work(number: int) -> str:
        task = client.enqueue("a", number, queue=queue)
        assert client.load(task.id).id == task.id
        return task.id

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(work, range(80)))
    assert len(set(ids)) == 80
    assert client.queue(queue).messages == 80


def test_closed(server: Any) -> None:
    client = ajc.connect_sync(server.url)
    waiting: list[BaseException] = []
    task_id = unique()

    def wait() -> None:
        try:
            client.ensure_queue(ajc.Queue(task_id))
            client.enqueue("a", queue=task_id, id=task_id)
            client.result(task_id)
        except BaseException as error:  # noqa: BLE001  (the thread hands it over)
            waiting.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            client.load(task_id)
            break
        except ajc.NotFound:
            time.sleep(0.01)
    client.close()
    client.close()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(waiting[0], ajc.AjcError)
    with pytest.raises(ajc.Closed):
        client.queues()
    with pytest.raises(ajc.Closed):
        list(client.tasks())
    assert not [alive for alive in threading.enumerate() if alive.name == "ajc-sync" and alive is client._thread]


def test_nobody_there() -> None:
    with pytest.raises(ajc.Unavailable):
        ajc.connect_sync("nats://127.0.0.1:1")
    with pytest.raises(ajc.InvalidValue):
        ajc.connect_sync("http://x")


async def test_beside_a_running_loop(server: Any) -> None:
    def use() -> str:
        with ajc.connect_sync(server.url) as client:
            return client.ensure_queue(ajc.Queue(unique())).name

    assert await asyncio.to_thread(use)
    assert use()
