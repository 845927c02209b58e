"""A responder inside the test's process: what it was asked is kept, what it replies is scripted, hostile bytes too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ajc.connection import Connection, Message, Subscription
from ajc.exchange import reply_headers
from ajc.headers import parse_headers
from ajc.task import Task


class Request(msgspec.Struct):
    """One request as it came, and where its reply goes."""

    subject: str
    reply_to: str
    body: bytes
    headers: bytes | None
    at: float

    @property
    def task(self) -> Task:
        return Task.decode(self.body)

    def header(self, name: str) -> str | None:
        assert self.headers is not None
        return parse_headers(self.headers).get(name)


class Reply(msgspec.Struct):
    """What goes back: `headers` is the block as it is, `after` seconds later, `times` times."""

    body: bytes = b""
    headers: bytes | None = None
    after: float = 0.0
    times: int = 1


Script = Callable[[Request], Reply | None]


def done(body: bytes = b"done", *, after: float = 0.0, times: int = 1) -> Reply:
    return Reply(body, None, after, times)


def failed(text: str = "boom", retry_after_ms: int | None = None, *, after: float = 0.0) -> Reply:
    return Reply(b"", reply_headers(error=text, retry_after_ms=retry_after_ms), after)


def terminated(text: str = "stop") -> Reply:
    return Reply(b"", reply_headers(terminate=text))


def busy(text: str = "full", retry_after_ms: int | None = None) -> Reply:
    return Reply(b"", reply_headers(busy=text, retry_after_ms=retry_after_ms))


def raw(*lines: str | bytes, body: bytes = b"", first: bytes = b"NATS/1.0") -> Reply:
    """A header block written line by line, checked by nobody."""
    block = b"\r\n".join([first, *(line.encode() if isinstance(line, str) else line for line in lines)]) + b"\r\n\r\n"
    return Reply(body, block)


class Responder:
    """Answers requests of one type: a script, or a list of replies (the last one stays; None: silence)."""

    def __init__(self, connection: Connection, script: Script | Sequence[Reply | None]) -> None:
        self._connection = connection
        self._replies = None if callable(script) else list(script)
        self._script = script if callable(script) else self._next
        self._subscription: Subscription | None = None
        self.requests: list[Request] = []

    async def listen(self, subject: str, *, group: str = "ajc") -> Responder:
        self._subscription = await self._connection.subscribe(subject, self._asked, queue=group)
        await self._connection.flush()
        return self

    async def leave(self) -> None:
        assert self._subscription is not None
        await self._subscription.unsubscribe()
        await self._connection.flush()

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def send(self, request: Request, reply: Reply) -> None:
        for _ in range(reply.times):
            self._connection.publish(request.reply_to, reply.body, headers=reply.headers)

    def _asked(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        request = Request(message.subject, message.reply, message.body, message.headers, loop.time())
        self.requests.append(request)
        reply = self._script(request)
        if reply is None:
            return
        if reply.after:
            loop.call_later(reply.after, self.send, request, reply)
        else:
            self.send(request, reply)

    def _next(self, _request: Request) -> Any:
        assert self._replies is not None
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
