"""Which items of a busy queue are stranded: the server says how many they are, several looks say which.

An item that was delivered and is still there is leased, waits for its redelivery, or is stranded. What is leased does
not stay as it is for a whole lease: its record is saved, or the lease ends and the item is delivered again.
"""

from __future__ import annotations

from collections.abc import Mapping


class Sightings:
    """What was seen of one queue's delivered items, look by look."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}
        self._same: tuple[frozenset[int], float] | None = None

    def look(self, now: float, stranded: int, revisions: Mapping[int, int], apart: float) -> frozenset[int]:
        """Return the sequences of those that are stranded beyond doubt, by everything seen so far.

        `now` is in monotonic seconds; `stranded` is how many there are; `revisions` has the record's revision of each
        item that was delivered and is there; `apart` is the queue's lease in seconds. Only when exactly as many items
        as are stranded stayed as they were for a lease, and the same ones in a look a lease later again, are they it.
        """
        self._seen = {
            sequence: self._seen[sequence] if self._seen.get(sequence, (-1,))[0] == revision else (revision, now)
            for sequence, revision in revisions.items()
        }
        still = frozenset(sequence for sequence, (_, since) in self._seen.items() if now - since >= apart)
        if len(still) != stranded:
            self._same = None
            return frozenset()
        if self._same is None or self._same[0] != still:
            self._same = (still, now)
        return still if now - self._same[1] >= apart else frozenset()
