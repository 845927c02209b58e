"""The asyncio tasks that attempts run in: one for each that waits for something, one for many that do not.

Making a task costs more than all else that is done for an attempt. So a task that has run one to its end without ever
waiting takes the next, in a context that is as it was. What waits once has its task for itself from then on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from ajc.attempt import Attempt

_AT_A_TIME: Final = 64
"""Attempts in one turn of a task; then the loop gets to do other things."""


class Runners:
    """`run` is called for each attempt that is added, soon, inside a task; it raises nothing."""

    def __init__(self, run: Callable[[Attempt], Awaitable[None]]) -> None:
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._line: deque[Attempt] = deque()
        self._turn: asyncio.Task[None] | None = None

    def add(self, attempt: Attempt) -> None:
        """Run this one after those that were added before. To be called on the loop."""
        self._line.append(attempt)
        if self._turn is None:
            self._begin()

    def _begin(self) -> None:
        """Make a task, and look after its first step whether it has left some to others."""
        loop = self._loop
        self._turn = loop.create_task(self._work(), name="ajc-attempts")
        loop.call_soon(self._next, self._turn)

    def _next(self, turn: asyncio.Task[None]) -> None:
        if self._turn is turn:
            self._turn = None
            if self._line:
                self._begin()

    async def _work(self) -> None:
        line, run = self._line, self._run
        turn = self._turn
        before = contextvars.copy_context()
        for _ in range(_AT_A_TIME):
            if not line:
                return
            attempt = line.popleft()
            attempt.runner = turn
            await run(attempt)
            # it waited, was told to stop, or left something in the context (unchanged contexts are compared at once)
            if self._turn is not turn or attempt.stopped is not None or contextvars.copy_context() != before:
                return
