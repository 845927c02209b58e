"""Whatever goes wrong below, what comes up is an error of this package."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sdk_world import queue_of, until

import ajc
from ajc.connect_options import ConnectOptions, unreadable_files
from ajc.connection import Connection
from ajc.testing.nats_server import _binary

CALLS: dict[str, Callable[[ajc.Client], Awaitable[Any]]] = {
    "enqueue": lambda client: client.enqueue("a", queue="Q"),
    "enqueue_many": lambda client: _all(client.enqueue_many([ajc.new_task("a")], queue="Q")),
    "load": lambda client: client.load("x"),
    "result": lambda client: client.result("x", timeout=1),
    "watch": lambda client: _first(client.watch()),
    "retry": lambda client: client.retry("x"),
    "delete": lambda client: client.delete("x"),
    "tasks": lambda client: _all(client.tasks()),
    "ensure_queue": lambda client: client.ensure_queue(ajc.Queue("Q")),
    "queue": lambda client: client.queue("Q"),
    "queues": lambda client: client.queues(),
    "purge_queue": lambda client: client.purge_queue("Q"),
    "delete_queue": lambda client: client.delete_queue("Q"),
    "dead_letters": lambda client: _all(client.dead_letters()),
    "dead_letter": lambda client: client.dead_letter("x"),
}


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]


async def _first(events: Any) -> Any:
    async with events:
        return await anext(aiter(events))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_nobody_there() -> None:
    with pytest.raises(ajc.Unavailable) as refused:
        async with ajc.connect(f"nats://127.0.0.1:{free_port()}"):
            pass
    assert not isinstance(refused.value, ajc.Closed)


async def test_a_host_that_does_not_resolve() -> None:
    with pytest.raises(ajc.Unavailable):
        async with ajc.connect("nats://nowhere.invalid:4222"):
            pass


async def test_something_else_listens_there() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ajc.Unavailable):
            async with asyncio.timeout(30), ajc.connect(f"nats://127.0.0.1:{port}"):
                pass


@pytest.mark.parametrize("wait_for_server", [False, True])
async def test_refused_for_good(make_server: Any, wait_for_server: bool) -> None:
    server = make_server('authorization { user: "u", password: "p" }')
    with pytest.raises(ajc.Closed):
        async with ajc.connect(server.url, wait_for_server=wait_for_server):
            pass
    async with ajc.connect(server.url.replace("//", "//u:p@")) as client:
        await client.queues()


async def test_files_that_are_not_there(server: Any) -> None:
    for option in ("creds", "nkey", "tls_ca", "tls_cert", "tls_key"):
        with pytest.raises(ajc.InvalidValue, match=f"{option} '/nope/x': cannot be read: No such file or directory"):
            await Connection.open(ConnectOptions(servers=(server.url,), **{option: "/nope/x"}))


def test_files_are_looked_at_and_not_read(tmp_path: Any) -> None:
    folder = ConnectOptions(nkey=str(tmp_path))
    assert list(unreadable_files(folder)) == [("nkey", str(tmp_path), "cannot be read: Is a directory")]
    source, sink = os.pipe()
    os.write(sink, b"once")
    try:
        assert list(unreadable_files(ConnectOptions(creds=f"/dev/fd/{source}"))) == []
        assert os.read(source, 10) == b"once"
    finally:
        os.close(source)
        os.close(sink)


async def test_no_jetstream(tmp_path: Any) -> None:
    ports = tmp_path / "ports"
    ports.mkdir()
    process = subprocess.Popen(
        [_binary(), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(ports)], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        url = ""
        while not url and time.monotonic() < deadline:
            for file in ports.glob("*.ports"):
                url = json.loads(file.read_text() or "{}").get("nats", [""])[0]
            await asyncio.sleep(0.02)
        async with ajc.connect(url, timeout=1) as client:
            for name, call in CALLS.items():
                if name in ("watch", "dead_letters"):
                    continue
                with pytest.raises(ajc.AjcError):
                    await call(client)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", CALLS)
async def test_a_client_that_is_closed(server: Any, name: str) -> None:
    async with queue_of(server) as (client, _):
        pass
    with pytest.raises(ajc.Closed):
        await CALLS[name](client)


async def test_a_server_that_went_away(own_server: Any) -> None:
    async with ajc.connect(own_server.url, timeout=0.3) as client:
        await client.ensure_queue(ajc.Queue("Q"))
        own_server.stop()
        await until(lambda: not client.connection.connected)
        for name in ("enqueue", "enqueue_many"):
            with pytest.raises(ajc.Unavailable):
                await CALLS[name](client)
        with pytest.raises(ajc.AjcError):
            async with asyncio.timeout(30):
                await client.load("x")


async def test_a_reader_whose_rights_do_not_suffice(make_server: Any) -> None:
    server = make_server(
        """
        authorization { users: [
          { user: app, password: a, permissions: { publish: ["x"], subscribe: ["_INBOX.>"] } } ] }
        """
    )
    async with ajc.connect(server.url.replace("//", "//app:a@"), timeout=0.3) as client:
        with pytest.raises(ajc.Unavailable):
            await client.load("x")
        assert client.connection.connected
