"""Slots among queues by weight: whoever has the smallest share of what its weight gives it gets the next free slot.

A slot is held before an item is pulled, so nothing is leased that could not run. Idle queues hold at most one slot
each, for the pull that waits for their next item; while others want more, they only look in for a moment.

A queue that is known to have items and is busy fetching some will ask again within milliseconds: its share is kept for
it meanwhile, else whoever happens to ask just then would take what belongs to others. Many queues with quick tasks
have their shares over time instead, in turns: see `turns`.
"""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heapreplace
from typing import Final

import msgspec

from ajc_bridge.happenings import SlotsChanged
from ajc_bridge.pipeline.accounts import Account
from ajc_bridge.pipeline.turns import plan_turns, slots_in_turns, take_turns
from ajc_bridge.ports import Journal

IDLE_WAIT_SECONDS: Final = 5.0
_SLOTS_PER_LOOK: Final = 4
"""One slot in so many is for queues that look whether they have items, while others are known to have some."""
_TURN_SECONDS: Final = 0.05
"""So long at most slots are kept back until they are worth a turn: then they are shared out as everywhere else."""


class Grant(msgspec.Struct, frozen=True):
    """`slots` are held for the asker; its pull may wait `wait` seconds for a first item.

    `due` is how many slots it would have if all that want some now had their share.
    """

    slots: int
    wait: float
    due: int = 1


