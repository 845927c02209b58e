"""`flush` and `drain` keep their word on both transports: what was sent has arrived, what was under way has come."""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import Any

import nats.errors
import pytest
import uvloop
from sdk_world import connected, unique, until

from ajc.answers import Answer
from ajc.connection import Connection
from ajc.context import resolve
from ajc.errors import NoResponders, Unavailable
from ajc.transport import Message, drain_all


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
@pytest.mark.parametrize("given_up", ["without a server", "while it stands still", "never"])
async def test_a_subscription_that_is_left_in_trouble_stays_left(own_server: Any, fast: bool, given_up: str) -> None:
    """A client that subscribes again on its next connection would swallow what belongs to others of its queue group."""
    leaving, asking = [await Connection.open(resolve(own_server.url), fast=one) for one in (fast, True)]
    subject = unique("s")
    subscription = await leaving.subscribe(subject, lambda message: leaving.publish(message.reply, b"here"), queue="q")
    await leaving.flush()
    if given_up == "without a server":
        await killed(own_server, leaving, asking)
        async with asyncio.timeout(1):
            await subscription.drain()
    else:
        own_server.signal(signal.SIGSTOP)
        draining = asyncio.create_task(subscription.drain())
        await asyncio.sleep(0.3)
        assert not draining.done()
        if given_up == "while it stands still":
            draining.cancel()
        await killed(own_server, leaving, asking)
        async with asyncio.timeout(1):  # nothing more can come
            await asyncio.wait({draining})
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
async def test_what_the_server_had_sent_comes_though_the_drain_is_given_up(server: Any, fast: bool) -> None:
    async with connected(server) as asking:
        leaving = await Connection.open(resolve(server.url), fast=fast)
        subject = unique("s")
        found: list[bytes] = []

        def take(message: Message) -> None:
            found.append(message.body)
            leaving.publish(message.reply, b"here")

        subscription = await leaving.subscribe(subject, take, queue="q")
        await leaving.flush()
        asked = [asyncio.ensure_future(asking.request(subject, b"x" * 200, timeout=20)) for _ in range(10_000)]
        await asyncio.sleep(0)
        drains = [asyncio.create_task(subscription.drain()) for _ in range(2)]
        await until(lambda: found)
        drains[0].cancel()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} <= {Answer, NoResponders}, "each has come, or was nobody's"
        async with asyncio.timeout(20):
            await drains[1]
        await subscription.drain()
        with pytest.raises(NoResponders):
            await asking.request(subject)
        await leaving.close()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("ended_by", ["unsubscribe", "close"])
async def test_a_drain_ends_with_what_it_waits_for(own_server: Any, fast: bool, ended_by: str) -> None:
    connection = await Connection.open(resolve(own_server.url), fast=fast)
    subscription = await connection.subscribe("load", lambda _message: None)
    await connection.flush()
    own_server.signal(signal.SIGSTOP)
    draining = asyncio.create_task(subscription.drain())
    await asyncio.sleep(0)
    async with asyncio.timeout(12):
        await (subscription.unsubscribe() if ended_by == "unsubscribe" else connection.close())
        await draining
        await connection.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_flush_that_was_given_up_ends_nothing_but_itself(own_server: Any, fast: bool) -> None:
    """The pong comes when nobody waits for it any more: reading goes on, and the next flush has one of its own."""
    connection = await Connection.open(resolve(own_server.url), fast=fast)
    found: list[bytes] = []
    subject = unique("s")
    await connection.subscribe(subject, lambda message: found.append(message.body))
    await connection.flush()
    own_server.signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connection.flush()
    own_server.signal(signal.SIGCONT)
    await connection.flush()
    connection.publish(subject, b"goes on")
    await until(lambda: found == [b"goes on"])
    await killed(own_server, connection)
    await connection.close()


async def with_a_full_socket(server: Any, fast: bool) -> Connection:
    """A connection to a server that stands still, with more to write than the socket takes."""
    connection = await Connection.open(resolve(server.url), fast=fast)
    await connection.flush()
    server.signal(signal.SIGSTOP)
    for _ in range(20):
        connection.publish("load", b"x" * 900_000)
        await asyncio.sleep(0)
    return connection


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_close_ends_while_the_server_reads_nothing(own_server: Any, fast: bool, cancelled: bool) -> None:
    """It is waited for a moment, and not for ever; nor is the close left out in a task that was cancelled."""
    connection = await with_a_full_socket(own_server, fast)

    async def use() -> None:
        try:
            await asyncio.sleep(3600 if cancelled else 0)
        finally:
            await connection.close()

    using = asyncio.create_task(use())
    await asyncio.sleep(0.05)
    if cancelled:
        using.cancel()
    async with asyncio.timeout(12):
        await asyncio.wait({using})
    assert connection.closed
    assert using.cancelled() == cancelled


@pytest.mark.parametrize("fast", [True, False])
async def test_a_flush_keeps_its_time_while_the_server_reads_nothing(own_server: Any, fast: bool) -> None:
    connection = await with_a_full_socket(own_server, fast)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await connection.flush(0.5)
        await killed(own_server, connection)
        await connection.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_connection_that_is_given_up_is_not_waited_for(own_server: Any, fast: bool) -> None:
    """What a server that stands still has not read would keep the connection from coming to the next one."""
    connection = await with_a_full_socket(own_server, fast)
    states: list[str] = []
    connection._on_state = lambda state, _error: states.append(state)
    client: Any = connection._transport._client  # type: ignore[attr-defined]
    await client._process_op_err(nats.errors.StaleConnectionError())  # as after a minute without a pong
    await until(lambda: "disconnected" in states, 5)
    own_server.signal(signal.SIGCONT)
    async with asyncio.timeout(10):
        await connection.wait_connected()
        await connection.flush()
    await connection.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_drain_keeps_its_time_while_the_server_reads_nothing(own_server: Any, fast: bool) -> None:
    """It is given up in time, and done all the same once the server reads on."""
    leaving, asking = [await Connection.open(resolve(own_server.url), fast=one) for one in (fast, True)]
    subject = unique("s")
    subscription = await leaving.subscribe(subject, lambda message: leaving.publish(message.reply, b"here"), queue="q")
    await leaving.flush()
    own_server.signal(signal.SIGSTOP)
    for _ in range(20):
        leaving.publish("load", b"x" * 900_000)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert not await drain_all([subscription], 0.5)
    own_server.signal(signal.SIGCONT)
    async with asyncio.timeout(20):
        await subscription.drain()  # joins the one that is still under way
    with pytest.raises(NoResponders):
        await asking.request(subject, timeout=2)
    await leaving.close()
    await asking.close()


@pytest.mark.parametrize("fast", [True, False])
def test_a_drain_on_a_socket_that_is_gone_ends_without_a_fault(server: Any, fast: bool) -> None:
    """Before anybody has noticed: uvloop refuses to write to it by an error of its own."""
    faults: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, fault: faults.append(fault))
        connection = await Connection.open(resolve(server.url), fast=fast)
        subscription = await connection.subscribe("load", lambda _message: None)
        await connection.flush()
        client: Any = connection._transport._client  # type: ignore[attr-defined]
        client._transport._io_writer.transport.abort()
        async with asyncio.timeout(5):
            await subscription.drain()
        await connection.close()

    uvloop.run(main())
    gc.collect()  # a task tells of an error that nobody took when it is collected
    assert not faults
