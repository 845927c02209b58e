"""One queue that is served: its inboxes, its lane and its rescue, opened, begun and ended together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec.structs import replace

from ajc.connection import Connection, Subscription
from ajc.errors import AjcError
from ajc.queue import QueueInfo
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.jetstream.census import JetStreamCensus
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue
from ajc_bridge.pipeline.cancellations import Cancellations
from ajc_bridge.pipeline.dispatch import ExecPolicy
from ajc_bridge.pipeline.fair_share import FairShare
from ajc_bridge.pipeline.lane import Lane
from ajc_bridge.pipeline.rescue import ExhaustedItems
from ajc_bridge.pipeline.room import Room
from ajc_bridge.ports import Ports

_LOOK_SECONDS: Final = 0.02
_INTERRUPTED_SECONDS: Final = 5.0
_ABANDONED_SECONDS: Final = 1.0


class ServedQueue:
    """Made from the queue as the server has it. `open` it, then `begin`; `stop` it, wait until it `ended`, `close`."""

    def __init__(
        self,
        connection: Connection,
        store: JetStreamTaskStore,
        ports: Ports,
        info: QueueInfo,
        *,
        policy: QueuePolicy,
        exec_policy: ExecPolicy,
        share: FairShare,
        room: Room,
        cancellations: Cancellations,
    ) -> None:
        self.name = info.name
        self.info = info
        self._share = share
        self._queue = JetStreamWorkQueue(connection, info.name, info.lease_ns)
        self._lane = Lane(ports, self._queue, policy, exec_policy, share, room=room, cancellations=cancellations)
        self.census = JetStreamCensus(connection, store, info.name)
        self._exhausted = ExhaustedItems(ports, self.census, lambda: self._lane.policy)
        self._advisories: Subscription | None = None
        self._working: asyncio.Task[None] | None = None
        self._rescuing: asyncio.Task[None] | None = None

    @property
    def policy(self) -> QueuePolicy:
        """The rules that the next item meets."""
        return self._lane.policy

    @property
    def running(self) -> int:
        """Items that are being worked on."""
        return self._lane.running

    @property
    def pull_trouble(self) -> str:
        """Why nothing comes in although the queue is there; empty while pulls work."""
        return self._lane.pull_trouble

    async def open(self) -> None:
        """Open the inboxes; nothing is taken in yet. Raises `Unavailable`, and then nothing stays open."""
        try:
            await self._queue.start(self._lane.take)
            self._advisories = await self.census.listen(self._exhausted.given_up)
        except BaseException:
            await self.close()
            raise

    def begin(self) -> None:
        """Take items in from now on."""
        self._share.add(self.name, self.info.priority, self.info.max_concurrent)
        self._working = asyncio.create_task(self._lane.run())
        self._rescuing = asyncio.create_task(self._exhausted.run())

    def follow(self, info: QueueInfo, policy: QueuePolicy) -> None:
        """Take up what the server or the configuration says now."""
        if policy != self._lane.policy:
            self._lane.follow(policy)
            self._queue.lease_seconds = policy.lease_ns / 1e9
        if (info.priority, info.max_concurrent) != (self.info.priority, self.info.max_concurrent):
            self._share.change(self.name, info.priority, info.max_concurrent)
        self.info = info

    async def shorten(self, lease_ns: int) -> None:
        """Keep by a shorter lease before the server gets it, else it would deliver what runs a second time.

        Raises `Unavailable` when a lease could not be renewed. A longer one changes nothing.
        """
        if lease_ns < self.info.lease_ns:  # what the server has, also after a first go that failed
            self._queue.lease_seconds = lease_ns / 1e9
            await self._lane.shorten(replace(self.policy, lease_ns=lease_ns))

    def reconnected(self) -> None:
        """Take note that there is a new connection: that pulls failed without one is no trouble of the queue's."""
        self._lane.pulls_anew()

    def connection_lost(self) -> None:
        """Take note that the pull under way is void."""
        self._queue.connection_lost()

    def check(self) -> None:
        """Raise what ended the lane or the rescue: neither ends by itself but by a fault."""
        for task, what in ((self._working, "lane"), (self._rescuing, "rescue")):
            if task is not None and task.done():
                task.result()
                raise RuntimeError(f"the {what} of queue {self.name} has ended")

    def stop(self) -> None:
        """Take nothing in any more; what runs goes on."""
        self._lane.stop()
        if self._rescuing is not None:
            self._rescuing.cancel()

    async def quiet(self) -> None:
        """After `stop`: let nothing more come in, and return once what had been sent has been given back."""
        await self._queue.quiet()

    def leave(self) -> None:
        """Stop, and take no further part in the sharing of slots; those held come back when what runs has ended."""
        self.stop()
        self._share.remove(self.name)

    def interrupt(self) -> None:
        """Put what still waits for its reply back, uncounted."""
        self._lane.interrupt()

    def abandon(self) -> None:
        """Drop what still runs, unsettled."""
        self._lane.abandon()

    async def ended(self) -> None:
        """Wait until nothing runs any more, of a lane that ended by a fault too."""
        if self._working is not None:
            await asyncio.wait({self._working})
        while self._lane.running:  # noqa: ASYNC110  (only what a faulty lane left behind)
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Close the inboxes."""
        with contextlib.suppress(AjcError):
            await self._queue.stop()
        if self._advisories is not None:
            with contextlib.suppress(AjcError):
                await self._advisories.unsubscribe()


async def drain(queues: Sequence[ServedQueue], seconds: float) -> int:
    """Take nothing in, let what runs end within `seconds`, put the rest back; return how many those were."""
    for served in queues:
        served.stop()
    left = 0
    async with _ending(queues) as ending:
        await asyncio.gather(*(served.quiet() for served in queues))  # before anything is given back
        await asyncio.wait(ending, timeout=seconds)
        left = sum(served.running for served in queues)
        if left:
            for served in queues:
                served.interrupt()
            await asyncio.wait(ending, timeout=_INTERRUPTED_SECONDS)
            for served in queues:
                served.abandon()
            await asyncio.wait(ending, timeout=_ABANDONED_SECONDS)
    return left


async def abandon(queues: Sequence[ServedQueue]) -> None:
    """End everything unsettled; the items come again when their leases have run out."""
    for served in queues:
        served.stop()
        served.abandon()
    async with _ending(queues) as ending:
        await asyncio.wait(ending, timeout=_ABANDONED_SECONDS)


@contextlib.asynccontextmanager
async def _ending(queues: Sequence[ServedQueue]) -> AsyncIterator[list[asyncio.Task[None]]]:
    ending = [asyncio.create_task(served.ended()) for served in queues]
    try:
        yield ending
    finally:
        for task in ending:
            task.cancel()
