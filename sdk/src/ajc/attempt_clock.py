"""The attempts that run, and the one timer that looks after all of them: beats that are due, times that are over.

A timer for each attempt would cost more than most attempts do. This one looks at what still runs 25 ms after it began,
then at the earliest moment at which there is something to do for one of them; what has ended by then costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from ajc.attempt import Attempt
from ajc.beats import PROGRESS_SECONDS, Beats
from ajc.connection import Connection
from ajc.errors import AjcError
from ajc.stand_in import YOUNG, StandIn

_logger: Final = logging.getLogger("ajc.responder")
_SPACING: Final = 0.01
_FIRST_LOOK: Final = 0.025
_BRIEF_MS: Final = 30
_EARLY: Final = 0.02
_NEVER: Final = math.inf


class AttemptClock:
    """The attempts under way, in the order in which they began. To be used on the loop; `say` in any thread."""

    def __init__(self, connection: Connection, name: str, expired: Callable[[Attempt], None]) -> None:
        self.running: dict[Attempt, None] = {}
        self._connection = connection
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self.stand_in = StandIn(self, connection.options, name)
        self._next = _NEVER
        self.soon = False
        """Whether it will look within 25 ms: the thread that stands in does not rest while this is so."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, attempt: Attempt) -> None:
        """Look after an attempt from now on."""
        self.running[attempt] = None
        if not self.soon:
            self.soon = True
            self._look_at(attempt.began + _FIRST_LOOK)
            if self.stand_in.idle:
                self.stand_in.wake()
        timeout = attempt.endpoint.handler.timeout
        if timeout is not None:
            attempt.limit = attempt.began + timeout
        if attempt.timeout_ms < _BRIEF_MS or timeout is not None:
            self._look_at(min(attempt.ends, attempt.limit, self._next))

    def last_words(self, attempt: Attempt) -> None:
        """Send what progress is left, before the reply."""
        if attempt.beats is not None and attempt.stopped is None:
            for body in attempt.beats.take(everything=True):
                self._beat(attempt, body)

    def say(self, attempt: Attempt, said: dict[str, Any]) -> None:
        """Send this progress, or keep it for its turn. In any thread."""
        if attempt.beats is None:
            with self._lock:  # two threads of one handler may both be first
                if not attempt.beats:
                    attempt.beats = Beats(attempt.heartbeat_subject)
        if not attempt.beats.say(said):
            return
        if threading.get_ident() == self._thread:
            self._send_progress(attempt)
            return
        try:
            self._loop.call_soon_threadsafe(self._send_progress, attempt)
        except RuntimeError:
            _logger.debug("progress came after the end of the loop")

    def close(self) -> None:
        """Look after nobody any more."""
        self.stand_in.close()
        if self._timer is not None:
            self._timer.cancel()

    def _send_progress(self, attempt: Attempt) -> None:
        beats = attempt.beats
        if beats is None or attempt.silent or attempt.stopped is not None:
            return
        if not attempt.beat_period:
            attempt.look_ahead()
        for body in beats.take():
            self._beat(attempt, body)
        if beats.held:
            attempt.beat_due = min(attempt.beat_due, time.monotonic() + PROGRESS_SECONDS)
            if attempt.beat_due < self._next:
                self._look_at(attempt.beat_due)

    def _beat(self, attempt: Attempt, body: bytes) -> None:
        now = time.monotonic()
        attempt.beat_due = now + attempt.beat_period
        if not self._connection.connected or now >= attempt.ends:
            return  # beats that are kept would arrive when they are no longer true
        try:
            self._connection.publish(attempt.heartbeat_subject, body)
        except AjcError as error:
            _logger.debug("a heartbeat was not sent: %s", error)
        else:
            attempt.beaten(now)

    def _look_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = self._loop.call_later(max(due - time.monotonic(), 0), self._look)

    def _look(self) -> None:
        now = time.monotonic()
        due = _NEVER
        for attempt in list(self.running):
            if attempt.silent or attempt.stopped is not None:
                continue  # its handler has not ended yet, and nobody waits for it
            if attempt.ends <= now or attempt.limit <= now:
                self._expired(attempt)
                continue
            if not attempt.beat_period:
                if attempt.began > now - YOUNG:
                    due = min(due, attempt.began + _FIRST_LOOK)  # it may be over by then, and cost nothing
                    continue
                attempt.look_ahead()
            if attempt.beat_due <= now + _EARLY:
                for body in (attempt.beats.take(everything=True) if attempt.beats is not None else ()) or (b"",):
                    self._beat(attempt, body)
            due = min(due, attempt.beat_due, attempt.ends, attempt.limit)
        self._timer, self._next, self.soon = None, _NEVER, False
        if due < _NEVER:
            self._look_at(max(due, now + _SPACING))
