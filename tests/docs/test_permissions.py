"""The permissions of docs/operations.md: each role can do its work, and nothing of what it must not do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ajc
from ajc import subjects
from ajc.connection import Connection
from ajc.context import resolve
from ajc.errors import AjcError, Unavailable
from ajc.instant import SECOND, Instant
from ajc.task_records import read_task, save_task
from ajc.work_item import WorkItem
from ajc_bridge.jetstream.delay import JetStreamDelayQueue
from ajc_bridge.jetstream.remains import Remains

RESPONDER = """
import time
from pathlib import Path
import ajc
app = ajc.Responder()
@app.handler("email:new")
def send(attempt):
    if attempt.payload == "stop":
        raise ajc.Terminate("no")
    if attempt.payload == "again" and attempt.try_number == 1:
        raise ajc.Retry("not yet", after=0.3)
    if attempt.payload == "long":
        attempt.progress(50, "half way")
        time.sleep(4.5)  # beyond its run time: it beats
    while attempt.payload == "for ever":
        Path("begun").touch()
        if attempt.cancelled:
            Path("cancelled").touch()
            break
        time.sleep(0.02)
    return attempt.payload
"""
BRIDGE = """
[nats]
context = "bridge"
[bridge]
create = false
[queues.EMAIL]
max_tries = 3
[retention]
discard = ["expired"]
[http]
listen = "off"
"""


async def make_queue() -> None:
    async with ajc.connect(context="admin") as client:
        await client.ensure_queue(ajc.Queue("EMAIL", max_tries=3, max_run_time=3))


@pytest.mark.parametrize(
    "feature_flags", ["", "feature_flags { js_ack_fc_v2: true }"], ids=["plain", "acks by account"]
)
async def test_each_role_can_do_its_work(roles: str, tmp_path: Path, feature_flags: str) -> None:
    await make_queue()
    (tmp_path / "tasks.py").write_text(RESPONDER)
    (tmp_path / "bridge.toml").write_text(BRIDGE)
    environment = {**os.environ, "NATS_CONTEXT": "responder"}
    commands = (
        [sys.executable, "-m", "ajc", "tasks:app"],
        [sys.executable, "-m", "ajc_bridge", "run", "--config", "bridge.toml"],
    )
    output = tmp_path / "output"
    with output.open("wb") as file:
        running = [
            subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=file, stderr=file) for command in commands
        ]
    try:
        async with ajc.connect(context="enqueuer") as client:
            done = await enqueue(client, "fine")
            assert (await client.result(done.id, timeout=30)).result is not None
            again = await client.result((await enqueue(client, "again")).id, timeout=30)
            assert again.tries == 2
            with pytest.raises(ajc.TaskFailed):
                await client.result((await enqueue(client, "stop")).id, timeout=30)
            late = await client.enqueue("nobody:there", queue="EMAIL", deadline=1.5)
            until = time.monotonic() + 30
            while time.monotonic() < until:  # discarded when it expires
                try:
                    await client.load(late.id)
                except ajc.NotFound:
                    break
                await asyncio.sleep(0.1)
            else:
                pytest.fail("the expired task was not discarded")
            await beats_and_tells_progress(client)
        async with ajc.connect(context="canceller") as client:
            await is_cancelled(client, tmp_path / "cancelled")
        async with ajc.connect(context="admin") as client:
            await is_discovered(client)
            assert sorted([letter.reason async for letter in client.dead_letters()]) == ["deadline", "terminated"]
            # nothing is left to be delivered again: every acknowledgement was taken
            assert (await client.queue("EMAIL")).messages == 0
        log = Path(roles).read_text()
        assert ("js_ack_fc_v2" in log) == bool(feature_flags)
        assert "Violation" not in log, [line for line in log.splitlines() if "Violation" in line]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)


async def test_the_bridge_may_tidy_up_and_let_schedules_go(roles: str) -> None:
    """What it does a while after its start, and when it rescues a task: beyond the end of most tests."""
    await make_queue()
    connection = await Connection.open(resolve(context="bridge"))
    try:
        delay = JetStreamDelayQueue(connection)
        for name in ("past", "later"):
            await delay.schedule("EMAIL", name, Instant.now().plus(3600 * SECOND), WorkItem(task_id=name))
        await delay.forget("EMAIL", "later")
        # as seen two hours from now
        assert await Remains(connection, "EMAIL", overdue_ns=-7200 * SECOND).clear() == 1
        assert "Violation" not in Path(roles).read_text()
    finally:
        await connection.close()


async def beats_and_tells_progress(client: ajc.Client) -> None:
    heard: list[bytes] = []
    await client.connection.subscribe("CHORIA_AJ.E.task_progress.*", lambda message: heard.append(message.body))
    await client.connection.flush()
    done = await client.result((await enqueue(client, "long")).id, timeout=30)
    assert (done.state, done.tries) == ("complete", 1)
    assert [json.loads(body)["message"] for body in heard] == ["half way"]


async def is_cancelled(client: ajc.Client, witness: Path) -> None:
    async with ajc.connect(context="enqueuer") as enqueuer:
        task = await enqueue(enqueuer, "for ever")
    until = time.monotonic() + 20
    while not witness.with_name("begun").exists():  # who is told before the request comes does not know of it
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    assert (await client.cancel(task.id, "a test")).state == "terminated"
    while not witness.exists():
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


async def is_discovered(client: ajc.Client) -> None:
    message = await client.connection.request("$SRV.INFO", b"", timeout=10)
    [endpoint] = json.loads(message.body)["endpoints"]
    assert (endpoint["subject"], endpoint["queue_group"]) == ("ajc.exec.email:new", "ajc")
    assert endpoint["metadata"]["ajc.type"] == "email:new"


async def enqueue(client: ajc.Client, payload: str) -> ajc.Task:
    return await client.enqueue("email:new", payload, queue="EMAIL", deadline=60)


@pytest.mark.slow
async def test_a_canceller_cancels_what_waits_and_what_runs(roles: str, tmp_path: Path) -> None:
    await make_queue()
    config = tmp_path / "bridge.toml"
    config.write_text(BRIDGE)
    bridge = subprocess.Popen([sys.executable, "-m", "ajc_bridge", "run", "--config", str(config)])
    try:
        async with (
            ajc.connect(context="enqueuer") as producer,
            ajc.connect(context="canceller") as client,
            ajc.connect(context="admin") as admin,
        ):
            asked = asyncio.Event()
            await admin.connection.subscribe("ajc.exec.email:new", lambda _: asked.set(), queue="ajc")
            running = await enqueue(producer, "never answered")
            await asyncio.wait_for(asked.wait(), 30)
            waiting = await producer.enqueue("nobody:there", queue="EMAIL")
            while (await producer.load(waiting.id)).next_try_at is None:
                await asyncio.sleep(0.05)
            for task in (running, waiting):
                assert (await client.cancel(task.id, "no")).last_err == "cancelled: no"
            assert (await admin.queue("EMAIL")).messages == 0
            with pytest.raises(ajc.Conflict, match="is complete already"):
                await client.cancel((await complete(producer, admin)).id)
            started = time.monotonic()
            bridge.terminate()
            assert bridge.wait(20) == 0
            assert time.monotonic() - started < 10  # it was told: nothing runs that it would wait for
        assert "Violation" not in Path(roles).read_text()
    finally:
        bridge.kill()
        bridge.wait(20)


async def complete(producer: ajc.Client, admin: ajc.Client) -> ajc.Task:
    """A task that has ended, and whose item is still there."""
    task = await producer.enqueue("nobody:there", queue="EMAIL")
    while True:
        record = await read_task(admin.connection, task.id)
        try:
            await save_task(admin.connection, record.task.replace(state="complete"), record.revision)
        except ajc.Conflict:
            continue
        return task


FORBIDDEN = {
    "enqueuer": (
        "ajc.exec.email:new",
        "CHORIA_AJ.Q.OTHER.x",
        "CHORIA_AJ.DLQ.EMAIL.x",
        "CHORIA_AJ.D.S.EMAIL.x",
        "$JS.API.STREAM.DELETE.CHORIA_AJ_TASKS",
        "$JS.API.STREAM.PURGE.CHORIA_AJ_TASKS",
        "$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_EMAIL.WORKERS",
    ),
    "canceller": (
        "ajc.exec.email:new",
        "CHORIA_AJ.Q.OTHER.x",
        "CHORIA_AJ.D.S.EMAIL.x",
        "$JS.API.STREAM.PURGE.CHORIA_AJ_Q_EMAIL",
        "$JS.API.STREAM.MSG.DELETE.CHORIA_AJ_TASKS",
        "$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_EMAIL.WORKERS",
        "_INBOX_bridge.x",
    ),
    "bridge": (
        "CHORIA_AJ.Q.EMAIL.x",
        "CHORIA_AJ.DLQ.OTHER.x",
        "$JS.API.STREAM.UPDATE.CHORIA_AJ_Q_EMAIL",
        "$JS.API.STREAM.DELETE.CHORIA_AJ_TASKS",
        "$JS.API.STREAM.PURGE.CHORIA_AJ_DLQ",
        "_INBOX_enqueuer.x",
        "ajc.cancel.x",
        "$SRV.PING",
    ),
    "responder": (
        "CHORIA_AJ.T.x",
        "CHORIA_AJ.Q.EMAIL.x",
        "ajc.exec.email:new",
        "_INBOX_bridge.x",
        "_INBOX_bridge.exec.0.0",
        "ajc.cancel.x",
        "ajc.beat.x",
        "CHORIA_AJ.E.task_progress.x",
        "$SRV.PING",
        "$JS.API.INFO",
    ),
}
DEAF = {
    "enqueuer": ("ajc.exec.email:new", "_INBOX_bridge.>", "_INBOX.>", "CHORIA_AJ.T.*"),
    "canceller": ("ajc.exec.email:new", "ajc.cancel.*", "_INBOX_bridge.>", "CHORIA_AJ.T.*"),
    "bridge": ("_INBOX_enqueuer.>", "CHORIA_AJ.E.>", ">"),
    "responder": (
        "ajc.exec.email:new",
        "ajc.exec.other",
        "ajc.exec.>",
        "ajc.beat.>",
        "_INBOX_bridge.>",
        "CHORIA_AJ.T.*",
    ),
}


@pytest.mark.parametrize("role", FORBIDDEN)
async def test_no_role_can_do_more(role: str, roles: str) -> None:
    await make_queue()
    said: list[str] = []
    connection = await Connection.open(
        resolve(context=role), on_state=lambda state, error: said.append(f"{state}: {error}")
    )
    admin = await Connection.open(resolve(context="admin"))
    heard: list[str] = []
    try:
        await admin.subscribe(">", lambda message: heard.append(message.subject))
        await admin.flush()
        for subject in FORBIDDEN[role]:
            connection.publish(subject, b"{}")
        for subject in DEAF[role]:
            await connection.subscribe(subject, lambda _: None)  # without the group, where there is one
        await connection.flush()
        log = Path(roles).read_text()
        for subject in FORBIDDEN[role]:
            assert f'Publish Violation - Subject "{subject}"' in log
            assert subject not in heard
        for subject in DEAF[role]:
            assert f'Subscription Violation - Subject "{subject}"' in log
        with pytest.raises(Unavailable if role == "responder" else AjcError):
            await connection.api(f"STREAM.DELETE.{subjects.TASKS_STREAM}", timeout=0.3)
        assert (await admin.api(f"STREAM.INFO.{subjects.TASKS_STREAM}"))["config"]["name"] == subjects.TASKS_STREAM
    finally:
        await connection.close()
        await admin.close()
