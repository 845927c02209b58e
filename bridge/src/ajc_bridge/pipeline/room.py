"""Room at responders: an attempt that was refused for want of it looks for some, or waits a moment for an end.

A queue group hands each request to one of its responders by chance, so that the only free one of ten is found after
ten requests, as the mean goes. One attempt of a type at a time goes on asking, within a budget that all attempts of the
type share; the others wait. Each end of an attempt wakes one of them, too. Without this a burst beyond the responders'
concurrency would only come back second by second, and they would idle in between. The wait holds a slot, so it is
short, and few wait at a time: twice as many as are taken on here. The rest is parked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

HOLD_SECONDS: Final = 1.0
"""How long an attempt looks and waits for room, all in all."""
SEARCH_REQUESTS: Final = 64
"""So many requests in a row find one free responder of ten in 99.9 of 100 cases."""
SEARCH_PER_SECOND: Final = 64
"""So fast the budget of a type grows again, up to `SEARCH_REQUESTS`."""
SEARCH_PER_END: Final = 16
"""So much an end adds to it: where there was one there is room, at one of them."""
_WAITING_PER_RUNNING: Final = 2
_FEW: Final = 4
_FIRST_TURN_SECONDS: Final = 0.02
_SHORTEST_TURN: Final = 0.005
_LONGEST_TURN: Final = 0.25
_TURN_PER_ROUND_TRIP: Final = 4
_SHORTEST_LOOK: Final = 0.001


class _Type:
    """One type's account: requests without an answer, attempts that wait, and what may still be asked in search."""

    __slots__ = (
        "asked",
        "budget",
        "counted",
        "ended",
        "look_at",
        "presumed",
        "searching",
        "timer",
        "turn",
        "turn_seconds",
        "waiting",
    )

    def __init__(self, now: float) -> None:
        self.asked: dict[int, float] = {}  # when each request went out, the oldest first
        self.ended = -HOLD_SECONDS  # when one ended that had been taken on
        self.waiting: deque[asyncio.Future[bool]] = deque()
        self.budget = float(SEARCH_REQUESTS)
        self.counted = now
        self.turn = 0.0  # since when somebody searches and has no answer; 0: nobody does
        self.searching = 0  # their request, once it is out
        self.presumed: set[int] = set()  # searches that were taken on, as it seemed by the time they took
        self.turn_seconds = _FIRST_TURN_SECONDS
        self.timer: asyncio.TimerHandle | None = None
        self.look_at = 0.0