_Lane = Account[Grant]


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
        self._looked = self._loop.time()
        self._turn: asyncio.TimerHandle | None = None
        self._last_turn = 0.0
        self._overdue = False
        self._look_next = False

    def add(self, name: str, weight: int, limit: int) -> None:
        """Let a queue take part, again if it had left."""
        lane = self._lanes.get(name)
        if lane is None:
            self._pass_time()
            self._looked = self._loop.time()  # accounts are kept from the second queue on
            self._lanes[name] = _Lane(weight, limit)
        else:  # what it still holds stays in its account
            lane.leaving = False
            self.change(name, weight, limit)

    def remove(self, name: str) -> None:
        """Let it take part no longer; slots that it still holds come back when they are released."""
        lane = self._lanes[name]
        lane.leaving = True
        self._soon()  # what was kept for it is there for others
        if lane.waiter is not None:
            lane.waiter.cancel()
        if lane.used == 0:
            del self._lanes[name]

    def change(self, name: str, weight: int, limit: int) -> None:
        """Give a queue another weight or limit, from the next free slot on."""
        self._soon()
        lane = self._lanes[name]
        lane.weight, lane.limit = weight, limit

    def resize(self, total: int) -> None:
        """Make more slots, or fewer as they come free."""
        self._total = total
        self._soon()

    async def acquire(self, name: str, *, hungry: bool) -> Grant:
        """Wait for slots: as many as are fair when `hungry` (items are known to wait), else one."""
        lane = self._lanes[name]
        assert lane.waiter is None  # one asker per queue
        if hungry and not lane.hungry:  # what it has not had while it wanted nothing gives it no claim now
            lane.had = max(lane.had, min((one.had for one in self._lanes.values() if one.hungry), default=0.0))
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
        if lane.waits or not reserved:
            self._soon()  # it waited, or was not even held, until now
        lane.busy += 1
        self._busy += 1
        if not reserved:
            lane.used += 1
            self._used += 1

    def finish(self, name: str) -> None:
        """One item is done with: its slot is free."""
        lane = self._lanes[name]
        self._soon()
        lane.busy -= 1
        lane.finished += 1
        self._busy -= 1
        self._give_back(name, lane, 1)

    def release(self, name: str, slots: int) -> None:
        """Give back slots that got no item: there were no more."""
        if slots:
            lane = self._lanes[name]
            self._soon()
            lane.hungry = False
            self._give_back(name, lane, slots)

    def _give_back(self, name: str, lane: _Lane, slots: int) -> None:
        lane.used -= slots
        self._used -= slots
        if lane.leaving and lane.used == 0:
            del self._lanes[name]

    @property
    def busy(self) -> int:
        """Slots whose item is being worked on."""
        return self._busy

    def _soon(self) -> None:
        """Before anything changes: share out in a moment, all that comes free in this turn of the loop at once."""
        if not self._scheduled:
            self._pass_time()  # until now they held what they hold
            self._scheduled = True
            self._loop.call_soon(self._share_out)

    def _share_out(self) -> None:
        self._scheduled = False
        self._pass_time()
        if self._used < self._total:
            asking = [lane for lane in self._lanes.values() if lane.waiter is not None and not lane.waiter.done()]
            if asking:
                self._grant(asking)
        self._journal.note(SlotsChanged(self._total, self._busy, self._used - self._busy))

    def _pass_time(self) -> None:
        if len(self._lanes) > 1:  # who is alone has no use for an account
            now = self._loop.time()
            passed, self._looked = now - self._looked, now
            for lane in self._lanes.values():
                if lane.used:
                    lane.pass_time(passed)

    def _look_again(self) -> None:
        left = self._last_turn + _TURN_SECONDS - self._loop.time()
        if left > 0:
            self._turn = self._loop.call_later(left, self._look_again)
            return
        self._turn = None
        self._overdue = True
        self._soon()

    def _grant(self, asking: list[_Lane]) -> None:
        free, contended = self._plan(asking)
        granted = sum(lane.planned for lane in asking)
        self._used += granted
        pulling = self._used - self._busy
        roomy = not contended and (len(self._lanes) == 1 or (free > 0 and pulling <= max(1, self._total // 2)))
        for lane in asking:
            if lane.planned and lane.waiter is not None:
                lane.used += lane.planned
                lane.passed = 0
                wait = IDLE_WAIT_SECONDS if roomy and not lane.hungry else 0.0
                lane.waits = wait > 0
                lane.waiter.set_result(Grant(lane.planned, wait, lane.due))
            elif lane.used == 0:
                lane.passed += granted

    def _without_looks(self, wanting: list[_Lane], free: int) -> list[_Lane]:
        """Leave out idle queues that would look in beyond their part of the slots while others have items.

        Each look is short, but hundreds of queues that look in all the time would leave those with items next to none.
        Who has waited longest for its look comes first.
        """
        idle = [lane for lane in wanting if not lane.hungry]
        if not idle or len(idle) == len(wanting):
            return wanting
        most = max(1, self._total // _SLOTS_PER_LOOK)
        # those whose pull waits were let in while nobody had items, and hold their slots for seconds
        most -= sum(1 for lane in self._lanes.values() if not lane.hungry and lane.used > lane.busy and not lane.waits)
        if self._total < _SLOTS_PER_LOOK and free == 1:  # the one slot goes to either in turn
            self._look_next = not self._look_next
            most = min(most, int(self._look_next))
        if most >= len(idle):
            return wanting
        idle.sort(key=lambda lane: lane.passed, reverse=True)
        return [lane for lane in wanting if lane.hungry] + idle[: max(0, most)]

    def _plan(self, asking: list[_Lane]) -> tuple[int, bool]:
        """Say in `planned` what each asker gets; return what is left free, and whether anybody wants more than that."""
        wanting = []
        for lane in self._lanes.values():
            lane.planned = 0
            asks = lane.waiter is not None and not lane.waiter.done()
            if (lane.hungry or asks) and lane.room > 0 and not lane.leaving:
                wanting.append(lane)
        free = max(0, self._total - self._used)
        if len(wanting) == 1:
            (lane,) = wanting
            lane.due = self._total
            lane.planned = min(free, lane.room if lane.hungry else 1)
            return free - lane.planned, lane.hungry
        wanting = self._without_looks(wanting, free)
        weights = sum(lane.weight for lane in wanting)
        for lane in wanting:
            lane.due = self._total * lane.weight // weights
        turning = slots_in_turns(self._lanes.values(), self._total)
        overdue, self._overdue = self._overdue, False
        if not overdue and take_turns(wanting, turning):
            for lane in wanting:
                lane.due = turning * lane.weight // weights
            # of those that want some: a look beyond the part for looks has to wait here, too
            turns = [lane for lane in wanting if lane.waiter is not None and not lane.waiter.done()]
            left = plan_turns(wanting, turns, turning, free)
            if any(lane.planned and lane.hungry for lane in asking):
                self._last_turn = self._loop.time()
            if left and self._turn is None:
                self._turn = self._loop.call_later(_TURN_SECONDS, self._look_again)
            return left, True
        queue = [(lane.share(weights), place, lane) for place, lane in enumerate(wanting)]
        heapify(queue)
        while free > 0 and queue:
            _, place, lane = queue[0]
            lane.planned += 1
            free -= 1
            if lane.hungry and lane.planned < lane.room:
                heapreplace(queue, ((lane.used + lane.planned + 1) / lane.weight, place, lane))
            else:
                heappop(queue)
        return free, any(lane.hungry for lane in wanting)
