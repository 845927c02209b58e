"""Turns among many queues whose tasks are quick: a batch of slots each, in the order of what they have had.

With twenty queues and 200 slots each queue is due ten. Handed out as they come free, they would be pulled by twos and
threes, and every queue's stream and consumer at the server would be at work all the time, which costs it half as much
again for each task. While tasks take milliseconds, the same shares over time come cheaper in turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ajc_bridge.pipeline.accounts import Account

_WORTH: Final = 32
"""Whose due is as much has no need of turns."""


def batch_of(total: int) -> int:
    """Return the most slots that a queue may hold in its turn: two fifths, so others go on while it pulls."""
    return total * 2 // 5


def slots_in_turns(lanes: Iterable[Account[Any]], total: int) -> int:
    """Return how many of all slots are free or come back in a moment: who waits for those of slow tasks waits long."""
    return total - sum(lane.used for lane in lanes if lane.used and not lane.quick)


def take_turns(wanting: Sequence[Account[Any]], total: int) -> bool:
    """Say whether those that want slots now get them in turns: many, all known to give them back in a moment."""
    hungry = [lane for lane in wanting if lane.hungry]
    if len(hungry) * _WORTH <= total or batch_of(total) < _WORTH:
        return False
    return all(lane.quick for lane in hungry)


def plan_turns(wanting: Sequence[Account[Any]], asking: Sequence[Account[Any]], total: int, free: int) -> int:
    """Say in `planned` what each of those `asking` gets of `free` slots, and return what is left.

    Who is not known to have items gets its one slot first. A turn that is not worth its pull yet is waited for.
    """
    hungry = [lane for lane in wanting if lane.hungry]
    heaviest = max(lane.weight for lane in hungry)
    # who could not have its share earlier (its limit was lower) makes up for a second of it, not for hours
    least = max(lane.had for lane in hungry) - total / sum(lane.weight for lane in hungry)
    for lane in hungry:
        lane.had = max(lane.had, least)
    for lane in sorted(asking, key=lambda lane: (lane.hungry, lane.had)):
        if lane.leaving or lane.room <= 0:
            continue
        if not lane.hungry:
            lane.planned = min(free, 1)
            free -= lane.planned
            continue
        most = max(lane.due, batch_of(total) * lane.weight // heaviest, 1)
        batch = min(most - lane.used, lane.room)
        if batch * 2 < min(most, lane.room + lane.used):
            continue  # it is in the middle of its turn
        if free * 2 < batch:
            break
        lane.planned = min(batch, free)
        free -= lane.planned
    return free
