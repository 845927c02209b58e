"""`handlers ls` and `handlers ping`: who serves what, who is missed, and nothing is run to find out."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from command_line import CommandLine, told, until

SERVICES = """
import asyncio, json, sys
from ajc.connect_options import ConnectOptions
from ajc.connection import Connection

async def main(url, count, concurrency):
    connection = await Connection.open(ConnectOptions(servers=(url,)), name="services")
    run = []

    def answer(of):
        def asked(message):
            for number in range(count):
                one = {"name": "ls:first", "subject": "ajc.exec.ls:first", "queue_group": "ajc"}
                service = {"name": "mailer", "id": f"I{number}", "version": f"1.{number % 2}.0"}
                connection.publish(message.reply, json.dumps(service | {"endpoints": [one | of]}).encode())
        return asked

    metadata = {"ajc.type": "ls:first", "ajc.concurrency": str(concurrency), "ajc.protocol": "1"}
    numbers = {"num_requests": 4, "num_errors": 1, "processing_time": 8_000_000}
    await connection.subscribe("$SRV.INFO", answer({"metadata": metadata}))
    await connection.subscribe("$SRV.STATS", answer(numbers))
    await connection.subscribe("ajc.exec.>", run.append)
    await connection.flush()
    print("there", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await connection.flush()
    print(len(run), flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


@contextlib.contextmanager
def services(url: str, count: int, concurrency: int = 10) -> Iterator[list[int]]:
    """So many instances that serve `ls:first`, in one process; afterwards how many requests for work it had."""
    command = [sys.executable, "-c", SERVICES, url, str(count), str(concurrency)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    run: list[int] = []
    try:
        assert process.stdout.readline() == "there\n"
        yield run
        run.append(int(process.communicate("", timeout=20)[0]))
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def empty(own_server, tmp_path) -> Iterator[CommandLine]:
    made = CommandLine(own_server.url, tmp_path)
    yield made
    made.end()


def test_types_that_wait_for_somebody_stand_first(empty: CommandLine) -> None:
    empty.ok("queue", "add", "Q")
    for type_ in ("ls:first", "ls:queued", "ls:queued"):
        empty.ok("task", "add", type_, "--queue", "Q")
    with services(empty.url, 2) as run:
        document = empty.ok("handlers", "ls", "--json").json
        assert [one["type"] for one in document["types"]] == ["ls:queued", "ls:first"]
        queued, first = document["types"]
        assert (queued["served"], queued["waiting"], queued["instances"]) == ("unknown", 2, 0)
        assert (first["served"], first["waiting"], first["instances"], first["capacity"]) == ("yes", 1, 2, 20)
        assert (first["requests"], first["errors"], first["average_ms"]) == (8, 2, 2.0)
        assert first["versions"] == ["1.0.0", "1.1.0"]
        assert (document["looked_at"], document["whole"], document["unseen"]) == (3, True, "")
        shown = empty.ok("handlers", "ls")
        assert "plain subscribers cannot be discovered" in shown.err
        assert shown.out.index("ls:queued") < shown.out.index("ls:first")
    assert run == [0]


def test_a_type_that_a_bridge_asked_for_in_vain_is_served_by_nobody(empty: CommandLine) -> None:
    """EXEC-40: the bridge put it back with its reason."""
    file = empty.folder / "bridge.toml"
    file.write_text('[http]\nlisten = "off"\n[queues.Q]\n')
    told(empty.start("run", "--config", file), "queue.bound")
    task_id = empty.ok("task", "add", "ls:nobody", "--queue", "Q").out.strip()
    until(lambda: "no responder" in empty.ok("task", "view", task_id, "--json").json.get("last_err", ""), "put back")
    (found,) = until(
        lambda: [one for one in empty.ok("handlers", "ls", "--json").json["types"] if one["served"] == "no"],
        "told that nobody serves it",
    )
    assert (found["type"], found["waiting"], found["instances"]) == ("ls:nobody", 1, 0)


def test_a_look_at_many_tasks_is_a_sample_and_says_so(empty: CommandLine) -> None:
    empty.ok("queue", "add", "Q")
    code = (
        "import asyncio, ajc, sys\n"
        "async def main():\n"
        "    async with ajc.connect(sys.argv[1]) as client:\n"
        "        tasks = [ajc.new_task('ls:many', queue='Q') for _ in range(3_000)]\n"
        "        async for _ in client.enqueue_many(tasks): pass\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code, empty.url], check=True, timeout=60)
    done = empty.ok("handlers", "ls", "--json").json
    assert not done["whole"]
    assert done["types"][0]["type"] == "ls:many"
    assert 256 <= done["types"][0]["waiting"] == done["looked_at"] <= 600


def test_without_jetstream_the_services_are_shown_all_the_same(tmp_path, make_server) -> None:
    server = make_server("accounts { A { users: [{user: a, password: b}] } }\nno_auth_user: a")
    cli = CommandLine(server.url, tmp_path)
    with services(server.url, 1):
        document = cli.ok("handlers", "ls", "--json").json
        assert [one["type"] for one in document["types"]] == ["ls:first"]
        assert document["unseen"]
        assert "not looked at" in cli.ok("handlers", "ls").err


def test_ping_asks_services_only(cli: CommandLine) -> None:
    nobody = cli("handlers", "ping", "ls:nobody")
    assert nobody.code == 3
    assert "cannot be discovered" in nobody.err
    assert json.loads(cli("handlers", "ping", "ls:nobody", "--json").out)["error"]
    assert cli("handlers", "ping", "a.b").code == 2
    with services(cli.url, 3) as run:
        document = cli.ok("handlers", "ping", "ls:first", "--json").json
        assert sorted(one["id"] for one in document) == ["I0", "I1", "I2"]
        assert all(0 < one["answered_ms"] < 2_000 and one["capacity"] == 10 for one in document)
        assert "I1" in cli.ok("handlers", "ping", "ls:first").out
        assert cli("handlers", "ping", "ls:nobody").code == 3
    assert run == [0]


@pytest.mark.parametrize("command", [["ls"], ["ping", "ls:first"]])
def test_within_two_seconds_with_a_thousand_instances(empty: CommandLine, command: list[str]) -> None:
    with services(empty.url, 1_000, 1):
        took, others = [], []
        for _ in range(3):
            began = time.monotonic()
            document = empty.ok("handlers", *command, "--json").json
            took.append(time.monotonic() - began)
            began = time.monotonic()
            empty.ok("queue", "ls", "--json")
            others.append(time.monotonic() - began)
        instances = len(document) if command[0] == "ping" else document["types"][0]["instances"]
        assert instances == 1_000
        # where a command that asks little takes long, the machine is busy with something else
        assert min(took) < max(2, 4 * min(others)), (took, others)
