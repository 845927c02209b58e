"""Beats while an `async def` handler blocks the event loop: a thread, which has a connection of its own then.

The connection belongs to the loop, so no other thread can beat on it. This one looks ten times a second whether a
beat is overdue, which it is only when the loop stands still, and opens its connection when that happens first. Not
covered: code that holds the interpreter's lock without end (some C extensions), and a process that is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Final

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc.errors import AjcError

if TYPE_CHECKING:
    from ajc.attempt import Attempt
    from ajc.attempt_clock import AttemptClock

_logger: Final = logging.getLogger("ajc.responder")
YOUNG: Final = 0.02
"""Seconds: nothing is due of attempts that began less than that ago."""
_LOOK_SECONDS: Final = 0.1
_SHORTEST_LOOK: Final = 0.02
_FLUSH_SECONDS: Final = 0.5
_MOMENT: Final = 0.001
_NEVER: Final = math.inf
_PATIENCE: Final = 0.15  # of a period


class StandIn:
    """The thread, begun when it is woken first. It reads the attempts of the clock, which come and go on the loop.

    `idle`: it sleeps, and wants to be woken when an attempt begins. `flying`: a beat of its own may not
    have reached the server yet.
    """

    def __init__(self, clock: AttemptClock, options: ConnectOptions, name: str) -> None:
        self._options = options
        self._name = name
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake: asyncio.Event | None = None
        self._closed = False
        self._warned = False
        self.idle = True
        self.flying = False

    def wake(self) -> None:
        """Look after the attempts until there is none to beat for. To be called on the responder's loop."""
        self.idle = False
        if self._loop is None:
            loop = self._loop = asyncio.new_event_loop()
            self._awake = asyncio.Event()
            threading.Thread(target=self._work, args=(loop,), name="ajc-heartbeats", daemon=True).start()
        self._set()

    def close(self) -> None:
        """Let the thread end."""
        self._closed = True
        self._set()

    def _set(self) -> None:
        if self._loop is not None and self._awake is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._awake.set)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._look_after_all())
        except Exception:
            _logger.exception("the thread that sends heartbeats ended")
        finally:
            self.flying = False
            loop.close()

    async def landed(self) -> None:
        """Wait until the server has the beat that is under way: a reply must come after it."""
        while self.flying:
            try:
                await asyncio.sleep(_MOMENT)
            except asyncio.CancelledError:
                return  # then it may come before it

    async def _look_after_all(self) -> None:
        assert self._awake is not None
        connection: Connection | None = None
        try:
            while not self._closed:
                await self._awake.wait()
                self._awake.clear()
                self.idle = False
                while not self._closed:
                    beating = self._beating()
                    if not beating and not self._more_come():
                        break
                    shortest = min((attempt.beat_period for attempt in beating), default=_NEVER)
                    await asyncio.sleep(max(min(_LOOK_SECONDS, shortest / 5), _SHORTEST_LOOK))
                    if any(_overdue(attempt) for attempt in beating):
                        connection = connection or await self._connect()
                        if connection is not None:
                            await self._beat(connection, beating)
                self.idle = True
                if self._more_come():
                    self._awake.set()  # one began before it could see that it has to wake this
        finally:
            if connection is not None:
                await connection.close()

    def _more_come(self) -> bool:
        return self._clock.soon

    def _beating(self) -> list[Attempt]:
        """Return the attempts to beat for; the loop may not have come to look at them yet."""
        try:
            running = list(self._clock.running)
        except RuntimeError:  # changed meanwhile, so the loop turns
            return []
        young = time.monotonic() - YOUNG
        for attempt in running:
            if not attempt.beat_period and attempt.began <= young:
                attempt.look_ahead()
        return [attempt for attempt in running if _beats(attempt)]

    async def _connect(self) -> Connection | None:
        if not self._warned:
            self._warned = True
            _logger.warning("a handler blocks the event loop: make it a plain def; a thread sends heartbeats meanwhile")
        try:
            return await Connection.open(self._options, name=f"{self._name} (heartbeats)")
        except AjcError as error:
            _logger.debug("no connection for the heartbeats of a blocked loop: %s", error)
            return None

    async def _beat(self, connection: Connection, beating: list[Attempt]) -> None:
        self.flying = True  # before the look whether it is over: who ends it sets that, then looks at this
        try:
            for attempt in beating:
                if _overdue(attempt):
                    now = time.monotonic()
                    connection.publish(attempt.heartbeat_subject)
                    attempt.beat_due = now + attempt.beat_period
                    attempt.beaten(now)
            await connection.flush(_FLUSH_SECONDS)
        except AjcError as error:
            _logger.debug("a heartbeat of a blocked loop was not sent: %s", error)
        finally:
            self.flying = False


def _beats(attempt: Attempt) -> bool:
    return 0 < attempt.beat_period < _NEVER and not attempt.silent and attempt.stopped is None


def _overdue(attempt: Attempt) -> bool:
    now = time.monotonic()
    # after a process stood still the time may be over, and the loop has yet to look
    return _beats(attempt) and attempt.beat_due + attempt.beat_period * _PATIENCE < now < attempt.ends
