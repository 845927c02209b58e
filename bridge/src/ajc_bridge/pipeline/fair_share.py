"""Slots among queues by weight: whoever has the smallest share of what its weight gives it gets the next free slot.

A slot is held before an item is pulled, so nothing is leased that could not run. Idle queues hold at most one slot
each, for the pull that waits for their next item; while others want more, they only look in for a moment.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from ajc_bridge.happenings import SlotsChanged
from ajc_bridge.ports import Journal

IDLE_WAIT_SECONDS: Final = 5.0


class Grant(msgspec.Struct, frozen=True):
    """`slots` are held for the asker; its pull may wait `wait` seconds for a first item."""

    slots: int
    wait: float


class _Lane:
    """One queue's account."""

    __slots__ = ("busy", "hungry", "leaving", "limit", "used", "waiter", "weight")

    def __init__(self, weight: int, limit: int) -> None:
        self.weight = weight
        self.limit = limit
        self.used = 0
        self.busy = 0
        self.hungry = False
        self.leaving = False
        self.waiter: asyncio.Future[Grant] | None = None

    @property
    def room(self) -> int:
        return 1 << 30 if self.limit <= 0 else self.limit - self.used


class FairShare:
    """`total` slots among lanes with weights and limits of their own (a limit of 0 or less is none)."""

    def __init__(self, total: int, journal: Journal) -> None:
        self._total = total
        self._used = 0
        self._busy = 0
        self._lanes: dict[str, _Lane] = {}
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._scheduled = False

    def add(self, name: str, weight: int, limit: int) -> None:
        """Let a queue take part."""
        self._lanes[name] = _Lane(weight, limit)

    def remove(self, name: str) -> None:
        """Let it take part no longer; slots that it still holds come back when they are released."""
        lane = self._lanes[name]
        lane.leaving = True
        if lane.waiter is not None:
            lane.waiter.cancel()
        if lane.used == 0:
            del self._lanes[name]

    def change(self, name: str, weight: int, limit: int) -> None:
        """Give a queue another weight or limit, from the next free slot on."""
        lane = self._lanes[name]
        lane.weight, lane.limit = weight, limit
        self._soon()

    def resize(self, total: int) -> None:
        """Make more slots, or fewer as they come free."""
        self._total = total
        self._soon()

    async def acquire(self, name: str, *, hungry: bool) -> Grant:
        """Wait for slots: as many as are fair when `hungry` (items are known to wait), else one."""
        lane = self._lanes[name]
        assert lane.waiter is None  # one asker per queue
        lane.hungry = hungry
        lane.waiter = self._loop.create_future()
        self._soon()
        waiter = lane.waiter
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(name, waiter.result().slots)
            raise
        finally:
            lane.waiter = None

    def start(self, name: str, *, reserved: bool = True) -> None:
        """Give a held slot its item. `reserved` False: no pull waited for the item, and it takes a slot beyond."""
        lane = self._lanes[name]
        lane.busy += 1
        self._busy += 1
        if not reserved:
            lane.used += 1
            self._used += 1

    def finish(self, name: str) -> None:
        """One item is done with: its slot is free."""
        self._lanes[name].busy -= 1
        self._busy -= 1
        self.release(name, 1)

    def release(self, name: str, slots: int) -> None:
        """Give back slots that got no item."""
        if slots:
            lane = self._lanes[name]
            lane.used -= slots
            self._used -= slots
            if lane.leaving and lane.used == 0:
                del self._lanes[name]
            self._soon()

    @property
    def busy(self) -> int:
        """Slots whose item is being worked on."""
        return self._busy

    def _soon(self) -> None:
        # all that comes free in one turn of the loop is shared out at once, so that pulls are for many items
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._share_out)

    def _share_out(self) -> None:
        self._scheduled = False
        waiting = {n: lane for n, lane in self._lanes.items() if lane.waiter is not None and not lane.waiter.done()}
        granted = dict.fromkeys(waiting, 0)
        free = self._total - self._used
        eligible = [(n, lane) for n, lane in waiting.items() if lane.room > 0]
        while free > 0 and eligible:
            name, lane = min(eligible, key=_share) if len(eligible) > 1 else eligible[0]
            take = min(free, lane.room) if len(eligible) == 1 and lane.hungry else 1
            granted[name] += take
            lane.used += take
            self._used += take
            free -= take
            if not lane.hungry or lane.room <= 0:
                eligible.remove((name, lane))
        contended = any(lane.hungry for lane in waiting.values())
        pulling = self._used - self._busy
        roomy = not contended and (len(self._lanes) == 1 or (free > 0 and pulling <= max(1, self._total // 2)))
        for name, slots in granted.items():
            lane = waiting[name]
            if slots and lane.waiter is not None:
                lane.waiter.set_result(Grant(slots, IDLE_WAIT_SECONDS if roomy and not lane.hungry else 0.0))
        self._journal.note(SlotsChanged(self._total, self._busy, self._used - self._busy))


def _share(entry: tuple[str, _Lane]) -> float:
    lane = entry[1]
    return (lane.used + 1) / lane.weight
