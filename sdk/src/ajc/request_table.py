"""Requests that wait for their answers: one private inbox, a table of futures, one sweep for what is over."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ajc.answers import STATUS, Answer
from ajc.errors import NotPermitted, RequestTimeout, Unavailable

_SWEEP_SECONDS: Final = 0.05


class _Pending(msgspec.Struct, gc=False):
    """One outstanding request: what reads its answer, and until when it waits. Made for every save, so it is cheap."""

    future: asyncio.Future[Any]
    read: Callable[[bytes, bytes | None], Any]
    deadline: float
    subject: str
    seconds: float
    through_reconnect: bool
    many: list[Answer] | None = None


class RequestTable:
    """Each request has a token; its answer comes on the inbox with that token. Times are seconds."""

    def __init__(self, inbox_prefix: str) -> None:
        self.inbox = f"{inbox_prefix}.{secrets.token_hex(8)}."
        self._table: dict[bytes, _Pending] = {}
        self._count = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._table)

    def open(
        self,
        subject: str,
        timeout: float,
        read: Callable[[bytes, bytes | None], Any],
        through_reconnect: bool,
        many: list[Answer] | None = None,
    ) -> tuple[str, asyncio.Future[Any]]:
        """Return the subject that the answer comes on, and its future: `read` of it, or an error.

        With `many`, all but the last answer come there. A request that does not go out then is to be forgotten.
        """
        self._count += 1
        inbox = f"{self.inbox}{self._count}"
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        self._table[inbox.encode()] = _Pending(
            future, read, loop.time() + timeout, subject, timeout, through_reconnect, many
        )
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)
        return inbox, future

    def forget(self, inbox: str) -> None:
        """Wait for this answer no longer."""
        self._table.pop(inbox.encode(), None)

    def answered(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        """Take a message on the inbox; one that nobody waits for any more is nothing."""
        pending = self._table.get(subject)
        if pending is None:
            return
        if pending.many is not None and not (headers is not None and headers.startswith(STATUS)):
            pending.many.append(Answer(body, headers))
            return
        del self._table[subject]
        if pending.future.done():
            return
        try:
            pending.future.set_result(pending.read(body, headers))
        except Exception as error:  # noqa: BLE001  (whatever it is, it is for who waits: nobody else is told)
            pending.future.set_exception(error)

    def fail(self, error: Unavailable, *, everything: bool) -> None:
        """Fail what waits: `everything`, or only what does not outlast a reconnect."""
        for token, pending in list(self._table.items()):
            if everything or not pending.through_reconnect:
                del self._table[token]
                if not pending.future.done():
                    pending.future.set_exception(error)
                    pending.future.exception()  # a caller that was cancelled meanwhile never looks

    def refuse(self, subject: str) -> None:
        """Fail what was asked on this subject, written in any case: the server did not take it."""
        for token, pending in list(self._table.items()):
            if pending.subject.lower() == subject.lower():
                del self._table[token]
                if not pending.future.done():
                    pending.future.set_exception(NotPermitted(pending.subject))
                    pending.future.exception()  # a caller that was cancelled meanwhile never looks

    def stop(self) -> None:
        """Sweep no more."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep(self) -> None:
        now = self._loop.time()
        over = [token for token, pending in self._table.items() if pending.deadline <= now or pending.future.done()]
        for token in over:
            pending = self._table.pop(token)
            if not pending.future.done():
                pending.future.set_exception(RequestTimeout(pending.subject, pending.seconds))
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep) if self._table else None
