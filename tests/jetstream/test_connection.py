"""One connection, on the fast client and on nats-py's public interface, through everything that servers do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import nats
import pytest
from jetstream_world import until

from ajc import fast_client
from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, Message
from ajc.errors import Closed, InvalidName, NoResponders, NotFound, RequestTimeout, TooLarge, Unavailable
from ajc.fast_parser import FastParser


@pytest.fixture(params=[True, False], ids=["fast", "public"])
def connect(request: pytest.FixtureRequest) -> Callable[..., Any]:
    async def open_connection(url: str, **more: Any) -> Connection:
        connection = await Connection.open(ConnectOptions(servers=(url,)), fast=request.param, **more)
        assert connection.fast_path_missing is None
        return connection

    return open_connection


async def _fill(connection: Connection, subject: str, body: bytes) -> int:
    """Publish until the send buffer is full; return how many messages it took, 500 at most."""
    for sent in range(500):
        try:
            connection.publish(subject, body)
        except Unavailable:
            return sent
        await asyncio.sleep(0)
    return 500


async def test_a_body_that_is_no_bytes_is_refused_and_the_others_are_sent(own_server, connect):
    connection = await connect(own_server.url)
    got: list[Message] = []
    await connection.subscribe("body", got.append)
    body = bytearray(b"first")
    connection.publish("body", body)
    body[:] = b"later"
    with pytest.raises(TypeError):
        connection.publish("body", "text")
    connection.publish("body", b"after")
    await until(lambda: len(got) == 2)
    assert [message.body for message in got] == [b"first", b"after"]
    await connection.close()


async def test_a_full_send_buffer_says_so_and_goes_on(own_server, connect):
    connection = await connect(own_server.url)
    got: list[Message] = []
    other = await connect(own_server.url)
    await other.subscribe("load", got.append)
    await other.flush()
    own_server.signal(signal.SIGSTOP)
    sent = await _fill(connection, "load", b"x" * 500_000)
    assert 10 < sent < 200  # of 250 MB
    own_server.signal(signal.SIGCONT)
    await until(lambda: len(got) >= sent, 40)
    connection.publish("load", b"again")
    await until(lambda: got[-1].body == b"again")
    assert len(got) == sent + 1
    await connection.close()
    await other.close()


async def test_without_a_server_two_mebibytes_are_kept_and_sent_later(own_server, connect):
    connection, other = await connect(own_server.url), await connect(own_server.url)
    got: list[Message] = []
    await other.subscribe("later", got.append)
    await other.flush()
    own_server.stop()
    await until(lambda: not connection.connected and not other.connected)
    sent = await _fill(connection, "later", b"x" * 100_000)
    assert 15 <= sent <= 25
    own_server.start()
    await until(lambda: connection.connected and other.connected)
    await other.flush()  # the server has its subscription again
    connection.publish("later", b"last")
    await until(lambda: got and got[-1].body == b"last")
    assert connection.max_payload == 1 << 20
    await connection.close()
    await other.close()


async def test_requests_under_way_fail_when_the_connection_breaks(own_server, connect):
    states: list[str] = []
    connection = await connect(own_server.url, on_state=lambda state, _error: states.append(state))
    await connection.subscribe("silent", lambda _message: None)
    waiting = asyncio.ensure_future(connection.request("silent", timeout=30))
    await connection.flush()
    own_server.stop()
    with pytest.raises(Unavailable, match="broke"):
        await waiting
    assert connection.pending == 0
    own_server.start()
    await until(lambda: [state for state in states if state != "error"] == ["disconnected", "reconnected"])
    assert connection.connected
    await connection.close()


async def test_subscriptions_are_replayed_after_a_restart(own_server, connect):
    connection = await connect(own_server.url)
    got: list[Message] = []
    await connection.subscribe("kept.*", got.append, queue="group")
    gone = await connection.subscribe("gone", got.append)
    await gone.unsubscribe()
    own_server.stop()
    own_server.start()
    await until(lambda: not connection.connected)
    await connection.wait_connected()
    await connection.flush()
    connection.publish("gone", b"")
    connection.publish("kept.one", b"body", headers=b"NATS/1.0\r\nA: b\r\n\r\n", reply="somewhere")
    await until(lambda: got)
    assert got == [Message("kept.one", "somewhere", b"body", b"NATS/1.0\r\nA: b\r\n\r\n")]
    await connection.close()


async def test_what_is_too_large_is_not_sent(make_server, connect):
    server = make_server("max_payload: 4096")
    connection = await connect(server.url)
    for body, headers in ((b"x" * 4_097, None), (b"x" * 4_000, b"NATS/1.0\r\nA: " + b"y" * 100 + b"\r\n\r\n")):
        with pytest.raises(TooLarge):
            connection.publish("any", body, headers=headers)
    connection.publish("any", b"x" * 4_096)
    await connection.flush()
    assert connection.connected
    await connection.close()


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0\r\n", "a\x00b", "tab\tbed", "line\nbreak"])
async def test_subjects_that_would_break_the_protocol(server, connect, subject):
    connection = await connect(server.url)
    with pytest.raises(InvalidName):
        connection.publish(subject)
    await connection.close()


async def test_nobody_there_no_answer_and_no_such_stream(server, connect):
    connection = await connect(server.url)
    with pytest.raises(NoResponders):
        await connection.request("nobody.listens")
    await connection.subscribe("never.answers", lambda _message: None)
    with pytest.raises(RequestTimeout):
        await connection.request("never.answers", timeout=0.1)
    with pytest.raises(NotFound):
        await connection.api("STREAM.INFO.none")
    with pytest.raises(NotFound):
        await connection.stored("no.stream.takes.this", b"")
    assert connection.pending == 0
    await connection.close()


async def test_a_closed_connection_says_so(server, connect):
    connection = await connect(server.url)
    await connection.close()
    assert connection.closed
    with pytest.raises(Closed):
        connection.publish("any")
    with pytest.raises(Closed):
        await connection.request("any")


async def test_it_says_which_of_several_servers_it_is_connected_to(server):
    for fast in (True, False):
        connection = await Connection.open(ConnectOptions(servers=("nats://127.0.0.1:1", server.url)), fast=fast)
        assert connection.server_url == server.url
        await connection.close()


async def test_credentials_that_are_taken_away_close_for_good(make_server, connect):
    server = make_server("authorization { user: u, password: right }")
    states: list[tuple[str, str]] = []
    url = server.url.replace("nats://", "nats://u:right@")
    connection = await connect(url, on_state=lambda state, error: states.append((state, str(error))))
    assert connection.server_url == server.url, "without the credentials"
    server.stop()
    await until(lambda: connection.server_url == "")
    server.config = "authorization { user: u, password: other }"
    server.start()
    await until(lambda: connection.closed)
    await until(lambda: states[-1][0] == "closed")
    assert "uthorization" in states[-1][1]
    with pytest.raises(Closed):
        connection.publish("any")


async def test_a_close_that_meets_a_broken_socket_closes_all_the_same(server, connect, monkeypatch):
    states: list[str] = []
    connection = await connect(server.url, on_state=lambda state, _error: states.append(state))

    async def broken() -> None:
        raise ConnectionResetError

    monkeypatch.setattr(connection._transport._client._transport, "wait_closed", broken)
    await connection.close()
    assert connection.closed
    assert states == []


async def test_nobody_there_at_the_start(connect):
    with pytest.raises(Unavailable):
        await connect("nats://127.0.0.1:1")


async def test_an_inbox_of_its_own(server, connect):
    connection = await connect(server.url, private_inbox=True)
    other = await connect(server.url, private_inbox=True)
    assert connection.inbox_prefix != other.inbox_prefix
    assert not connection.inbox_prefix.startswith("_INBOX.")
    await connection.close()
    await other.close()


async def test_messages_in_pieces_and_in_bulk(server, connect):
    connection = await connect(server.url)
    got: list[Message] = []
    await connection.subscribe("bulk", got.append)
    sizes = [0, 1, 2, 65_535, 65_536, 65_537, 131_072, 500_000, 3, 1_000_000]
    for size in sizes * 3:
        connection.publish("bulk", b"\r\n" * (size // 2) + b"M" * (size % 2), headers=b"NATS/1.0\r\nN: 1\r\n\r\n")
    await until(lambda: len(got) == 30)
    assert [len(message.body) for message in got] == sizes * 3
    assert {message.headers for message in got} == {b"NATS/1.0\r\nN: 1\r\n\r\n"}
    await connection.close()


async def test_another_nats_py_means_the_public_interface(server, monkeypatch):
    monkeypatch.setattr(nats, "__version__", "3.0.0", raising=False)
    assert "3.0.0" in (fast_client.unavailable() or "")
    connection = await Connection.open(ConnectOptions(servers=(server.url,)))
    assert connection.fast_path_missing is not None
    with pytest.raises(NoResponders):
        await connection.request("nobody.listens")
    await connection.close()


async def test_messages_go_past_the_reading_loop(server, monkeypatch):
    read: list[bytes] = []
    parse = FastParser.parse

    async def noted(self: FastParser, data: bytes = b"") -> None:
        read.append(data)
        await parse(self, data)

    monkeypatch.setattr(FastParser, "parse", noted)
    connection = await Connection.open(ConnectOptions(servers=(server.url,)))
    got: list[Message] = []
    await connection.subscribe("at.once", got.append)
    for _ in range(100):
        connection.publish("at.once", b"x")
    await until(lambda: len(got) == 100)
    await connection.close()
    assert not any(b"MSG" in data for data in read)


async def served(connection: Connection, subject: str) -> tuple[list[bytes], asyncio.StreamReader, bytes]:
    """Bodies that come on a subject, one of them so far; the socket's reader; a further message as it would come."""
    got: list[bytes] = []
    await connection.subscribe(subject, lambda message: got.append(message.body))
    client: Any = connection._transport._client  # type: ignore[attr-defined]
    connection.publish(subject, b"first")
    await until(lambda: got == [b"first"])
    frame = b"MSG %b %b 1\r\nx\r\n" % (subject.encode(), max(client.raw_callbacks, key=int))
    return got, client._transport._io_reader, frame


