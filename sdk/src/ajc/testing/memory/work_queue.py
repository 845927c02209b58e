"""One bridge's end of a queue, in memory: pulls, leases, verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from ajc.errors import Unavailable
from ajc.testing.memory.line import Line
from ajc.testing.memory.queue import Item, MemoryQueue, Request
from ajc.testing.memory.values import AnyLease

L = TypeVar("L", bound=AnyLease)


class _Pull(Generic[L]):
    """The pull under way, as its bridge has it."""

    def __init__(self, deliver: Callable[[L], None], done: asyncio.Future[None]) -> None:
        self.deliver = deliver
        self.done = done
        self.came = 0


class MemoryWorkQueue(Generic[L]):
    """One bridge's end of a queue. `start` says who takes items that come when no pull waits for them any more."""

    def __init__(self, line: Line, source: MemoryQueue, make_lease: Callable[..., L]) -> None:
        self.queue = source.name
        self._line = line
        self._source = source
        self._make = make_lease
        self._pull: _Pull[L] | None = None
        self._late: Callable[[L], None] | None = None
        self._loop = asyncio.get_running_loop()

    async def start(self, late: Callable[[L], None]) -> None:
        """Say who takes late items."""
        self._late = late

    async def stop(self) -> None:
        """Take nothing any more: what still comes is nobody's until its lease is over."""
        self._late = None

    def connection_lost(self) -> None:
        """End the pull under way: the server has forgotten it."""
        if self._pull is not None and not self._pull.done.done():
            self._pull.done.set_exception(Unavailable("the connection broke during a pull"))
            self._pull.done.exception()  # a caller that was cancelled meanwhile never looks

    async def pull(self, want: int, wait: float, deliver: Callable[[L], None]) -> int:
        """Hand over what is there, up to `want`; wait up to `wait` seconds for a first item."""
        pull = self._pull = _Pull(deliver, self._loop.create_future())
        try:
            lost = await self._line.cross("queue.pull", self.queue)
            self._source.request(Request(want, self._arrived, lambda: _done(pull.done)), wait)
            await pull.done
        except Unavailable:
            if not pull.came:
                raise
        finally:
            self._pull = None
        if lost is not None and not pull.came:
            raise lost
        return pull.came

    def ack(self, lease: L) -> None:
        """Let the queue forget the item."""
        self._answer(lease, "ack")

    def nak(self, lease: L) -> None:
        """Give it back at once."""
        self._answer(lease, "nak")

    async def renew(self, lease: L) -> None:
        """Make the lease last its full time again."""
        sent = self._loop.time()
        lost = await self._line.cross("queue.renew", lease.token.decode())
        if not self._source.answer(lease.token, "renew"):
            raise Unavailable("the item is gone")
        if lost is not None:
            raise lost
        lease.until = sent + self._source.lease_seconds

    def _answer(self, lease: L, verdict: str) -> None:
        if lease.lost or self._loop.time() >= lease.until:
            lease.lost = True  # another delivery may be running: the server would take this answer for it
        elif self._line.send(f"queue.{verdict}", lease.token.decode()):
            self._source.answer(lease.token, verdict)

    def _arrived(self, item: Item, backlog: int) -> None:
        if not self._line.up:
            return  # lost with the connection
        now = self._loop.time()
        lease = self._make(
            queue=self.queue,
            subject_id=item.subject_id,
            body=item.body,
            deliveries=item.deliveries,
            backlog=backlog,
            token=b"%d.%d" % (item.sequence, item.deliveries),
            until=now + self._source.lease_seconds,
            received=now,
        )
        if self._pull is not None:
            self._pull.came += 1
            self._pull.deliver(lease)
        elif self._late is not None:
            self._late(lease)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
