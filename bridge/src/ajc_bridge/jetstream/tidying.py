"""When what a killed server brought back is looked for, and removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import anyio

from ajc.connection import Connection
from ajc.errors import AjcError, NotPermitted, Unavailable
from ajc.queue import QueueInfo
from ajc_bridge.happenings import RemainsCleared, Trouble
from ajc_bridge.jetstream.remains import Remains
from ajc_bridge.ports import Journal

TIDY_SECONDS: Final = 15.0


class Tidying:
    """Tidies the queues that `served` gives: once at the start and after each reconnect."""

    def __init__(self, connection: Connection, journal: Journal, served: Callable[[], Iterable[QueueInfo]]) -> None:
        self._connection, self._journal, self._served = connection, journal, served
        self._may_be_back = asyncio.Event()
        self._may_be_back.set()
        self._forbidden: set[str] = set()

    def reconnected(self) -> None:
        """Look again at what the server has: it may have been killed, or let us do more than before."""
        self._forbidden.clear()
        self._may_be_back.set()

    async def run(self) -> None:
        """Remove what is found, until cancelled."""
        while True:
            await self._may_be_back.wait()
            self._may_be_back.clear()
            await anyio.sleep(TIDY_SECONDS)  # the server has taken up its own work again by then
            for info in list(self._served()):
                if info.name in self._forbidden:
                    continue
                try:
                    removed = await Remains(self._connection, info.name).clear()
                except NotPermitted as error:  # told once: the next connection may have the right
                    self._forbidden.add(info.name)
                    self._journal.note(Trouble(f"queue {info.name}", f"what is left cannot be tidied up: {error}"))
                    continue
                except Unavailable:
                    self._may_be_back.set()  # looked at again
                    continue
                except AjcError as error:
                    self._journal.note(Trouble(f"queue {info.name}", str(error)))
                    continue
                if removed:
                    self._journal.note(RemainsCleared(info.name, removed))
