"""The one reader of stored messages: from the leader, in pages, and what is let go."""

from __future__ import annotations

from typing import Any

import pytest
from sdk_world import connected, unique

import ajc
from ajc.connection import Connection
from ajc.instant import Instant
from ajc.store_errors import NO_MESSAGE, STREAM_NOT_FOUND
from ajc.stored_message import (
    delete_message,
    last_message,
    message_at,
    next_message,
    next_page,
    read_direct_headers,
    stored_messages,
)


async def stream_of(connection: Connection, **settings: Any) -> str:
    name = unique("S")
    config = {"name": name, "subjects": [f"{name}.>"], "storage": "memory", "allow_direct": True, **settings}
    await connection.api(f"STREAM.CREATE.{name}", config)
    return name


async def test_one_message_from_the_leader(server: Any) -> None:
    async with connected(server) as connection:
        stream = await stream_of(connection)
        headers = b"NATS/1.0\r\nA: b\r\n\r\n"
        await connection.stored(f"{stream}.a", b"first", headers=headers)
        await connection.stored(f"{stream}.b", b"")
        first = await last_message(connection, stream, f"{stream}.a")
        assert (first.subject, first.revision, first.data, first.headers) == (f"{stream}.a", 1, b"first", headers)
        assert abs(first.stored_at - Instant.now()) < 60 * 10**9
        assert first.last_token == "a"
        assert first == await message_at(connection, stream, 1)
        assert first == await next_message(connection, stream, f"{stream}.*", 1)
        second = await next_message(connection, stream, f"{stream}.*", 2)
        assert (second.subject, second.data, second.headers) == (f"{stream}.b", b"", None)
        with pytest.raises(ajc.NotFound) as missing:
            await message_at(connection, stream, 3)
        assert missing.value.code == NO_MESSAGE
        with pytest.raises(ajc.NotFound) as missing:
            await last_message(connection, unique("none"), "x")
        assert missing.value.code == STREAM_NOT_FOUND


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 0), (256, 3), (600, 3), (20, 900_000)])
async def test_all_messages_come_once_in_their_order(server: Any, direct: bool, count: int, size: int) -> None:
    async with connected(server) as connection:
        stream = await stream_of(connection, allow_direct=direct)
        for number in range(count):
            # a stored message may have these names among its own headers
            forged = b"NATS/1.0\r\nNats-Sequence: 7\r\nNats-Num-Pending: 0\r\n\r\n"
            connection.publish(f"{stream}.{number}", b"x" * size, headers=forged)
            await connection.writable()
        await connection.stored(f"{stream}.end.mark", b"")  # what was sent before it is stored as well
        found = [message async for message in stored_messages(connection, stream, f"{stream}.*")]
        assert [message.revision for message in found] == list(range(1, count + 1))
        assert [message.last_token for message in found] == [str(number) for number in range(count)]
        assert {len(message.data) for message in found} <= {size}
        if direct and size > 1_000:
            assert 0 < len(await next_page(connection, stream, f"{stream}.*", 1)) < count


async def test_no_stream(server: Any) -> None:
    async with connected(server) as connection:
        with pytest.raises(ajc.NotFound):
            _ = [message async for message in stored_messages(connection, unique("none"), ">")]
        with pytest.raises(ajc.NotFound):
            await delete_message(connection, unique("none"), 1)


async def test_what_is_let_go_is_let_go_once(server: Any) -> None:
    async with connected(server) as connection:
        stream = await stream_of(connection, max_msgs_per_subject=1)
        for _ in range(2):
            await connection.stored(f"{stream}.a", b"")
        assert not await delete_message(connection, stream, 1)  # written since
        assert await delete_message(connection, stream, 2)
        assert not await delete_message(connection, stream, 2)
        assert not await delete_message(connection, stream, 99)
        sealed = await stream_of(connection, deny_delete=True)
        await connection.stored(f"{sealed}.a", b"")
        with pytest.raises(ajc.StoreError):
            await delete_message(connection, sealed, 1)


def test_the_server_s_headers_are_the_last_of_their_names() -> None:
    ours = b"Nats-Stream: S\r\nNats-Subject: S.a\r\nNats-Sequence: 12\r\nNats-Time-Stamp: 2026-01-02T03:04:05.5Z\r\n"
    forged = b"NATS/1.0\r\nNats-Subject: other\r\nNats-Sequence: 1\r\nNats-Time-Stamp: now\r\n"
    placed = ("S.a", 12, "2026-01-02T03:04:05.5Z")
    assert read_direct_headers(forged + ours + b"Nats-Num-Pending: 0\r\n\r\n") == (*placed, forged + b"\r\n")
    alone = b"NATS/1.0\r\n"
    assert read_direct_headers(alone + ours + b"Nats-Num-Pending: 0\r\n\r\n") == (*placed, alone + b"\r\n")
    lines = ours.split(b"\r\n")
    other = forged + b"\r\n".join([lines[3], lines[2], lines[1], b"", b""])
    assert read_direct_headers(other) == (*placed, other)
