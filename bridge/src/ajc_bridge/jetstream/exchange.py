"""Requests to responders over NATS core, with an inbox of their own: late and second replies are noticed."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Awaitable
from typing import Final

import msgspec

from ajc.connection import Connection
from ajc.errors import NotPermitted, TooLarge, Unavailable
from ajc.exchange import ExecReply, ExecRequest, read_reply
from ajc.subjects import beat_prefix
from ajc_bridge.happenings import BeatIgnored, ReplyIgnored
from ajc_bridge.ports import Beaten, Journal

_ANSWERED: Final = 512
"""A second reply comes at once; thousands of them kept would only be memory that is touched for every task."""
_GIVEN_UP: Final = 4_096
"""A late one may take minutes."""
_ROOM_SECONDS: Final = 0.05
_SMALL: Final = 4_096
"""Bytes of a message for which the connection is not asked whether it is at a server that takes less just now."""
_TOKEN_DIGITS: Final = 16
_RANDOM_BYTES: Final = 2_048


class _Waiting(msgspec.Struct, gc=False):
    """One request that waits for its reply until `until`, which a beat moves."""

    future: asyncio.Future[ExecReply | None]
    until: float
    task_id: str
    type: str
    beaten: Beaten | None
    subject: str


class NatsExchange:
    """`ports.Exchange` over request-reply."""

    def __init__(self, connection: Connection, journal: Journal) -> None:
        self._connection = connection
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{connection.inbox_prefix}.exec.{id(self):x}."
        self._inbox_length = len(self._inbox)
        self._beats = beat_prefix(secrets.token_hex(8))
        self._beats_length = len(self._beats)
        self._table: dict[bytes, _Waiting] = {}
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._answered = _Remembered(_ANSWERED)
        self._given_up = _Remembered(_GIVEN_UP)
        self._tokens: list[str] = []
        self._limit = connection.max_payload

    async def start(self) -> None:
        """Open the inbox of replies, and that of heartbeats."""
        self._connection.refused.tell(self._refused)
        await self._connection.subscribe_raw(f"{self._inbox}*", self._replied)
        await self._connection.subscribe_raw(f"{self._beats}*", self._beaten)

    @property
    def limit(self) -> int:
        """The server's limit; see `ports.Exchange.limit`."""
        return self._limit

    def reconnected(self) -> None:
        """Take up the limit of the server at the other end, which may be another one."""
        self._limit = self._connection.max_payload

    def request(
        self,
        subject: str,
        request: ExecRequest,
        until: float,
        *,
        send_by: float | None = None,
        beaten: Beaten | None = None,
    ) -> Awaitable[ExecReply | None]:
        """Send and wait; see `ports.Exchange.request`. A reply may still come after a reconnect, so that ends nothing.

        Raises `Unavailable` when the request never left, and `NotPermitted` when the server did not let it through.
        """
        if self._connection.ready():
            return self._send(subject, request, until, beaten)
        return self._send_later(subject, request, until, until if send_by is None else min(until, send_by), beaten)

    def _send(
        self, subject: str, request: ExecRequest, until: float, beaten: Beaten | None
    ) -> asyncio.Future[ExecReply | None]:
        # not to be guessed: a responder sees the inbox, and must not answer for others
        token = self._tokens.pop() if self._tokens else self._more_tokens()
        headers = request.headers(None if beaten is None else self._beats + token)
        head, size = len(headers), len(headers) + len(request.body)
        if size > self._limit or (size > _SMALL and size > self._connection.max_payload):
            raise TooLarge("request", size, min(self._limit, self._connection.max_payload))
        self._connection.send(
            b"HPUB %b %d %d\r\n%b%b\r\n"
            % (f"{subject} {self._inbox}{token}".encode(), head, size, headers, request.body)
        )
        future: asyncio.Future[ExecReply | None] = self._loop.create_future()
        self._table[token.encode()] = _Waiting(future, until, request.task_id, request.type, beaten, subject)
        if until < self._due:
            self._look_at(until)
        return future

    def _more_tokens(self) -> str:
        digits = os.urandom(_RANDOM_BYTES).hex()
        self._tokens = [digits[at : at + _TOKEN_DIGITS] for at in range(0, len(digits), _TOKEN_DIGITS)]
        return self._tokens.pop()

    async def _send_later(
        self, subject: str, request: ExecRequest, until: float, send_by: float, beaten: Beaten | None
    ) -> ExecReply | None:
        """Send as soon as there is a server and room in the send buffer."""
        while self._loop.time() < send_by:
            await asyncio.sleep(_ROOM_SECONDS)
            if self._connection.ready() and self._loop.time() < send_by:
                return await self._send(subject, request, until, beaten)
        raise Unavailable("no server, or no room in the send buffer, in time")

    def _replied(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        token = subject[self._inbox_length :]
        waiting = self._table.pop(token, None)
        if waiting is None:
            kind, over = self._recall(token)
            self._journal.note(ReplyIgnored(kind, *over))
            return
        self._answered.put(token, waiting)
        if waiting.future.done():  # nobody waits for it any more
            self._journal.note(ReplyIgnored("late", waiting.type, waiting.task_id))
        else:
            waiting.future.set_result(read_reply(headers, body))

    def _refused(self, subject: str) -> None:
        """Fail the newest request on this subject: each that is refused is told, and older ones may be worked on."""
        for token, waiting in reversed(self._table.items()):
            if waiting.subject.lower() == subject:
                del self._table[token]
                if not waiting.future.done():
                    waiting.future.set_exception(NotPermitted(waiting.subject))
                    waiting.future.exception()  # an attempt that was cancelled meanwhile never looks
                return

    def _beaten(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        token = subject[self._beats_length :]
        waiting = self._table.get(token)
        if waiting is None:
            _, over = self._recall(token)
            self._journal.note(BeatIgnored("over" if over[1] else "unknown", *over))
            return
        until = None if waiting.beaten is None or waiting.future.done() else waiting.beaten(body)
        if until is None:
            self._journal.note(BeatIgnored("over", waiting.type, waiting.task_id))
        else:
            waiting.until = until  # looked at when the timer fires: a flood of beats moves no timers

    def _look_at(self, due: float) -> None:
        """Look for what is over at `due`, with the one timer of all requests: most are answered long before."""
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._give_up) if due < math.inf else None

    def _give_up(self) -> None:
        now = self._loop.time()
        for token in [token for token, waiting in self._table.items() if waiting.until <= now]:
            waiting = self._table.pop(token)
            self._given_up.put(token, waiting)
            if not waiting.future.done():
                waiting.future.set_result(None)
        self._look_at(min((waiting.until for waiting in self._table.values()), default=math.inf))

    def _recall(self, token: bytes) -> tuple[str, tuple[str, str]]:
        """Tell what a further reply to this request is (late, duplicate), and its type and task where still known."""
        over = self._answered.get(token)
        if over is not None:
            return "duplicate", over
        return "late", self._given_up.get(token) or ("", "")


class _Remembered:
    """Type and task of the newest requests that wait no more: of `least` at least, of twice as many at most."""

    __slots__ = ("_before", "_least", "_now")

    def __init__(self, least: int) -> None:
        self._least = least
        self._now: dict[bytes, tuple[str, str]] = {}
        self._before: dict[bytes, tuple[str, str]] = {}

    def put(self, token: bytes, waiting: _Waiting) -> None:
        self._now[token] = (waiting.type, waiting.task_id)
        if len(self._now) >= self._least:
            self._before, self._now = self._now, {}

    def get(self, token: bytes) -> tuple[str, str] | None:
        return self._now.get(token) or self._before.get(token)
