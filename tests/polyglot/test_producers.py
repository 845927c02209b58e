"""The producers in other languages: what they store is what Go stores, whatever they meet, and a bridge runs it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import ajc
from ajc.instant import Instant
from ajc.stored_message import StoredMessage, last_message
from ajc.subjects import item_subject, queue_stream, task_subject
from daemon.bridge_process import BridgeProcess
from polyglot.examples import ROOT, Example
from polyglot.programs import built, run, serving

pytestmark = [pytest.mark.polyglot, pytest.mark.slow]
COMMANDS = {"go": ["./bin/producer"], "typescript": ["node", "dist/producer.js"]}
TASKS, ITEMS = (
    {case["name"]: case for case in json.loads((ROOT / "tests" / "vectors" / name).read_text())["cases"]}
    for name in ("tasks.json", "work_items.json")
)


class Producer:
    """A producer, for a server."""

    def __init__(self, example: Example, server: Any) -> None:
        self.example = example
        self._server = server

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run it: exit code, the id that it printed, errors."""
        command = [*COMMANDS[self.example.name], *arguments]
        code, output, errors = await asyncio.to_thread(run, self.example, command, self._server)
        return code, output.strip(), errors


@pytest.fixture(params=sorted(COMMANDS))
def producer(request: pytest.FixtureRequest, server: Any) -> Producer:
    return Producer(built(request.param), server)


def unique(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(6)}"


@asynccontextmanager
async def queue_of(server: Any, **settings: Any) -> AsyncIterator[tuple[ajc.Client, str]]:
    name = unique("Q")
    async with ajc.connect(server.url) as client:
        await client.ensure_queue(ajc.Queue(name, **settings))
        yield client, name


async def record_of(client: ajc.Client, task_id: str) -> StoredMessage:
    return await last_message(client.connection, "CHORIA_AJ_TASKS", task_subject(task_id))


async def item_of(client: ajc.Client, queue: str, task_id: str) -> StoredMessage:
    return await last_message(client.connection, queue_stream(queue), item_subject(queue, task_id))


@pytest.mark.parametrize("name", ["new_minimal_enqueued", "payload_string"])
async def test_the_record_is_stored_as_go_stores_it(producer: Producer, server: Any, name: str) -> None:
    case = TASKS[name]
    golden = json.loads(case["json"])
    payload = ajc.Task.decode(case["json"].encode()).payload
    async with queue_of(server) as (client, queue):
        code, task_id, errors = await producer(golden["type"], (payload or b"").decode(), queue)
        assert code == 0, errors
        record = await record_of(client, task_id)
        assert record.headers == case["headers_raw"].encode()
        stored = json.loads(record.data)
        assert list(stored) == list(golden)
        of_this_task = {"id": task_id, "queue": queue, "created": stored["created"]}
        assert stored == golden | of_this_task
        assert abs(Instant.now() - ajc.Task.decode(record.data).created) < 60 * 10**9


@pytest.mark.parametrize("name", ["enqueue_new", "enqueue_custom_id"])
async def test_the_item_is_stored_as_go_stores_it(producer: Producer, server: Any, name: str) -> None:
    case = ITEMS[name]
    go_id = case["headers"]["Nats-Msg-Id"]
    task_id = go_id + unique("")
    async with queue_of(server) as (client, queue):
        assert (await producer("email:new", "{}", queue, task_id))[:2] == (0, task_id)
        item = await item_of(client, queue, task_id)
        assert item.headers == case["stored_headers_raw"].replace(go_id, task_id).encode()
        assert item.data == case["stored_body"].replace(go_id, task_id).encode()


async def test_once_more_with_the_same_id_doubles_nothing(producer: Producer, server: Any) -> None:
    task_id = unique("twice")
    async with queue_of(server) as (client, queue):
        assert (await producer("email:new", "1", queue, task_id))[0] == 0
        first, item = await record_of(client, task_id), await item_of(client, queue, task_id)
        assert (await producer("email:new", "1", queue, task_id))[0] == 0
        assert await record_of(client, task_id) == first
        assert await item_of(client, queue, task_id) == item


