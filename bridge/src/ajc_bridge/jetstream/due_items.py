"""Due items that do not come into their queue because others keep it full, and are put there from here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import anyio

from ajc import subjects
from ajc.connection import Connection
from ajc.errors import AjcError, Conflict, InvalidName, NotFound, QueueFull, StoreError, Unavailable
from ajc.queue import QueueInfo
from ajc.stored_message import StoredMessage, delete_message, next_message
from ajc_bridge.happenings import DueItemHeldUp, DueItemPut, Trouble
from ajc_bridge.ports import Journal

LOOK_SECONDS: Final = 2.0
"""What the server has moved may lie in the delay stream for a second more: one look proves nothing."""
_PUT_SECONDS: Final = 2.0
_BETWEEN_SECONDS: Final = 0.002
_READ_SECONDS: Final = 5.0
_NEW: Final = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"


class DueItems:
    """Looks after the queues that `served` gives. `may_put`: whether items may be put into them from here.

    The server tries again every few seconds only, so producers who try at every moment would starve due items.
    """

    def __init__(
        self, connection: Connection, journal: Journal, served: Callable[[], Iterable[QueueInfo]], *, may_put: bool
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._served = served
        self._may_put = may_put
        self._seen: dict[str, tuple[int, float]] = {}
        self._told: dict[str, int] = {}
        self._now = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Find those that are held up, and put them where they belong, until cancelled."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            full = [info.name for info in self._served() if _may_be_full(info)]
            self._seen = {name: seen for name, seen in self._seen.items() if name in full}
            await asyncio.gather(*map(self._look, full))

    async def _look(self, queue: str) -> None:
        try:
            item = await self._held_up(queue)
            end = self._now() + _PUT_SECONDS
            while item is not None and self._may_put and self._now() < end and await self._put(queue, item, end):
                item = await self._first(queue, item.revision + 1)
        except Unavailable:
            return  # looked at again
        except AjcError as error:
            self._journal.note(Trouble(f"queue {queue}", str(error)))

    async def _held_up(self, queue: str) -> StoredMessage | None:
        """Return the first due item when it was there already at the last look, and tell of it."""
        item = await self._first(queue, 1)
        if item is None:
            self._seen.pop(queue, None)
            return None
        seen, since = self._seen.get(queue, (0, 0.0))
        if seen != item.revision:
            self._seen[queue] = (item.revision, self._now())
            return None
        if self._told.get(queue) != seen:
            self._told[queue] = seen
            self._journal.note(DueItemHeldUp(queue, item.last_token, round((self._now() - since) * 1e9)))
        return item

    async def _first(self, queue: str, sequence: int) -> StoredMessage | None:
        every = subjects.fired_of(queue)
        try:
            return await next_message(self._connection, subjects.DELAY_STREAM, every, sequence, timeout=_READ_SECONDS)
        except NotFound:
            return None

    async def _put(self, queue: str, item: StoredMessage, end: float) -> bool:
        """Put it into the queue as soon as there is room, until `end`; tell whether this one need not be tried again.

        Killed before the removal, the server moves it once more: the item of a task that runs or has run is harmless.
        """
        # as the server's own transform makes it, whatever the last token is: admission judges ids
        subject = subjects.items_of(queue).removesuffix("*") + item.last_token
        while True:
            try:
                await self._connection.stored(subject, item.data, headers=_NEW, timeout=_READ_SECONDS)
            except QueueFull:
                if self._now() >= end:
                    return False
                await anyio.sleep(_BETWEEN_SECONDS)
            except (Conflict, InvalidName):
                # the task has an item there: the server moves this one when that has gone; or nobody but the server
                # could send to such a subject, and it will
                return True
            else:
                break
        with suppress(NotFound, StoreError):  # moved meanwhile
            await delete_message(self._connection, subjects.DELAY_STREAM, item.revision, timeout=_READ_SECONDS)
        self._journal.note(DueItemPut(queue, item.last_token))
        return True


def _may_be_full(info: QueueInfo) -> bool:
    """Tell by the last look at the queue, which was up to ten seconds ago."""
    return info.max_entries > 0 and info.when_full == "reject" and info.messages * 2 >= info.max_entries
