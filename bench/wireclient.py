"""A bare NATS client: an asyncio.Protocol that parses, dispatches by subscription id and writes once per loop tick.

It knows no reconnect, no limits and no errors but "the server said -ERR": what a floor needs, and nothing more.
Nothing of the product is used here, so that a slow product cannot slow its own yardstick.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

# subject, reply, header block (empty when there is none), body
Handler = Callable[[bytes, bytes, bytes, bytes], None]

MSG, HMSG, PING, PONG, INFO, ERR = b"M"[0], b"H"[0], b"PI", b"PO", b"I"[0], b"-"[0]


class WireClient(asyncio.Protocol):
    """One connection. Subscribe with a callback; `send` raw protocol lines; requests go through one wildcard inbox."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.closed: asyncio.Future[str] = self.loop.create_future()
        self.handlers: list[Handler] = [self._on_answer]
        self.inbox = b"_INBOX." + os.urandom(8).hex().encode()
        self.waiting: dict[bytes, asyncio.Future[tuple[bytes, bytes]]] = {}
        self.pongs: list[asyncio.Future[None]] = []
        self.calls = 0
        self.rest = b""
        self.out: list[bytes] = []
        self.paused = False

    # -- the socket -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(repr(error))

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        at, size = 0, len(data)
        handlers = self.handlers
        while True:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                break
            kind = data[at]
            if kind == MSG:
                words = data[at + 4 : line_end].split(b" ")
                begin = line_end + 2
                end = begin + int(words[-1])
                if end + 2 > size:
                    break
                reply = words[2] if len(words) == 4 else b""
                handlers[int(words[1])](words[0], reply, b"", data[begin:end])
                at = end + 2
            elif kind == HMSG:
                words = data[at + 5 : line_end].split(b" ")
                begin = line_end + 2
                end = begin + int(words[-1])
                if end + 2 > size:
                    break
                middle = begin + int(words[-2])
                reply = words[2] if len(words) == 5 else b""
                handlers[int(words[1])](words[0], reply, data[begin:middle], data[middle:end])
                at = end + 2
            else:
                self._on_control(data[at:line_end])
                at = line_end + 2
        self.rest = data[at:] if at < size else b""

    def _on_control(self, line: bytes) -> None:
        if line[0] == INFO:
            if not self.ready.done():
                options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "bench"}
                self.send(b"CONNECT " + json.dumps(options).encode() + b"\r\nSUB " + self.inbox + b".* 0\r\nPING\r\n")
        elif line[:2] == PING:
            self.send(b"PONG\r\n")
        elif line[:2] == PONG:
            if not self.ready.done():
                self.ready.set_result(None)
            elif self.pongs:
                self.pongs.pop(0).set_result(None)
        elif line[0] == ERR:
            self.transport.abort()
            if not self.closed.done():
                self.closed.set_result(line.decode())

    # -- what callers use -------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Queue raw protocol bytes; they leave in one write at the end of this loop tick."""
        if not self.out:
            self.loop.call_soon(self._write)
        self.out.append(data)

    def _write(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()

    def subscribe(self, subject: bytes, handler: Handler, queue: bytes = b"") -> None:
        self.handlers.append(handler)
        group = b" " + queue if queue else b""
        self.send(b"SUB %b%b %d\r\n" % (subject, group, len(self.handlers) - 1))

    def publish(self, subject: bytes, body: bytes, reply: bytes = b"") -> None:
        self.send(b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body))

    def publish_headers(self, subject: bytes, headers: bytes, body: bytes, reply: bytes = b"") -> None:
        """`headers` is the whole block, version line and closing blank line included."""
        sizes = (len(headers), len(headers) + len(body))
        self.send(b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, *sizes, headers, body))

    def _on_answer(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        del reply
        future = self.waiting.pop(subject, None)
        if future is not None and not future.done():
            future.set_result((headers, body))

    def ask(self, subject: bytes, body: bytes = b"", headers: bytes = b"") -> asyncio.Future[tuple[bytes, bytes]]:
        """A request without a time-out of its own; the future gives (headers, body) of the one answer."""
        self.calls += 1
        reply = b"%b.%d" % (self.inbox, self.calls)
        future = self.waiting[reply] = self.loop.create_future()
        if headers:
            self.publish_headers(subject, headers, body, reply)
        else:
            self.publish(subject, body, reply)
        return future

    async def api(self, subject: str, payload: dict[str, Any] | None = None, seconds: float = 30) -> dict[str, Any]:
        """A JetStream API request; RuntimeError with the server's text when it refuses."""
        body = json.dumps(payload).encode() if payload is not None else b""
        async with asyncio.timeout(seconds):
            _, answer = await self.ask(b"$JS.API." + subject.encode(), body)
        parsed: dict[str, Any] = json.loads(answer or b"{}")
        if "error" in parsed:
            raise RuntimeError(f"{subject}: {parsed['error']}")
        return parsed

    async def flush(self) -> None:
        future: asyncio.Future[None] = self.loop.create_future()
        self.pongs.append(future)
        self.send(b"PING\r\n")
        await future

    def close(self) -> None:
        if self.out:
            self._write()
        self.transport.close()


async def connect(port: int) -> WireClient:
    """Connect to the nats-server on this machine's port."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(WireClient, "127.0.0.1", port)
    async with asyncio.timeout(10):
        await client.ready
    return client