async def test_one_that_ended_between_the_two_messages_is_finished(producer: Producer, server: Any) -> None:
    task_id = unique("half")
    async with queue_of(server) as (client, queue):
        task = ajc.Task.create("email:new", b"1", id=task_id, queue=queue)
        subject = task_subject(task_id)
        headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
        await client.connection.stored(subject, task.encode(), headers=headers)
        first = await record_of(client, task_id)
        assert (await producer("email:new", "1", queue, task_id))[0] == 0
        assert await record_of(client, task_id) == first
        assert json.loads((await item_of(client, queue, task_id)).data)["job"] == task_id


async def test_another_task_of_this_id_is_left_alone(producer: Producer, server: Any) -> None:
    task_id = unique("taken")
    async with queue_of(server) as (client, queue):
        await client.enqueue("other:type", {}, queue=queue, id=task_id)
        first, item = await record_of(client, task_id), await item_of(client, queue, task_id)
        code, _, errors = await producer("email:new", "1", queue, task_id)
        assert code != 0
        assert "exists already" in errors
        assert await record_of(client, task_id) == first
        assert await item_of(client, queue, task_id) == item


async def test_a_full_queue_makes_it_a_queue_error(producer: Producer, server: Any) -> None:
    task_id = unique("refused")
    async with queue_of(server, max_entries=1) as (client, queue):
        await client.enqueue("email:new", {}, queue=queue)
        code, _, errors = await producer("email:new", "1", queue, task_id)
        assert code != 0
        assert f"queue {queue} refused it" in errors
        task = await client.load(task_id)
        assert task.state == ajc.TaskState.QUEUE_ERROR
        assert task.last_err.startswith(f"queue {queue} refused it")
        with pytest.raises(ajc.NotFound):
            await item_of(client, queue, task_id)


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_what_is_not_answered_is_sent_again(name: str, own_server: Any) -> None:
    """No store yet, but a listener, so that the server does not say that nobody takes it: no answer at all."""
    producer = Producer(built(name), own_server)
    async with ajc.connect(own_server.url) as client:
        heard: list[bytes] = []
        first = asyncio.Event()

        def hear(_subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
            heard.append(body)
            first.set()

        await client.connection.subscribe_raw("CHORIA_AJ.T.late", hear)
        await client.connection.flush()
        running = asyncio.ensure_future(producer("email:new", "1", "LATE", "late"))
        waiting = asyncio.ensure_future(first.wait())
        await asyncio.wait((waiting, running), return_when=asyncio.FIRST_COMPLETED)
        assert not running.done()
        await client.ensure_queue(ajc.Queue("LATE"))
        assert (await running)[:2] == (0, "late")
        assert len(heard) > 1
        assert set(heard) == {(await record_of(client, "late")).data}
        await item_of(client, "LATE", "late")


LETTER = '{"template": "<p>{{ name }}</p>", "values": {"name": "A & B"}}'
SUM = {"sha256": hashlib.sha256(b"some text").hexdigest(), "bytes": 9}
RUNS = [("go", "sha256", "some text", SUM), ("typescript", "letter", LETTER, b"<p>A &#38; B</p>")]


@pytest.mark.parametrize("example", RUNS, ids=[example[0] for example in RUNS])
@pytest.mark.parametrize("prefix", ["ajc.exec", "CHORIA_AJ.H.T"])
async def test_a_bridge_runs_what_was_produced(
    own_server: Any, tmp_path: Path, example: tuple[str, str, str, Any], prefix: str
) -> None:
    name, kind, payload, result = example
    producer = Producer(built(name), own_server)
    config = f'[exec]\nprefix = "{prefix}"\n[queues.MAIN]\n'
    bridge = BridgeProcess(tmp_path / "bridge", own_server.url, config).start()
    try:
        await bridge.ready()
        with serving(producer.example, own_server, tmp_path / "responder.log", AJC_FAMILY=name, EXEC_PREFIX=prefix):
            code, task_id, errors = await producer(f"{name}:{kind}", payload, "MAIN")
            assert code == 0, errors
            async with ajc.connect(own_server.url) as client:
                done = await client.result(task_id, timeout=30)
                assert done.result is not None
                assert done.result.value == result
    finally:
        bridge.stop()
