"""A queue as the server has it, in memory: one item per subject, leases, delivery counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ajc.work_item import WorkItem


class Item:
    """One item; `leased` is the timer that ends its lease."""

    __slots__ = ("body", "deliveries", "exhausted", "leased", "sequence", "subject_id")

    def __init__(self, sequence: int, subject_id: str, body: bytes) -> None:
        self.sequence = sequence
        self.subject_id = subject_id
        self.body = body
        self.deliveries = 0
        self.leased: asyncio.TimerHandle | None = None
        self.exhausted = False


class Request:
    """One pull, as the server has it: it ends once something came, or at its time."""

    __slots__ = ("arrived", "came", "ended", "expiry", "want")

    def __init__(self, want: int, arrived: Callable[[Item, int], None], ended: Callable[[], None]) -> None:
        self.want = want
        self.came = 0
        self.arrived = arrived
        self.ended = ended
        self.expiry: asyncio.TimerHandle | None = None


class MemoryQueue:
    """The server's side of a queue: one item per subject, leases, delivery counts; bridges share it.

    `max_ack_pending` and `max_deliver` -1: no limit. `given_up` is told the sequence of each item that reached
    `max_deliver`.
    """

    def __init__(self, name: str, lease_ns: int, *, max_ack_pending: int = -1, max_deliver: int = -1) -> None:
        self.name = name
        self.lease_seconds = lease_ns / 1e9
        self.max_ack_pending = max_ack_pending
        self.max_deliver = max_deliver
        self.given_up: list[Callable[[int], None]] = []
        self.items: dict[str, Item] = {}
        self._by_sequence: dict[int, Item] = {}
        self._fresh: dict[int, Item] = {}
        self._again: dict[int, Item] = {}
        self._leased = 0
        self._sequence = 0
        self._requests: list[Request] = []
        self._loop = asyncio.get_running_loop()

    def put(self, subject_id: str, item: WorkItem | bytes | None = None) -> int:
        """Add an item (of the task of that id, if none is given) in place of one that its subject holds."""
        self._remove(self.items.get(subject_id))
        self._sequence += 1
        body = item if isinstance(item, bytes) else (item or WorkItem(task_id=subject_id)).encode()
        added = Item(self._sequence, subject_id, body)
        self.items[subject_id] = self._by_sequence[added.sequence] = self._fresh[added.sequence] = added
        self.serve()
        return added.sequence

    @property
    def leased(self) -> int:
        """Items that somebody holds."""
        return self._leased

    @property
    def exhausted(self) -> list[Item]:
        """Items that will never be delivered again."""
        return [item for item in self.items.values() if item.exhausted]

    def find(self, sequence: int) -> Item | None:
        """Return the item of that sequence."""
        return self._by_sequence.get(sequence)

    def request(self, request: Request, wait: float) -> None:
        """Serve a pull, now or until `wait` seconds have passed."""
        self._requests.append(request)
        self.serve()
        if request in self._requests:
            if wait > 0:
                request.expiry = self._loop.call_later(wait, self._end, request)
            else:
                self._end(request)

    def serve(self) -> None:
        """Deliver what can be delivered to whoever waits."""
        for request in list(self._requests):
            while request.came < request.want and self._deliver_one(request):
                pass
            if request.came:
                self._end(request)

    def answer(self, token: bytes, verdict: str) -> bool:
        """Take `ack`, `nak` or `renew` for a delivery, a stale one too, as the server does; False: its item is gone."""
        item = self._by_sequence.get(int(token.partition(b".")[0]))
        if item is None:
            return False
        if verdict == "ack":
            self._remove(item)
        elif item.leased is not None:
            self._free(item)
            if verdict == "nak":
                self._come_again(item)
            else:
                self._lease(item)
        self.serve()
        return True

    def remove(self, sequence: int) -> None:
        """Remove an item as somebody else would."""
        self._remove(self._by_sequence.get(sequence))
        self.serve()

    def drop_requests(self) -> None:
        """Forget every pull, as a server that goes away does."""
        for request in list(self._requests):
            self._end(request, tell=False)

    def _deliver_one(self, request: Request) -> bool:
        if 0 < self.max_ack_pending <= self._leased:
            return False
        waiting = self._again or self._fresh
        if not waiting:
            return False
        item = waiting.pop(next(iter(waiting)))
        item.deliveries += 1
        self._lease(item)
        request.came += 1
        self._loop.call_soon(request.arrived, item, len(self._fresh))
        return True

    def _lease(self, item: Item) -> None:
        self._leased += 1
        item.leased = self._loop.call_later(self.lease_seconds, self._lapse, item)

    def _free(self, item: Item) -> None:
        if item.leased is not None:
            item.leased.cancel()
            item.leased = None
            self._leased -= 1

    def _lapse(self, item: Item) -> None:
        self._free(item)
        self._come_again(item)
        self.serve()

    def _come_again(self, item: Item) -> None:
        if 0 < self.max_deliver <= item.deliveries:
            item.exhausted = True
            for listener in self.given_up:
                self._loop.call_soon(listener, item.sequence)
        else:
            self._again[item.sequence] = item

    def _remove(self, item: Item | None) -> None:
        if item is not None:
            self._free(item)
            del self._by_sequence[item.sequence]
            self._fresh.pop(item.sequence, None)
            self._again.pop(item.sequence, None)
            del self.items[item.subject_id]

    def _end(self, request: Request, *, tell: bool = True) -> None:
        self._requests.remove(request)
        if request.expiry is not None:
            request.expiry.cancel()
        if tell:
            self._loop.call_soon(request.ended)
