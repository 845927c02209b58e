"""The permissions of docs/operations.md: each role can do its work, and nothing of what it must not do."""

from __future__ import annotations

import asyncio
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

RESPONDER = """
import ajc
app = ajc.Responder()
@app.handler("email:new")
def send(attempt):
    if attempt.payload == "stop":
        raise ajc.Terminate("no")
    if attempt.payload == "again" and attempt.try_number == 1:
        raise ajc.Retry("not yet", after=0.3)
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
        await client.ensure_queue(ajc.Queue("EMAIL", max_tries=3))


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
        async with ajc.connect(context="admin") as client:
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


async def enqueue(client: ajc.Client, payload: str) -> ajc.Task:
    return await client.enqueue("email:new", payload, queue="EMAIL", deadline=60)


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
