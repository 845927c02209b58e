"""What nobody takes (status 503) although a stream should: the stream is missing, or has no leader for the moment."""

from __future__ import annotations

import asyncio
from typing import Final

from ajc.connection import Connection
from ajc.errors import Closed, NotFound, NotPermitted, Unavailable

LEADERLESS_SECONDS: Final = 10.0
"""The election of a stream's leader takes up to 6 s: who may not look takes it for missing after that, not before."""

_LOOK_SECONDS: Final = 2.0
_GAP_SECONDS: Final = 1.0


class Untaken:
    """One stream's subjects, from the first time on that nobody took one; `what` and `name` are what people call it."""

    def __init__(self, connection: Connection, stream: str, what: str, name: str) -> None:
        self._connection = connection
        self._stream = stream
        self._what = what
        self._name = name
        self._may_look = True
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._looked = 0.0

    async def look(self) -> Unavailable:
        """Return what to say of a stream that may have a leader soon; raise `NotFound` for a missing one, and `Closed`.

        Without the right to read the stream's state the two look alike: `NotFound` then has no code, and comes once no
        election would last so long. A gap between two looks (there was no connection, or no answer) begins that time
        again: a server that has just started has no leaders yet either.
        """
        began = self._loop.time()
        if self._may_look:  # each refused look is a line in the server's log
            try:
                await self._connection.api(f"STREAM.INFO.{self._stream}", timeout=_LOOK_SECONDS)
            except NotFound as error:
                raise NotFound(self._what, self._name, code=error.code) from None
            except Closed:
                raise
            except NotPermitted:
                self._may_look = False
            except Unavailable:
                pass
            else:
                self._since = None
                return Unavailable(f"{self._what} {self._name} has no leader")
        now = self._loop.time()
        if self._since is None or began - self._looked > _GAP_SECONDS:
            self._since = now
        self._looked = now
        if self._connection.connected and now - self._since >= LEADERLESS_SECONDS:
            raise NotFound(self._what, self._name)
        return Unavailable(f"{self._what} {self._name} has no leader, or does not exist")
