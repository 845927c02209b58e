"""One queue's account of slots: what it holds, what it is due, what it has had, and how soon it gives them back."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar

_QUICK_SECONDS: Final = 0.1
_KNOWN_BY: Final = 32
_WINDOW: Final = 256

_T = TypeVar("_T")


class Account(Generic[_T]):
    """The slots of one queue, by its `weight` and within its `limit` (0 or less is none).

    `used` are held, `busy` of them with an item; `planned` is what the present sharing gives; `due` is what it would
    hold if all that want some now had their share. `had` is what it has held so far, in slot-seconds for a weight of 1.
    `finished` counts its items of late. `waits`: its last pull may wait for items.
    """

    __slots__ = (
        "_held",
        "busy",
        "due",
        "finished",
        "had",
        "hungry",
        "leaving",
        "limit",
        "passed",
        "planned",
        "used",
        "waiter",
        "waits",
        "weight",
    )

    def __init__(self, weight: int, limit: int) -> None:
        self.weight = weight
        self.limit = limit
        self.used = 0
        self.busy = 0
        self.planned = 0
        self.due = 1
        self.passed = 0
        self.hungry = False
        self.leaving = False
        self.waiter: asyncio.Future[_T] | None = None
        self.waits = False
        self.had = 0.0
        self._held = 0.0
        self.finished = 0

    def share(self, weights: int) -> float:
        """Return how much of its due one more slot would be; `weights` are those of all that want some.

        A queue whose due is less than one slot gets one when it was passed over as often as that is fair.
        """
        if self.used == 0 and self.passed * self.weight >= weights:
            return 0.0
        return (self.used + 1) / self.weight

    @property
    def room(self) -> int:
        """How many more slots its limit allows."""
        return 1 << 30 if self.limit <= 0 else self.limit - self.used

    def pass_time(self, seconds: float) -> None:
        """Take note that it has held what it holds for so long."""
        spent = self.used * seconds
        self.had += spent / self.weight
        # a pull that may wait for an item holds its slot for as long as none comes: that says nothing about its tasks
        self._held += (self.busy if self.waits else self.used) * seconds
        if self.finished >= _WINDOW:
            self._held /= 2
            self.finished //= 2

    @property
    def quick(self) -> bool:
        """Whether it is known to give a slot back within a moment; items that run on and on end that, too."""
        return self.finished >= _KNOWN_BY and self._held < _QUICK_SECONDS * self.finished