class Room:
    """Counts the requests under way by type."""

    def __init__(self) -> None:
        self._types: dict[str, _Type] = {}
        self._loop = asyncio.get_running_loop()
        self._count = 0

    def asked(self, type_: str) -> int:
        """Take note that a request goes out, and return its number."""
        now = self._loop.time()
        known = self._types.get(type_)
        if known is None:
            known = self._types[type_] = _Type(now)
        self._count += 1
        known.asked[self._count] = now
        if known.turn and not known.searching:
            known.searching = self._count
        return self._count

    def answered(self, type_: str, request: int, kind: str) -> None:
        """Take note of a request's end, by the kind of its reply: of one that somebody had taken on makes room.

        That is any kind but `busy` and `no_responder`, which also stands for a request that never left.
        """
        known = self._types[type_]
        asked = known.asked.pop(request)
        if kind == "busy":
            if _not_taken_on(known, request):
                took = (self._loop.time() - asked) * _TURN_PER_ROUND_TRIP
                known.turn_seconds = min(max(took, _SHORTEST_TURN), _LONGEST_TURN)
        elif kind == "no_responder":
            _not_taken_on(known, request)
        else:
            known.presumed.discard(request)
            known.ended = self._loop.time()
            if known.timer is not None or known.waiting:
                known.budget = min(known.budget + SEARCH_PER_END, SEARCH_REQUESTS)
                _wake(known.waiting, room=True)
        if not known.asked:
            if known.waiting and not known.turn and not self._search(type_, known):
                while known.waiting:  # nothing is left whose end would make room
                    _wake(known.waiting, room=False)
            if not known.waiting and known.timer is None:
                del self._types[type_]

    def in_use(self, type_: str) -> bool:
        """Tell whether somebody works on requests of this type: for longer than a refusal takes, or until just now.

        Those that only look for room do not count: else all that are refused would keep each other from waiting longer.
        """
        known = self._types.get(type_)
        if known is None:
            return False
        since = self._loop.time() - HOLD_SECONDS
        return known.ended > since or next(iter(known.asked.values()), since) < since

    async def wait(self, type_: str, seconds: float, *, again: bool = False) -> bool:
        """Wait until it is worth while to ask again; False when that was not in time, or too many wait already.

        `again`: it waited before, and keeps its place.
        """
        if seconds <= 0:
            return False
        known = self._types.get(type_)
        if known is None:
            known = self._types[type_] = _Type(self._loop.time())
        if not again and len(known.waiting) >= max(_FEW, _WAITING_PER_RUNNING * len(known.asked)):
            return False
        waiter: asyncio.Future[bool] = self._loop.create_future()
        if again:
            known.waiting.appendleft(waiter)
        else:
            known.waiting.append(waiter)
        timer = self._loop.call_later(seconds, _give_up, waiter)
        try:
            if not known.turn and not self._search(type_, known) and not known.asked:
                return False
            return await waiter
        finally:
            timer.cancel()
            if waiter in known.waiting:
                known.waiting.remove(waiter)

    def _search(self, type_: str, known: _Type) -> bool:
        """Let the first that waits ask; False when the budget is used up, and it is looked at again once it is not."""
        if self._budget(known) < 1:
            self._look_in(type_, known, (1 - known.budget) / SEARCH_PER_SECOND)
            return False
        known.budget -= 1
        known.turn, known.searching = self._loop.time(), 0
        self._look_in(type_, known, known.turn_seconds)
        _wake(known.waiting, room=True)
        return True

    def _look_in(self, type_: str, known: _Type, seconds: float) -> None:
        at = self._loop.time() + max(seconds, _SHORTEST_LOOK)  # less may be no time at all to a float
        if known.timer is not None:
            if known.look_at <= at:
                return
            known.timer.cancel()
        known.look_at = at
        known.timer = self._loop.call_at(at, self._look, type_, known)

    def _look(self, type_: str, known: _Type) -> None:
        """Go on with the search: its last request was taken on, it seems, or the budget has grown."""
        known.timer = None
        if known.turn:
            left = known.turn + known.turn_seconds - self._loop.time()
            if left > 0:
                self._look_in(type_, known, left)
                return
            # no busy answer in the time that several would have taken: there was room, perhaps for more
            known.budget = min(known.budget + SEARCH_PER_END, SEARCH_REQUESTS)
            if known.searching in known.asked:
                known.presumed.add(known.searching)
            known.turn, known.searching = 0.0, 0
        if known.waiting:
            self._search(type_, known)
        elif self._budget(known) < SEARCH_REQUESTS:
            self._look_in(type_, known, (SEARCH_REQUESTS - known.budget) / SEARCH_PER_SECOND)
        elif not known.asked:
            del self._types[type_]

    def _budget(self, known: _Type) -> float:
        now = self._loop.time()
        known.budget = min(known.budget + (now - known.counted) * SEARCH_PER_SECOND, SEARCH_REQUESTS)
        known.counted = now
        return known.budget


def _not_taken_on(known: _Type, request: int) -> bool:
    """Take note that nobody took this request on, and tell whether it was a search."""
    if request == known.searching:
        known.turn, known.searching = 0.0, 0
    elif request in known.presumed:
        known.presumed.remove(request)
        known.budget -= SEARCH_PER_END  # that was added when it seemed to be taken on
    else:
        return False
    return True


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
