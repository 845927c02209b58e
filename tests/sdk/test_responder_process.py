"""A responder's process: started both ways, ended by signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sdk_world import ask, connected, unique

import ajc
from ajc.connection import Connection

HERE = Path(__file__).parent
MODULE = [sys.executable, "-m", "ajc", "responder_program:app"]
PROGRAM = [sys.executable, str(HERE / "responder_program.py")]


@pytest.fixture
def nobody() -> Iterator[Any]:
    """An address that nobody listens at, kept from others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield SimpleNamespace(url=f"nats://127.0.0.1:{taken.getsockname()[1]}")


@asynccontextmanager
async def process(server: Any, kind: str, command: list[str], **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        *command,
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "RESPONDER_URL": server.url, "RESPONDER_TYPE": kind, **env},
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def answered(connection: Connection, kind: str) -> None:
    """Wait until the responder is there."""
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await ask(connection, kind, 1)).body == b'{"got":1}'
            except (ajc.NoResponders, AssertionError):
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("command", [MODULE, PROGRAM], ids=["python -m ajc", "app.run()"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_what_runs_finish(server: Any, command: list[str], number: signal.Signals) -> None:
    kind = unique("t")
    async with connected(server) as connection, process(server, kind, command) as running:
        await answered(connection, kind)
        held = asyncio.create_task(ask(connection, kind, "sleep"))
        assert running.stdout is not None
        assert await running.stdout.readline() == b"sleeping\n"
        running.send_signal(number)
        assert (await held).body == b'{"got":"sleep"}'
        output, _ = await running.communicate()
        assert running.returncode == 0
        assert output == (b"ended\n" if command is PROGRAM else b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_while_there_is_no_server(nobody: Any, number: signal.Signals) -> None:
    async with process(nobody, unique("t"), MODULE) as running:
        assert running.stderr is not None
        async with asyncio.timeout(30):
            while b"cannot connect; trying again: " not in await running.stderr.readline():
                pass
            await asyncio.sleep(0.6)  # it has tried again meanwhile
            running.send_signal(number)
            _, errors = await running.communicate()
        assert running.returncode == 0
        assert b"cannot connect" not in errors  # said once
        assert b"Traceback" not in errors


@pytest.mark.parametrize("thread", [False, True])
async def test_a_second_signal_ends_at_once(server: Any, thread: bool) -> None:
    kind = unique("t")
    async with connected(server) as connection, process(server, kind, MODULE) as running:
        await answered(connection, kind)
        held = asyncio.create_task(ask(connection, f"{kind}:thread" if thread else kind, "hang"))
        assert running.stdout is not None
        assert await running.stdout.readline() == b"hanging\n"
        running.terminate()
        assert running.stderr is not None
        async with asyncio.timeout(10):
            while b"ending" not in await running.stderr.readline():
                pass
        running.terminate()
        reply = await held
        assert (reply.kind, reply.text) == ("error", "interrupted: the responder ended")
        await running.communicate()
        assert running.returncode == 1


async def test_the_limit_of_the_drain(server: Any) -> None:
    kind = unique("t")
    async with connected(server) as connection, process(server, kind, MODULE, RESPONDER_DRAIN="0.2") as running:
        await answered(connection, kind)
        held = asyncio.create_task(ask(connection, f"{kind}:thread", "hang"))
        assert running.stdout is not None
        assert await running.stdout.readline() == b"hanging\n"
        running.terminate()
        assert (await held).kind == "error"
        await running.communicate()
        assert running.returncode == 0


async def run(*arguments: str, **env: str) -> tuple[int, str]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ajc", *arguments, cwd=HERE, stderr=subprocess.PIPE, env={**os.environ, **env}
    )
    _, errors = await running.communicate()
    assert running.returncode is not None
    return running.returncode, errors.decode()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("responder_program", "module:name"),
        ("nowhere:app", "nowhere"),
        ("responder_program:nope", "nope"),
        ("responder_program:not_an_app", "no ajc.Responder"),
        ("responder_program.py:app", "name the module, not its file: responder_program:app"),
        ("wrong_program:app", "task type 'email new' is not a legal name: use 1 to 128"),
    ],
)
async def test_what_is_no_responder(place: str, said: str) -> None:
    code, errors = await run(place)
    assert code == 2
    assert said in errors
    assert "Traceback" not in errors


async def test_usage_and_connection(make_server: Any) -> None:
    assert (await run())[0] == 2
    code, errors = await run("responder_program:app", "--server", "http://x")
    assert (code, "Traceback" in errors) == (2, False)
    code, errors = await run("responder_program:app", "-c", "nowhere")
    assert (code, "nowhere" in errors, "Traceback" in errors) == (2, True, False)
    server = make_server('authorization { user: "u", password: "p" }')
    for option in ("-s", "--server"):
        code, errors = await run("responder_program:app", option, server.url)
        assert code == 5
        assert "refuses" in errors
        assert "Traceback" not in errors
