"""An event loop whose time is a number: it jumps to the next timer as soon as nothing else is left to do.

    ajc.testing.run_virtually(scenario())       # a scenario of an hour of retries takes milliseconds

Sleeps, time-outs and timers of asyncio and anyio keep their order and take no time at all; the same scenario gives
the same history each time. What other threads and processes do is not seen by such a clock, so it is for code whose
world is in memory. A scenario in which nobody can go on ends at its next time-out at once.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

_START: Final = 1_000.0
_T = TypeVar("_T")


class _JumpingSelector(selectors.BaseSelector):
    """Never waits for a timer: it moves the clock there instead."""

    def __init__(self) -> None:
        self.now = _START
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Look what is ready; with nothing ready and a timer to come, let its time come."""
        if timeout is None:
            return self._real.select(None)  # no timer at all: only another thread can go on
        events = self._real.select(0)
        if not events and timeout > 0:
            self.now += timeout
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As of every selector."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As of every selector."""
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As of every selector."""
        return self._real.get_map()

    def close(self) -> None:
        """As of every selector."""
        self._real.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop: `asyncio.Runner(loop_factory=VirtualTimeLoop)`."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds of this loop's own clock."""
        return self._jumping.now


def run_virtually(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end as `asyncio.run` does, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
