"""`flush` and `drain` keep their word on both transports: what was sent has arrived, what was under way has come."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from sdk_world import connected, unique, until

from ajc.connection import Connection
from ajc.context import resolve
from ajc.errors import NoResponders


@pytest.mark.parametrize("fast", [True, False])
async def test_a_subscription_stands_once_it_is_flushed(server: Any, fast: bool) -> None:
    asking = await Connection.open(resolve(server.url))
    for _ in range(40):
        answering = await Connection.open(resolve(server.url), fast=fast)
        subject = unique("s")
        await answering.subscribe(subject, lambda message, by=answering: by.publish(message.reply, b"here"))
        await answering.flush()
        assert (await asking.request(subject)).body == b"here"
        await answering.close()
    await asking.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_nothing_is_lost_by_a_drain(server: Any, fast: bool) -> None:
    async with connected(server) as asking:
        for _ in range(10):
            one, other = [await Connection.open(resolve(server.url), fast=fast) for _ in range(2)]
            subject = unique("s")
            subscriptions = [
                await by.subscribe(subject, lambda message, by=by: by.publish(message.reply, b"here"), queue="q")
                for by in (one, other)
            ]
            await one.flush()
            await other.flush()
            replies = [asyncio.ensure_future(asking.request(subject, timeout=5)) for _ in range(200)]
            await asyncio.sleep(0)
            await subscriptions[0].drain()
            assert {reply.body for reply in await asyncio.gather(*replies)} == {b"here"}
            await one.close()
            await other.close()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("broken", ["before", "meanwhile"])
async def test_a_subscription_that_was_left_without_a_server_stays_left(
    own_server: Any, fast: bool, broken: str
) -> None:
    """A client that subscribes again on its next connection would swallow what belongs to others of its queue group."""
    leaving, asking = [await Connection.open(resolve(own_server.url), fast=one) for one in (fast, True)]
    subject = unique("s")
    subscription = await leaving.subscribe(subject, lambda message: leaving.publish(message.reply, b"here"), queue="q")
    await leaving.flush()
    if broken == "before":
        await killed(own_server, leaving, asking)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await subscription.drain()
    else:
        own_server.signal(signal.SIGSTOP)
        server_process = psutil.Process(own_server.process.pid)
        await until(lambda: server_process.status() == psutil.STATUS_STOPPED)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await subscription.drain()
        await killed(own_server, leaving, asking)
    own_server.start()
    for connection in (leaving, asking):
        await connection.wait_connected()
        await connection.flush()
    with pytest.raises(NoResponders):
        await asking.request(subject, timeout=2)
    await leaving.close()
    await asking.close()


async def killed(server: Any, *connections: Connection) -> None:
    server.stop()
    for connection in connections:
        await until(lambda connection=connection: not connection.connected)


@pytest.mark.parametrize("fast", [True, False])
async def test_a_flush_that_was_given_up_ends_nothing_but_itself(own_server: Any, fast: bool) -> None:
    """The pong comes when nobody waits for it any more: reading goes on, and the next flush has one of its own."""
    connection = await Connection.open(resolve(own_server.url), fast=fast)
    found: list[bytes] = []
    subject = unique("s")
    await connection.subscribe(subject, lambda message: found.append(message.body))
    await connection.flush()
    own_server.signal(signal.SIGSTOP)
    await until(lambda: psutil.Process(own_server.process.pid).status() == psutil.STATUS_STOPPED)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connection.flush()
    own_server.signal(signal.SIGCONT)
    await connection.flush()
    connection.publish(subject, b"goes on")
    await until(lambda: found == [b"goes on"])
    own_server.stop()
    await until(lambda: not connection.connected)
    await connection.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_close_ends_while_the_server_reads_nothing(own_server: Any, fast: bool) -> None:
    """With more to write than the socket takes: it is waited for a moment, and not for ever."""
    connection = await Connection.open(resolve(own_server.url), fast=fast)
    await connection.flush()
    own_server.signal(signal.SIGSTOP)
    await until(lambda: psutil.Process(own_server.process.pid).status() == psutil.STATUS_STOPPED)
    for _ in range(20):
        connection.publish("load", b"x" * 900_000)
        await asyncio.sleep(0)
    async with asyncio.timeout(12):
        await connection.close()
    assert connection.closed
