"""Cancelling a connection that still seeks its server ends it at once, at whatever moment that comes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from ajc.connection import Connection
from ajc.context import resolve

TURNS = 14  # of the loop: beyond them a first try to connect has failed, and the wait for the next has begun


@pytest.mark.parametrize("fast", [True, False])
async def test_where_nobody_listens(fast: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{taken.getsockname()[1]}"
        for _ in range(4):
            for turns in range(TURNS):
                opening = asyncio.create_task(Connection.open(resolve(url), wait_for_server=True, fast=fast))
                for _ in range(turns):
                    await asyncio.sleep(0)
                await ends(opening)


async def test_where_somebody_says_nothing() -> None:
    connected = asyncio.Event()
    closed = asyncio.Event()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        closed.set()

    silent = await asyncio.start_server(accepted, "127.0.0.1", 0)
    async with silent:
        url = f"nats://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        opening = asyncio.create_task(Connection.open(resolve(url), wait_for_server=True))
        await connected.wait()
        await ends(opening)
        async with asyncio.timeout(10):
            await closed.wait()  # and it leaves no socket behind


async def ends(opening: asyncio.Task[Connection]) -> None:
    opening.cancel()
    await asyncio.wait([opening], timeout=10)
    assert opening.cancelled()
