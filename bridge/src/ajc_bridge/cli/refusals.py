"""Tasks whose command has just said that it is busy: to ask it again at once would start a process for each request."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

REFUSED_SECONDS: Final = 1.0
"""As long as a bridge goes on asking for room: within this the word stands."""


class Refusals:
    """What was said, by task: others of the same type may be welcome. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, str]] = {}  # until when (monotonic seconds), the oldest first

    def note(self, task_id: str, text: str) -> None:
        """Take note that the command refused this task now, with this text."""
        now = self._clock()
        while self._said:
            oldest = next(iter(self._said))
            if self._said[oldest][0] > now and oldest != task_id:
                break
            del self._said[oldest]
        self._said[task_id] = (now + REFUSED_SECONDS, text)

    def said(self, task_id: str) -> str | None:
        """Return what the command said of this task a moment ago, if it did."""
        until, text = self._said.get(task_id, (0.0, ""))
        return text if until > self._clock() else None
