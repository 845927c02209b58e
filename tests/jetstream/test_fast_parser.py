"""The parser of the fast client: whatever pieces the bytes come in, every message is handed over once, in its order."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from ajc.fast_parser import FastParser

Seen = tuple[Any, ...]
KNOWN, FOREIGN = b"7", b"8"
"""Subscription ids: one with a raw callback, and one of nats-py's own."""

_bodies = st.binary(max_size=60) | st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"MSG a 7 1\r\n"]), max_size=6).map(
    b"".join
)
_headers = st.sampled_from([b"NATS/1.0\r\nA: 1\r\n\r\n", b"NATS/1.0 503\r\n\r\n"])
_no_headers = st.sampled_from([b"\r\n", b"x\r"])
"""What no server sends: nats-py takes a line end and the digits behind it for the last word of the line before."""


class Client:
    """What the parser hands things to, noted in one list."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.raw_callbacks = {KNOWN: lambda *message: self.seen.append((KNOWN, *message))}

    def callback_failed(self, error: Exception) -> None:
        raise error

    async def _process_ping(self) -> None:
        await asyncio.sleep(0)
        self.seen.append(("PING",))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        await asyncio.sleep(0)
        self.seen.append((b"%d" % sid, subject, reply, body, headers or None))


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, list[Seen]]:
    """Bytes of a connection, and what is to be seen of them."""
    data, expected = b"", []
    for kind in draw(st.lists(st.sampled_from(["MSG", "HMSG", "PING", "+OK"]), max_size=8)):
        if kind == "PING":
            data += b"PING\r\n"
            expected.append(("PING",))
        elif kind == "+OK":
            data += b"+OK\r\n"
        else:
            sid, reply = draw(st.sampled_from([KNOWN, KNOWN, FOREIGN])), draw(st.sampled_from([b"", b"_INBOX.x.1"]))
            blocks = _headers if sid == FOREIGN else _headers | _no_headers
            body, headers = draw(_bodies), draw(blocks) if kind == "HMSG" else None
            sizes = b"%d" % len(body) if headers is None else b"%d %d" % (len(headers), len(headers) + len(body))
            words = [kind.encode(), b"a.b", sid, *([reply] if reply else []), sizes]
            data += b" ".join(words) + b"\r\n" + (headers or b"") + body + b"\r\n"
            expected.append((sid, b"a.b", reply, body, headers))
    return data, expected


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places) if end > start]


@given(frames(), st.lists(st.integers(0, 10_000), max_size=12))
def test_pieces_of_any_size_are_read_the_same(said: tuple[bytes, list[Seen]], cuts: list[int]) -> None:
    data, expected = said

    async def read() -> None:
        for piece in pieces(data, cuts):
            await parser.parse(piece)

    client = Client()
    parser = FastParser(client)
    asyncio.run(read())
    assert client.seen == expected


@given(frames(), st.lists(st.integers(0, 10_000), max_size=12))
def test_messages_are_taken_at_once_up_to_the_first_line_of_another(
    said: tuple[bytes, list[Seen]], cuts: list[int]
) -> None:
    """As the client feeds it: what `take` leaves, and all that comes before that is done, goes the long way."""
    data, expected = said

    async def feed() -> None:
        left = b""
        for number, piece in enumerate(pieces(data, cuts)):
            left = left + piece if left else parser.take(piece)
            if left and number % 2:
                await parser.parse(left)
                left = b""
        await parser.parse(left)

    client = Client()
    parser = FastParser(client)
    asyncio.run(feed())
    assert client.seen == expected


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a 7",
        b"MSG a 7 x",
        b"MSG a 7 -15",
        b"MSG a 7 r s 1",
        b"MSG",
        b"M",
        b"HMSG a 7 5",
        b"HMSG a 7 x 5",
        b"HMSG a 7 -1 5",
        b"HMSG a 7 6 5",
        b"HMSG a 7 r s 1 5",
    ],
)
def test_a_malformed_message_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        FastParser(Client()).take(line + b"\r\n12345\r\n")


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    parser = FastParser(Client())
    parser.take(b"M" * 60_000)
    with pytest.raises(ProtocolError):
        parser.take(b"M" * 6_000)


async def test_while_nats_py_works_on_a_line_the_parser_is_busy() -> None:
    client = Client()
    parser = FastParser(client)
    reading = asyncio.ensure_future(parser.parse(b"PING\r\nMSG a 7 1\r\nx\r\n"))
    await asyncio.sleep(0)
    assert (parser.busy, client.seen) == (True, [])
    await reading
    assert (parser.busy, client.seen) == (False, [("PING",), (KNOWN, b"a", b"", b"x", None)])


async def test_what_fails_in_a_callback_keeps_nothing_from_the_others() -> None:
    failed: list[str] = []
    client = Client()
    client.callback_failed = lambda error: failed.append(str(error))  # type: ignore[method-assign]
    client.raw_callbacks[b"9"] = lambda *_: 1 / 0  # type: ignore[assignment]
    assert FastParser(client).take(b"MSG a 9 1\r\nx\r\nMSG a 7 1\r\ny\r\n") == b""
    assert failed == ["division by zero"]
    assert client.seen == [(KNOWN, b"a", b"", b"y", None)]
