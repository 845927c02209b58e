"""`exec`: commands answer tasks, each exit code as promised."""

from __future__ import annotations

import asyncio
import re
import signal

import psutil
import pytest
from command_line import CommandLine, told

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, Message
from ajc.exchange import ExecReply, ExecRequest, read_reply
from ajc.instant import Instant
from ajc.task import Task

SCRIPT = 'read code; echo "$AJ_TASK_ID $AJ_TASK_TYPE $AJ_QUEUE $AJ_TRY $AJ_MAX_TRIES"; echo oops >&2; exit $code'


async def ask(url: str, kind: str, payload: bytes, seconds: float = 10.0) -> tuple[Task, ExecReply]:
    """Send a request as a bridge does, and return its reply."""
    task = Task.create(kind, payload, queue="Q").replace(state="active", tries=2)
    request = ExecRequest(
        task_id=task.id,
        type=kind,
        queue="Q",
        try_number=2,
        max_tries=5,
        deadline=Instant.now().plus(int(seconds * 1e9)),
        timeout_ms=int(seconds * 1000),
        body=task.encode(),
    )
    connection = await Connection.open(ConnectOptions(servers=(url,)))
    try:
        reply: Message = await connection.request(
            f"ajc.exec.{kind}", request.body, headers=request.headers(), timeout=20
        )
        return task, read_reply(reply.headers, reply.body)
    finally:
        await connection.close()


async def test_exit_codes_become_replies(cli: CommandLine, kind: str) -> None:
    told(cli.start("exec", kind, "--", "sh", "-c", SCRIPT), f"serving {kind}")
    task, reply = await ask(cli.url, kind, b"0\n")
    assert (reply.kind, reply.body) == ("success", f"{task.id} {kind} Q 2 5\n".encode())
    for code, word in ((75, "error"), (69, "busy"), (65, "terminate"), (3, "error")):
        _, reply = await ask(cli.url, kind, b"%d\n" % code)
        assert (reply.kind, reply.text) == (word, "oops")


async def test_beyond_its_concurrency_it_is_busy(cli: CommandLine, kind: str) -> None:
    told(cli.start("exec", kind, "--concurrency", 1, "--", "sleep", "2"), "serving")
    replies = await asyncio.gather(*(ask(cli.url, kind, b"") for _ in range(3)))
    assert sorted(reply.kind for _, reply in replies) == ["busy", "busy", "success"]


async def test_a_command_that_outlives_its_deadline_is_ended(cli: CommandLine, kind: str) -> None:
    script = f"trap 'echo ended > {cli.folder}/trace; exit 1' TERM; sleep 100 & wait"
    responder = cli.start("exec", kind, "--concurrency", 1, "--kill-after", "5s", "--", "sh", "-c", script)
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b"", seconds=0.5))
    while not (cli.folder / "trace").exists():
        await asyncio.sleep(0.02)
    asking.cancel()
    responder.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(responder.wait, 20) == 0


@pytest.mark.parametrize(("trap", "signals"), [("true", "TERM"), ("trap '' TERM", "TERM and KILL")])
async def test_what_outlives_its_deadline_is_told(cli: CommandLine, kind: str, trap: str, signals: str) -> None:
    responder = cli.start("exec", kind, "--kill-after", "300ms", "--", "sh", "-c", f"{trap}; sleep 100 & wait; wait")
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b"", seconds=0.5))
    said = await asyncio.to_thread(told, responder, f"got {signals}\n")
    assert re.search(rf"task \w+ \({kind}\), try 2: not done within its 0.5 s; its process group got {signals}\n", said)
    said = await asyncio.to_thread(told, responder, "no reply is sent")
    assert re.search(rf"task \w+ \({kind}\), try 2: the deadline passed after 0.5 s; no reply is sent", said)
    asking.cancel()


async def test_term_lets_commands_finish(cli: CommandLine, kind: str) -> None:
    script = f"touch {cli.folder}/began; sleep 1; echo done"
    responder = cli.start("exec", kind, "--", "sh", "-c", script)
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b""))
    while not (cli.folder / "began").exists():
        await asyncio.sleep(0.02)
    responder.send_signal(signal.SIGTERM)
    _, reply = await asking
    assert (reply.kind, reply.body) == ("success", b"done\n")
    assert await asyncio.to_thread(responder.wait, 20) == 0


async def test_a_second_signal_ends_at_once_with_its_commands(cli: CommandLine, kind: str) -> None:
    script = f"trap 'echo ended > {cli.folder}/trace; exit 1' TERM; echo $$ > {cli.folder}/pid; sleep 100 & wait"
    responder = cli.start("exec", kind, "--", "sh", "-c", script)
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b""))
    while not (cli.folder / "pid").exists():
        await asyncio.sleep(0.02)
    responder.send_signal(signal.SIGTERM)
    told(responder, "ending")
    responder.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(responder.wait, 20) == 1
    assert (cli.folder / "trace").exists()
    asking.cancel()


def test_a_prefix_serves_bridges_that_use_it(cli: CommandLine, kind: str) -> None:
    told(cli.start("exec", kind, "--prefix", "my.prefix", "--", "cat"), f"serving {kind}")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("t", "--", "/no/such/command"), 2, "there is no command /no/such/command"),
        (("a.b", "--", "cat"), 2, "'a.b' is not a legal name"),
        (("t",), 2, "CMD"),
        (("t", "--kill-after", "soon", "--", "cat"), 2, "duration 'soon'"),
    ],
)
def test_what_cannot_be_served_ends_with_2(cli: CommandLine, arguments, code, text) -> None:
    done = cli("exec", *arguments)
    assert done.code == code
    assert text in done.err


async def test_thousands_of_commands_leak_nothing(cli: CommandLine, kind: str) -> None:
    """A thousand here, to keep the suite short; none of its processes or descriptors is left."""
    responder = cli.start("exec", kind, "--concurrency", "8", "--", "true")
    told(responder, "serving")
    process = psutil.Process(responder.pid)
    connection = await Connection.open(ConnectOptions(servers=(cli.url,)))
    try:
        await ask(cli.url, kind, b"")
        before = process.num_fds()
        task = Task.create(kind, b"", queue="Q")
        headers = ExecRequest(
            task_id=task.id,
            type=kind,
            queue="Q",
            try_number=1,
            max_tries=1,
            deadline=Instant.now().plus(60_000_000_000),
            timeout_ms=60_000,
            body=b"",
        ).headers()

        async def worker(count: int) -> None:
            for _ in range(count):
                reply = await connection.request(f"ajc.exec.{kind}", task.encode(), headers=headers, timeout=20)
                assert read_reply(reply.headers, reply.body).kind == "success"

        await asyncio.gather(*(worker(125) for _ in range(8)))
        end = asyncio.get_running_loop().time() + 10
        while process.num_fds() > before or process.children():
            assert asyncio.get_running_loop().time() < end, (process.num_fds(), before, process.children())
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
