"""Requests that wait for their answers: one private inbox, a table of futures, one timer for what is over."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ajc.answers import STATUS, Answer
from ajc.errors import NotPermitted, RequestTimeout, Unavailable

Read: TypeAlias = Callable[[bytes, bytes | None], Any]
"""What an answer's (body, header block or None) is given to; its result is the future's, and so is what it raises."""

_Pending: TypeAlias = tuple[asyncio.Future[Any], Read, float, str, float, bool, list[Answer] | None]
"""One outstanding request: future, read, deadline, subject, seconds, through a reconnect, and all answers but the last.

Made for every save, so it is nothing but a tuple.
"""
_FUTURE: Final = 0
_DEADLINE: Final = 2


class RequestTable:
    """Each request has a subject of its own below `inbox`, and its answer comes there. Times are seconds."""

    def __init__(self, inbox_prefix: str) -> None:
        self.inbox = f"{inbox_prefix}.{secrets.token_hex(8)}."
        self._prefix = self.inbox.encode()
        self._table: dict[bytes, _Pending] = {}
        self._count = 0
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return sum(1 for pending in self._table.values() if not pending[_FUTURE].done())

    def open(
        self,
        subject: str,
        timeout: float,
        read: Read,
        *,
        through_reconnect: bool = False,
        many: list[Answer] | None = None,
    ) -> tuple[bytes, asyncio.Future[Any]]:
        """Return the subject that the answer comes on, and its future: `read` of it, or an error.

        With `many`, all but the last answer come there. A request that does not go out then is to be forgotten.
        """
        self._count = count = self._count + 1
        inbox = b"%b%d" % (self._prefix, count)
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        deadline = loop.time() + timeout
        self._table[inbox] = (future, read, deadline, subject, timeout, through_reconnect, many)
        if deadline < self._due:
            self._look_at(deadline)
        return inbox, future

    def forget(self, inbox: bytes) -> None:
        """Wait for this answer no longer."""
        self._table.pop(inbox, None)

    def answered(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        """Take a message on the inbox; one that nobody waits for any more is nothing."""
        pending = self._table.pop(subject, None)
        if pending is None:
            return
        future, read, _, _, _, _, many = pending
        if many is not None and not (headers is not None and headers.startswith(STATUS)):
            self._table[subject] = pending
            many.append(Answer(body, headers))
            return
        if future.done():
            return
        try:
            future.set_result(read(body, headers))
        except Exception as error:  # noqa: BLE001  (whatever it is, it is for who waits: nobody else is told)
            future.set_exception(error)

    def fail(self, error: Unavailable, *, everything: bool) -> None:
        """Fail what waits: `everything`, or only what does not outlast a reconnect."""
        for token, (future, _, _, _, _, through_reconnect, _) in list(self._table.items()):
            if everything or not through_reconnect:
                del self._table[token]
                _fail(future, error)

    def refuse(self, subject: str) -> None:
        """Fail what was asked on this subject, written in any case: the server did not take it."""
        for token, (future, _, _, asked, _, _, _) in list(self._table.items()):
            if asked.lower() == subject.lower():
                del self._table[token]
                _fail(future, NotPermitted(asked))

    def stop(self) -> None:
        """Look for what is over no more."""
        self._look_at(math.inf)

    def _look_at(self, due: float) -> None:
        """Look for what is over at `due`, with the one timer of all requests: most are answered long before."""
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._look) if due < math.inf else None

    def _look(self) -> None:
        now = self._loop.time()
        for token in [token for token, pending in self._table.items() if pending[_DEADLINE] <= now]:
            future, _, _, subject, seconds, _, _ = self._table.pop(token)
            if not future.done():
                future.set_exception(RequestTimeout(subject, seconds))
        self._look_at(min((pending[_DEADLINE] for pending in self._table.values()), default=math.inf))


def _fail(future: asyncio.Future[Any], error: Unavailable) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a caller that was cancelled meanwhile never looks