async def test_a_close_loses_nothing_of_what_was_published_while_others_arrive(server, connect):
    """Unread messages in a socket that is closed make the server drop what it has not read itself."""
    other = await connect(server.url)
    got: list[Message] = []
    await other.subscribe("kept", got.append)
    await other.flush()
    for _ in range(8):
        got.clear()
        connection = await connect(server.url)
        await connection.subscribe("flood", lambda _message: None)
        await connection.flush()
        for _ in range(2_000):
            other.publish("flood", b"q" * 1_000)
        for _ in range(500):
            connection.publish("kept")
        await connection.close()
        await until(lambda: len(got) == 500)
    await other.close()


async def test_what_comes_after_the_end_of_a_connection_reaches_nobody(server):
    connection = await Connection.open(ConnectOptions(servers=(server.url,)))
    got, reader, frame = await served(connection, "late")
    reader.feed_data(frame)
    assert got == [b"first", b"x"]
    closing = asyncio.create_task(connection.close())
    async with asyncio.timeout(10):
        while connection.connected:
            await asyncio.sleep(0)
    reader.feed_data(frame)
    await closing
    assert got == [b"first", b"x"]


async def test_a_line_that_is_none_ends_the_connection_and_a_new_one_is_made(server):
    states: list[str] = []
    connection = await Connection.open(
        ConnectOptions(servers=(server.url,)), on_state=lambda state, _error: states.append(state)
    )
    got, reader, frame = await served(connection, "bad")
    reader.feed_data(b"MSG a\r\n")
    reader.feed_data(frame)
    assert got == [b"first"]
    await until(lambda: "reconnected" in states)
    connection.publish("bad", b"again")
    await until(lambda: got == [b"first", b"again"])
    await connection.close()


