"""`doctor` finds what is wrong and says how to mend it; `bench` measures and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from command_line import CommandLine, told, until

from ajc.client import connect
from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, Message
from ajc.headers import encode_headers
from ajc.subjects import delay_fire_subject, delay_schedule_subject
from ajc_bridge.cli import examination
from ajc_bridge.jetstream.served_types import Overview


def findings(cli: CommandLine, code: int) -> dict[str, tuple[str, str, str]]:
    done = cli("doctor", "--json")
    assert done.code == code, done.err + done.out
    document = done.json
    assert document["ok"] is (code == 0)
    return {one["subject"]: (one["verdict"], one["text"], one["mend"]) for one in document["findings"]}


def test_an_empty_server_is_fine(own_server, tmp_path) -> None:
    cli = CommandLine(own_server.url, tmp_path)
    found = findings(cli, 0)
    assert found["server"][0] == "good"
    assert found["JetStream"][0] == "good"
    assert found["task store"] == ("note", "there is no stream CHORIA_AJ_TASKS yet", "`ajc-bridge run` makes it")
    assert found["queues"][0] == "note"
    shown = cli.ok("doctor").out
    assert "-> make one: ajc-bridge queue add NAME" in shown


def test_a_server_without_jetstream_is_named(tmp_path, make_server) -> None:
    server = make_server("accounts { A { users: [{user: a, password: b}] } }\nno_auth_user: a")
    found = findings(CommandLine(server.url, tmp_path), 1)
    assert found["JetStream"][0] == "wrong"
    assert "enable it" in found["JetStream"][2]


def test_rights_that_a_bridge_needs_are_tried_and_nothing_comes_of_it(tmp_path, make_server) -> None:
    server = make_server(
        """
        authorization { users: [
            {user: bridge, password: p}
            {user: poor, password: p, permissions: {publish: {deny: ["CHORIA_AJ.T.*", "ajc.exec.>"]}}}
        ] }
        """
    )
    bridge = CommandLine(server.url.replace("//", "//bridge:p@"), tmp_path)
    bridge.ok("queue", "add", "Q")
    assert findings(bridge, 0)["rights"] == ("good", "this user may do what a bridge does", "")
    assert bridge.ok("task", "ls", "--json").json == []
    assert bridge.ok("dlq", "ls", "--json").json == []
    poor = CommandLine(server.url.replace("//", "//poor:p@"), tmp_path)
    told = [
        (one["text"], one["mend"]) for one in poor.ok("doctor", "--json").json["findings"] if one["subject"] == "rights"
    ]
    assert ("this user may not save tasks", "a bridge needs the right to publish to CHORIA_AJ.T.*") in told
    assert len(told) == 2


async def test_queues_that_go_made_and_orphans_are_found(own_server, tmp_path) -> None:
    cli = CommandLine(own_server.url, tmp_path)
    cli.ok("queue", "add", "GOOD")
    async with connect(own_server.url) as client:
        api = client.connection.api
        await api(
            "STREAM.CREATE.CHORIA_AJ_Q_GO",
            {
                "name": "CHORIA_AJ_Q_GO",
                "subjects": ["CHORIA_AJ.Q.GO.>"],
                "retention": "workqueue",
                "max_msgs_per_subject": 1,
                "discard": "new",
                "storage": "file",
            },
        )
        await api(
            "STREAM.CREATE.CHORIA_AJ_Q_BARE",
            {"name": "CHORIA_AJ_Q_BARE", "subjects": ["CHORIA_AJ.Q.BARE.>"], "retention": "workqueue"},
        )
        config = {
            "durable_name": "WORKERS",
            "ack_policy": "explicit",
            "ack_wait": 200_000_000,
            "max_deliver": 1,
            "max_ack_pending": 10,
        }
        await api("CONSUMER.DURABLE.CREATE.CHORIA_AJ_Q_GO.WORKERS", {"stream_name": "CHORIA_AJ_Q_GO", "config": config})
        await client.connection.stored("CHORIA_AJ.Q.GO.x", b"{}")
        taken = asyncio.Event()
        await client.connection.subscribe("taken", lambda _: taken.set())
        client.connection.publish("$JS.API.CONSUMER.MSG.NEXT.CHORIA_AJ_Q_GO.WORKERS", b"1", reply="taken")
        await taken.wait()
        while (await client.queue("GO")).stranded == 0:
            await asyncio.sleep(0.05)
    done = await asyncio.to_thread(cli, "doctor", "--json")
    told = [(one["subject"], one["verdict"], one["text"]) for one in json.loads(done.out)["findings"]]
    assert done.code == 1
    assert ("queue GO", "wrong", "its retries do not come back") in told
    assert ("queue GO", "wrong", "1 items reached max deliver (1) and are never delivered again") in told
    assert any(subject == "queue BARE" and verdict == "wrong" for subject, verdict, _ in told)
    assert any(subject == "queue GOOD" and "nobody takes tasks" in text for subject, _, text in told)


def test_a_queue_that_the_bridge_does_not_name_and_a_short_lease_are_told(own_server, tmp_path) -> None:
    cli = CommandLine(own_server.url, tmp_path)
    cli.ok("queue", "add", "OTHER", "--lease", "1s")
    cli.ok("queue", "add", "HASTY", "--lease", "999ms")
    (tmp_path / "bridge.toml").write_text('[http]\nlisten = "off"\n[queues.HASTY]\n')
    try:
        told(cli.start("run", "--config", "bridge.toml"), "queue.bound")
        found = findings(cli, 0)
    finally:
        cli.end()
    assert found["queue OTHER"] == (
        "note",
        "nobody takes tasks from it; 0 wait",
        "is a bridge running? `ajc-bridge run`; or the bridge's configuration does not name this queue",
    )
    assert found["queue HASTY"] == (
        "note",
        "its lease is 999ms: a bridge that is held up so long has its tasks run twice",
        'give it more: lease = "30s" below [queues.HASTY] in the bridge\'s file',
    )


def about(document: Any, word: str) -> Any:
    """The finding that has this word, None when there is none."""
    return next((one for one in document["findings"] if word in one["text"]), None)


@pytest.mark.rule("EXEC-40")
def test_a_type_that_nobody_serves_is_told(own_server, tmp_path) -> None:
    cli = CommandLine(own_server.url, tmp_path)
    (tmp_path / "bridge.toml").write_text('[http]\nlisten = "off"\n[queues.Q]\n')
    try:
        told(cli.start("run", "--config", "bridge.toml"), "queue.bound")
        task_id = cli.ok("task", "add", "email:nwe", "--queue", "Q").out.strip()
        until(lambda: "no responder" in cli.ok("task", "view", task_id).out, "put back")
        # while the bridge is about to ask again the task is no waiting one
        told_of = until(lambda: about(cli.ok("doctor", "--json").json, "email:nwe"), "told")
    finally:
        cli.end()
    assert told_of["verdict"] == "note"
    assert told_of["text"] == "nobody served the type email:nwe when a bridge asked last, and tasks of it wait"
    assert "`ajc-bridge handlers ls`" in told_of["mend"]


def test_waiting_tasks_that_may_not_be_looked_at_are_told(tmp_path, make_server) -> None:
    limits = 'permissions { publish = ["$JS.API.INFO", "$JS.API.STREAM.INFO.>", "$SRV.>"], subscribe = ["_INBOX.>"] }'
    server = make_server(f"authorization {{ users: [{{ user: u, password: p, {limits} }}] }}")
    cli = CommandLine(server.url.replace("//", "//u:p@"), tmp_path)
    told_of = about(cli("doctor", "--json").json, "waiting tasks were not looked at")
    assert told_of["verdict"] == "note"
    assert "no permission to publish on $JS.API.STREAM.NAMES" in told_of["text"]


async def test_how_many_of_the_waiting_tasks_were_looked_at_is_told(server, monkeypatch) -> None:
    async def a_part(_connection: Connection) -> Overview:
        return Overview([], 4096, whole=False)

    monkeypatch.setattr(examination, "served_types", a_part)
    connection = await Connection.open(ConnectOptions(servers=(server.url,)))
    found = [one.text for one in await examination.examine(connection)]
    assert "of the waiting tasks 4096 were looked at for types that nobody serves" in found
    await connection.close()


async def test_due_items_that_find_no_room_are_told(own_server, tmp_path) -> None:
    cli = CommandLine(own_server.url, tmp_path)
    cli.ok("queue", "add", "FULL", "--max-entries", "1")
    async with connect(own_server.url) as client:
        await client.connection.stored("CHORIA_AJ.Q.FULL.x", b"{}")
        for task_id in ("y", "z"):
            target = delay_fire_subject("FULL", task_id)
            headers = {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": target}
            subject = delay_schedule_subject("FULL", task_id)
            await client.connection.stored(subject, b"{}", headers=encode_headers(headers))
        while (await client.connection.api("STREAM.INFO.CHORIA_AJ_DELAY", {"subjects_filter": "CHORIA_AJ.D.F.>"}))[
            "state"
        ].get("num_subjects") != 2:
            await asyncio.sleep(0.05)
    done = await asyncio.to_thread(cli, "doctor", "--json")
    (told,) = [one["text"] for one in json.loads(done.out)["findings"] if "entries" in one["text"]]
    assert told == "holds 1 of 1 entries; then reject; 2 retries or parked items that are due wait for room"


async def test_responders_that_say_what_they_serve_are_shown(cli: CommandLine, kind: str) -> None:
    connection = await Connection.open(ConnectOptions(servers=(cli.url,)))
    info = {"name": "x", "id": "1", "endpoints": [{"name": "e", "subject": "s", "metadata": {"ajc.type": kind}}]}

    def answer(message: Message) -> None:
        connection.publish(message.reply, json.dumps(info).encode())
        connection.publish(message.reply, b"no json")

    try:
        await connection.subscribe("$SRV.INFO", answer)
        await connection.flush()
        done = await asyncio.to_thread(cli, "doctor", "--json")
    finally:
        await connection.close()
    assert {"subject": "responders", "verdict": "good", "text": f"{kind}: 1", "mend": ""} in json.loads(done.out)[
        "findings"
    ]


def test_bench_measures_and_leaves_nothing(own_server, tmp_path) -> None:
    cli = CommandLine(own_server.url, tmp_path)
    figures = cli.ok("bench", "--tasks", 300, "--concurrency", 20, "--json").json
    assert figures["tasks"] == 300
    assert (
        min(figures["bridge_per_second"], figures["floor_per_second"], figures["enqueued_per_second"], figures["ratio"])
        > 0
    )
    assert cli.ok("queue", "ls", "--json").json == []
    assert cli.ok("task", "ls", "--json").json == []
