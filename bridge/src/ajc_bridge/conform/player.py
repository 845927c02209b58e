"""Plays the bridge: sends requests from a private inbox, and notes every reply and every beat with its time."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Self

import msgspec

from ajc.connection import Connection
from ajc.exchange import ExecReply, ReplyKind, read_reply
from ajc.subjects import BEAT_SUBJECTS
from ajc_bridge.conform.ask import Ask, Sent, compose
from ajc_bridge.conform.verdict import Broken
from ajc_bridge.conform.words import reply_words, sent_words

REPLY_SECONDS: Final = 10.0
"""How long a reply to a quick task may take: much, since the machine may be busy."""
SILENT_SECONDS: Final = 2.0
"""The same once that task has left a request without reply."""
BUSY_SECONDS: Final = 10.0
"""How long a responder may be busy with what the kit itself has asked, beyond the time that this takes."""
GRACE_SECONDS: Final = 2.0
"""How long one type may be served later than another."""
SIGN_SECONDS: Final = 2.0
"""How long a handler may take to start."""
MESSAGES_KEPT: Final = 1_000
"""Replies and beats of one request; what comes beyond that is counted only."""
BYTES_KEPT: Final = 64 << 20
"""Bytes of bodies of all of them; beyond that only the first reply of each request is kept."""
_AGAIN_SECONDS: Final = 0.05
_PROBE_SECONDS: Final = 1.0
_LONG_WORK: Final = 20.0  # what the checks ask for at once, one after another
_AT_ONCE: Final = 8


class Reply(msgspec.Struct, frozen=True):
    """One message on the inbox of a request. `at` is of the loop's clock, in seconds."""

    at: float
    headers: bytes | None
    body: bytes
    read: ExecReply

    @property
    def kind(self) -> ReplyKind:
        """What it says."""
        return self.read.kind


class Beat(msgspec.Struct, frozen=True):
    """One message on the beat subject of a request."""

    at: float
    body: bytes