async def test_half_a_frame_of_a_connection_that_was_given_up_is_not_the_begin_of_the_next_one(server):
    states: list[str] = []
    connection = await Connection.open(
        ConnectOptions(servers=(server.url,)), on_state=lambda state, _error: states.append(state)
    )
    got, reader, frame = await served(connection, "half")
    client: Any = connection._transport._client  # type: ignore[attr-defined]
    await client._process_op_err(nats.errors.StaleConnectionError())
    reader.feed_data(frame.replace(b" 1\r\nx\r\n", b" 30\r\nbegun"))
    await until(lambda: "reconnected" in states)
    connection.publish("half", b"again")
    await until(lambda: got == [b"first", b"again"])
    assert states.count("disconnected") == 1
    await connection.close()


def test_the_fast_client_can_be_switched_off(monkeypatch):
    monkeypatch.delenv("AJC_FAST", raising=False)
    assert fast_client.unavailable() is None
    monkeypatch.setenv("AJC_FAST", "0")
    assert fast_client.unavailable() == "switched off by AJC_FAST=0"


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_close_that_meets_the_end_of_a_try_to_reconnect_ends_it(own_server, connect, monkeypatch, accepted):
    """asyncio.wait_for loses a cancellation that comes with its answer: then a process never got to its end."""
    closing: list[asyncio.Task[None]] = []
    opened = asyncio.open_connection

    async def open_connection(*arguments: Any, **options: Any) -> Any:
        answered = False
        try:
            answer = await opened(*arguments, **options)
            answered = True
            return answer
        finally:
            if answered == accepted and not closing:
                closing.append(asyncio.create_task(connection.close()))  # its first step comes before this is noticed

    before = asyncio.all_tasks()
    connection = await connect(own_server.url)
    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    own_server.stop()
    if accepted:
        own_server.start()
    await until(lambda: closing and closing[0].done())
    await until(lambda: asyncio.all_tasks() <= before, 5)
    assert connection.closed
