"""Requests to responders over NATS core, with an inbox of their own: late and second replies are noticed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final

from ajc.connection import Answer, Connection
from ajc.errors import Unavailable
from ajc.exchange import ExecReply, ExecRequest, read_reply
from ajc_bridge.happenings import ReplyIgnored
from ajc_bridge.ports import Journal

_REMEMBERED: Final = 8_192
_ROOM_SECONDS: Final = 0.05


class _Waiting:
    """One request that waits for its reply."""

    __slots__ = ("future", "task_id", "type")

    def __init__(self, future: asyncio.Future[Answer | None], task_id: str, type_: str) -> None:
        self.future = future
        self.task_id = task_id
        self.type = type_


class NatsExchange:
    """`ports.Exchange` over request-reply."""

    def __init__(self, connection: Connection, journal: Journal) -> None:
        self._connection = connection
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{connection.inbox_prefix}.exec.{id(self):x}."
        self._inbox_length = len(self._inbox)
        self._table: dict[str, _Waiting] = {}
        self._over: dict[str, tuple[str, str, str]] = {}
        self._order: deque[str] = deque()
        self._next = 0

    async def start(self) -> None:
        """Open the inbox of replies."""
        await self._connection.subscribe_raw(f"{self._inbox}*", self._replied)

    @property
    def limit(self) -> int:
        """The server's limit; see `ports.Exchange.limit`."""
        return self._connection.max_payload

    async def request(self, subject: str, request: ExecRequest, until: float) -> ExecReply | None:
        """Send and wait; see `ports.Exchange.request`. A reply may still come after a reconnect, so that ends nothing.

        Raises `Unavailable` when the request never left.
        """
        self._next += 1
        token = f"{self._next:x}"
        waiting = _Waiting(self._loop.create_future(), request.task_id, request.type)
        self._table[token] = waiting
        kind = "late"
        timer = self._loop.call_at(until, _give_up, waiting.future)
        try:
            inbox = self._inbox + token
            if self._connection.connected and self._connection.room:
                self._connection.publish(subject, request.body, headers=request.headers(), reply=inbox)
            else:
                await self._send_later(subject, request, inbox, until)
            message = await waiting.future
            if message is None:
                return None
            kind = "duplicate"
            return read_reply(message.headers, message.body)
        finally:
            timer.cancel()
            del self._table[token]
            self._remember(token, (kind, waiting.type, waiting.task_id))

    async def _send_later(self, subject: str, request: ExecRequest, inbox: str, until: float) -> None:
        """Send as soon as there is a server and room in the send buffer; `Unavailable` when that is not in time."""
        while self._loop.time() < until:
            await asyncio.sleep(_ROOM_SECONDS)
            if self._connection.connected:
                with contextlib.suppress(Unavailable):
                    self._connection.publish(subject, request.body, headers=request.headers(), reply=inbox)
                    return
        raise Unavailable("no server, or no room in the send buffer, in time")

    def _remember(self, token: str, what: tuple[str, str, str]) -> None:
        self._over[token] = what
        self._order.append(token)
        if len(self._order) > _REMEMBERED:
            del self._over[self._order.popleft()]

    def _replied(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        token = subject[self._inbox_length :].decode()
        waiting = self._table.get(token)
        if waiting is not None:
            if not waiting.future.done():
                waiting.future.set_result(Answer(body, headers))
            else:
                self._journal.note(ReplyIgnored("duplicate", waiting.type, waiting.task_id))
            return
        kind, type_, task_id = self._over.get(token, ("late", "", ""))
        self._journal.note(ReplyIgnored(kind, type_, task_id))


def _give_up(future: asyncio.Future[Answer | None]) -> None:
    if not future.done():
        future.set_result(None)
