"""What is looked after beside the lanes: due items that are held up, and what a killed server brought back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import anyio

from ajc.connection import Connection
from ajc.errors import AjcError, Unavailable
from ajc.queue import QueueInfo
from ajc_bridge.happenings import RemainsCleared, Trouble
from ajc_bridge.jetstream.due_items import DueItems
from ajc_bridge.jetstream.remains import Remains
from ajc_bridge.ports import Journal

TIDY_SECONDS: Final = 15.0


class Upkeep:
    """Looks after the queues that `served` gives. `may_put`: whether items may be put into them from here."""

    def __init__(
        self, connection: Connection, journal: Journal, served: Callable[[], Iterable[QueueInfo]], *, may_put: bool
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._served = served
        self._due_items = DueItems(connection, journal, served, may_put=may_put)
        self._may_be_back = asyncio.Event()
        self._may_be_back.set()

    def reconnected(self) -> None:
        """Look again at what the server has: it may have been killed."""
        self._may_be_back.set()

    async def run(self) -> None:
        """Look after everything, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._tidy)
            group.start_soon(self._due_items.run)

    async def _tidy(self) -> None:
        """Remove what a killed server brought back: once at the start and after each reconnect."""
        while True:
            await self._may_be_back.wait()
            self._may_be_back.clear()
            await anyio.sleep(TIDY_SECONDS)  # the server has taken up its own work again by then
            for info in list(self._served()):
                try:
                    removed = await Remains(self._connection, info.name).clear()
                except Unavailable:
                    self._may_be_back.set()  # looked at again
                    continue
                except AjcError as error:
                    self._journal.note(Trouble(f"queue {info.name}", str(error)))
                    continue
                if removed:
                    self._journal.note(RemainsCleared(info.name, removed))
