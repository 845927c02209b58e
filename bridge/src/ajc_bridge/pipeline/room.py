"""Room at responders: an attempt that was refused for want of it waits a moment for another one of its type to end.

Without this a burst beyond the responders' concurrency would only come back second by second, and they would idle in
between. The wait holds a slot, so it is short, and few wait at a time: twice as many as are taken on here. The rest is
parked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

HOLD_SECONDS: Final = 1.0
"""How long an attempt waits for room, all in all."""
_WAITING_PER_RUNNING: Final = 2


class _Type:
    """One type's account: requests without an answer, and attempts that wait for one of them to end."""

    __slots__ = ("asked", "waiting")

    def __init__(self) -> None:
        self.asked = 0
        self.waiting: deque[asyncio.Future[bool]] = deque()


class Room:
    """Counts the requests under way by type."""

    def __init__(self) -> None:
        self._types: dict[str, _Type] = {}
        self._loop = asyncio.get_running_loop()

    def asked(self, type_: str) -> None:
        """Take note that a request goes out."""
        known = self._types.get(type_)
        if known is None:
            known = self._types[type_] = _Type()
        known.asked += 1

    def answered(self, type_: str, *, busy: bool) -> None:
        """Take note of its end; unless the answer was `busy`, there is room for another one."""
        known = self._types[type_]
        known.asked -= 1
        if known.waiting:
            if not busy:
                _wake(known.waiting, room=True)
            if known.asked == 0:  # nothing is left whose end would make room
                while known.waiting:
                    _wake(known.waiting, room=False)
        if known.asked == 0:
            del self._types[type_]

    def in_use(self, type_: str) -> bool:
        """Tell whether requests of this type are under way: somebody works on them."""
        return type_ in self._types

    async def wait(self, type_: str, seconds: float) -> bool:
        """Wait until an attempt of this type has ended; False when none did in time, or too many wait already."""
        known = self._types.get(type_)
        if known is None or seconds <= 0 or len(known.waiting) >= _WAITING_PER_RUNNING * known.asked:
            return False
        waiter: asyncio.Future[bool] = self._loop.create_future()
        known.waiting.append(waiter)
        timer = self._loop.call_later(seconds, _give_up, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            if waiter.cancelled() and waiter in known.waiting:
                known.waiting.remove(waiter)


def _wake(waiting: deque[asyncio.Future[bool]], *, room: bool) -> None:
    """Give the word to the first that still waits for it."""
    while waiting:
        waiter = waiting.popleft()
        if not waiter.done():
            waiter.set_result(room)
            return


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
