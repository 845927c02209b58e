"""The progress of one attempt on its way to the bridge, which hears no more of it than it wants to.

Progress may be said from any thread, and as often as a loop goes round: ten reports at once and ten a second leave at
once, of more only the newest is kept and leaves with the next beat, or before the reply.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

import msgspec

PROGRESS_SECONDS: Final = 0.1
"""Progress that was kept leaves after so long at the latest."""
_AT_ONCE: Final = 10.0
_encode: Final = msgspec.json.Encoder().encode


class Beats:
    """Progress that was said and not sent yet; the clock sends it, to `subject`."""

    __slots__ = ("_filled", "_held", "_lock", "_ready", "_room", "_woken", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._lock = threading.Lock()
        self._ready: list[dict[str, Any]] = []
        self._held: dict[str, Any] = {}
        self._room = _AT_ONCE
        self._filled = time.monotonic()
        self._woken = False

    @property
    def held(self) -> bool:
        """Whether progress waits for its turn."""
        return bool(self._held)

    def say(self, said: dict[str, Any]) -> bool:
        """Take a report ({}: a mere beat), in any thread; return whether the clock must be told that there is one."""
        with self._lock:
            now = time.monotonic()
            self._room = min(_AT_ONCE, self._room + (now - self._filled) / PROGRESS_SECONDS)
            self._filled = now
            if self._room >= 1:
                self._room -= 1
                self._ready.append({**self._held, **said})
                self._held = {}
            elif said:
                self._held = {**self._held, **said}
            else:
                return False
            told, self._woken = self._woken, True
            return not told

    def take(self, *, everything: bool = False) -> list[bytes]:
        """Give the bodies that may be sent now; with `everything` what is held, too."""
        with self._lock:
            self._woken = False
            bodies = [_encode(said) if said else b"" for said in self._ready]
            self._ready = []
            if everything and self._held:
                bodies.append(_encode(self._held))
                self._held = {}
                self._room -= 1
        return bodies
