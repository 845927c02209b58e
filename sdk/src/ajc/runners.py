"""The asyncio tasks that attempts run in: one for each that waits for something, one for many that do not.

Making a task costs more than all else that is done for an attempt. So a task that has run one to its end without ever
waiting takes the next, in a context that is as it was. What waits once has its task for itself from then on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Final

from ajc.attempt import Attempt
from ajc.attempt_clock import AttemptClock
from ajc.replies import ErrorsTold, Reply, reply_to_exception, reply_to_result
from ajc.tracing import find_tracing

_AT_A_TIME: Final = 64
"""Attempts in one turn of a task; then the loop gets to do other things."""


class Runners:
    """Runs each attempt that is added, soon, and calls `ended` with what its handler has to say.

    That is a result in bytes, or a whole reply, or None when it was stopped. `errors` is the responder's.
    """

    def __init__(
        self, clock: AttemptClock, ended: Callable[[Attempt, Reply | bytes | None], None], errors: ErrorsTold
    ) -> None:
        self._clock = clock
        self._ended = ended
        self._errors: ErrorsTold = errors
        self._enter_trace = find_tracing()
        self._loop = asyncio.get_running_loop()
        self._line: deque[Attempt] = deque()
        self._begun = False
        self._inside: asyncio.Task[None] | None = None
        """The task that runs one now and has not waited yet."""

    def add(self, attempt: Attempt) -> None:
        """Run this one after those that were added before. To be called on the loop."""
        self._line.append(attempt)
        if not self._begun:
            self._begin(1)

    def _begin(self, tasks: int) -> None:
        """Make tasks, and look after their first steps whether they have left some to others."""
        self._begun = True
        for _ in range(tasks):
            self._loop.create_task(self._work(), name="ajc-attempts")
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._begun = False
        waits, self._inside = self._inside is not None, None
        if self._line:
            # where one has waited the others will: each gets a task, at once
            self._begin(len(self._line) if waits else 1)

    async def _work(self) -> None:
        line, stand_in = self._line, self._clock.stand_in
        this = self._inside = asyncio.current_task()
        before = contextvars.copy_context()
        for _ in range(_AT_A_TIME):
            if not line:
                break
            attempt = line.popleft()
            attempt.runner = this
            answer: Reply | bytes | None = None
            try:
                if attempt.stopped is None:
                    if self._enter_trace is not None and attempt.traced and attempt.traceparent:
                        self._enter_trace(attempt.traceparent, attempt.tracestate)
                    answer = await attempt.endpoint.call(attempt)
                    if answer.__class__ is not bytes:
                        answer = reply_to_result(answer)
            except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  (what it raises is its answer)
                answer = self._raised(attempt, error)
            if attempt.beats is not None:
                self._clock.last_words(attempt)
            attempt.silent = True
            if stand_in.flying:
                await stand_in.landed()
            self._ended(attempt, answer)
            # it waited, was told to stop, or left something in the context (unchanged contexts are compared at once)
            if self._inside is not this or attempt.stopped is not None or contextvars.copy_context() != before:
                break
        if self._inside is this:
            self._inside = None

    def _raised(self, attempt: Attempt, error: BaseException) -> Reply | None:
        """Return the answer of a handler that raised this; None where it was stopped, or the loop ends."""
        if isinstance(error, asyncio.CancelledError):
            current = asyncio.current_task()
            if attempt.stopped is not None or (current is not None and current.cancelling()):
                attempt.stopped = attempt.stopped or "ending"
                return None
        return reply_to_exception(error, self._errors)