class Exchange:
    """One request and all that came of it."""

    def __init__(self, sent: Sent, at: float) -> None:
        self.sent = sent
        self.at = at
        self.replies: list[Reply] = []
        self.beats: list[Beat] = []
        self.shared = False  # the kit itself was among those who answer
        self._changed = asyncio.Event()

    @property
    def reply(self) -> Reply | None:
        """The first reply, if there is one."""
        return self.replies[0] if self.replies else None

    def note(self, what: Reply | Beat) -> None:
        """Keep a message."""
        if isinstance(what, Reply):
            self.replies.append(what)
        else:
            self.beats.append(what)
        self._changed.set()

    async def replied(self, seconds: float) -> Reply | None:
        """Wait for the first reply, at most so long."""
        await self._until(seconds, beats=False)
        return self.reply

    async def sign(self, seconds: float) -> None:
        """Wait for the first beat or reply, at most so long."""
        await self._until(seconds, beats=True)

    def broken(self, expected: str, seen: str = "") -> Broken:
        """Make the failure: what was seen is the first reply, unless said otherwise."""
        return Broken(sent_words(self.sent), expected, seen or reply_words(self, self.reply))

    async def _until(self, seconds: float, *, beats: bool) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not (self.replies or (beats and self.beats)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass


_Wait = Callable[[Exchange], Awaitable[object]]


class Player:
    """A bridge of the kit's own making, for one family of types under one prefix."""

    def __init__(self, connection: Connection, prefix: str, family: str) -> None:
        self.connection = connection
        self.prefix = prefix
        self.family = family
        self.bridge = f"conform-{secrets.token_hex(4)}"
        self.alone = False  # nobody but the responder can be on this server, or nobody was before it
        self.taken_before = ""  # a subject that somebody took before the responder was started
        self.exchanges: list[Exchange] = []
        self.asked: Counter[str] = Counter()  # requests for each task
        self.unkept = 0
        """How many replies and beats were not kept, as there were too many."""
        self._bytes = 0
        self._inbox = f"{connection.inbox_prefix}.{secrets.token_hex(8)}."
        self._open: dict[str, Exchange] = {}
        self._silent: set[str] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, connection: Connection, prefix: str, family: str) -> Self:
        """Listen for replies and beats. A beat's last token is its request's: beats elsewhere are found by it, too."""
        player = cls(connection, prefix, family)
        await connection.subscribe_raw(f"{player._inbox}*", player._replied)
        await connection.subscribe_raw(BEAT_SUBJECTS, player._beaten)
        await connection.flush()
        return player

    def kind(self, task: str) -> str:
        """Return the type of a scripted task."""
        return f"{self.family}:{task}"

    def send(self, ask: Ask) -> Exchange:
        """Send a request, and return what will come of it."""
        token = secrets.token_hex(8)
        sent = compose(ask, prefix=self.prefix, family=self.family, bridge=self.bridge, attempt=token)
        exchange = self._open[token] = Exchange(sent, self._loop.time())
        self.exchanges.append(exchange)
        if not ask.subject:
            self.asked[ask.task] += 1
        self.connection.publish(sent.subject, sent.body, headers=sent.headers, reply=self._inbox + token)
        return exchange

    async def answered(self, ask: Ask, *, busy: bool = False, seconds: float = REPLY_SECONDS) -> Exchange:
        """Ask, and return it once it is answered; `Broken` without a reply in time.

        Like a bridge it asks again when the responder is busy, unless `busy` is a reply like any other here.
        """
        async with self._room:
            limit = min(seconds, SILENT_SECONDS) if ask.task in self._silent else seconds
            exchange = await self._accepted(ask, lambda sent: sent.replied(limit), busy=busy)
        if exchange.reply is None:
            self._silent.add(ask.task)
            raise exchange.broken(f"a reply within {seconds:g} s", "no reply")
        return exchange

    async def result(self, ask: Ask, *, seconds: float = REPLY_SECONDS) -> bytes:
        """Ask for something that must succeed, and return its result."""
        exchange = await self.answered(ask, seconds=seconds)
        assert exchange.reply is not None
        if exchange.reply.kind != "success":
            raise exchange.broken("a result")
        return exchange.reply.body

    async def begun(self, ask: Ask) -> Exchange:
        """Ask, and return it once a beat or a reply came, or the handler has had time enough to start."""
        return await self._accepted(ask, lambda sent: sent.sign(SIGN_SECONDS))

    async def watched(self, ask: Ask, seconds: float) -> Exchange:
        """Ask, and return it so many seconds later, whatever came."""
        exchange = await self._accepted(ask, lambda sent: sent.replied(seconds))
        await self.until(exchange.at + seconds)
        return exchange

    async def until(self, moment: float) -> None:
        """Wait for a moment of the loop's clock."""
        await asyncio.sleep(max(0.0, moment - self._loop.time()))

    async def serves(self, task: str, seconds: float) -> bool:
        """Ask until somebody answers, for so long at most; whatever is answered will do."""
        return await self._probed(task, seconds, lambda reply: reply is not None and reply.kind != "no_responder")

    async def gone(self, task: str, seconds: float) -> bool:
        """Ask until the server answers that nobody is there, for so long at most."""
        return await self._probed(task, seconds, lambda reply: reply is not None and reply.kind == "no_responder")

    async def _probed(self, task: str, seconds: float, wanted: Callable[[Reply | None], bool]) -> bool:
        limit = self._loop.time() + seconds
        while True:
            exchange = self.send(Ask(task=task))
            exchange.shared = True  # what is on its way to somebody who starts or ends may be lost
            if wanted(await exchange.replied(_PROBE_SECONDS)):
                return True
            if self._loop.time() > limit:
                return False
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _accepted(self, ask: Ask, wait: _Wait, *, busy: bool = False) -> Exchange:
        began = self._loop.time()
        while True:
            exchange = self.send(ask)
            await wait(exchange)
            kind = exchange.reply.kind if exchange.reply is not None else ""
            passed = self._loop.time() - began
            if kind == "no_responder":
                if passed > GRACE_SECONDS:
                    raise exchange.broken(f"a subscription to {exchange.sent.subject}")
            elif kind == "busy" and not busy:
                if passed > BUSY_SECONDS + (_LONG_WORK if ask.task == "slow" else 0.0):
                    raise exchange.broken("room for this task, at some time")
            else:
                return exchange
            await asyncio.sleep(_AGAIN_SECONDS)

    def _replied(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        exchange = self._open.get(subject.decode("utf-8", "replace").rpartition(".")[2])
        # the first reply is what most rules are about
        if exchange is not None and (not exchange.replies or self._has_room(exchange, len(body) + len(headers or b""))):
            exchange.note(Reply(self._loop.time(), headers, body, read_reply(headers, body)))

    def _beaten(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        exchange = self._open.get(subject.decode("utf-8", "replace").rpartition(".")[2])
        if exchange is not None and self._has_room(exchange, len(body) + len(headers or b"")):
            exchange.note(Beat(self._loop.time(), body))

    def _has_room(self, exchange: Exchange, size: int) -> bool:
        """Count a message, and say whether to keep it: a responder may send without end."""
        if len(exchange.replies) + len(exchange.beats) >= MESSAGES_KEPT or self._bytes + size > BYTES_KEPT:
            self.unkept += 1
            return False
        self._bytes += size
        return True
