"""Whether this process can do its work: what /readyz says, kept up to date by the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ajc_bridge import happenings as happened


class Readiness:
    """Ready is: connected, every expected queue bound, not draining. A sink of the journal."""

    def __init__(self) -> None:
        self._connected = False
        self._draining = False
        self._expected: set[str] = set()
        self._bound: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._not_prepared = ""

    def expect(self, queues: Iterable[str]) -> None:
        """Say which queues this process is to serve; called again when that changes."""
        self._expected = set(queues)
        self._troubles = {queue: text for queue, text in self._troubles.items() if queue in self._expected}

    def handlers(self) -> Mapping[type[happened.Detail], Callable[[Any], None]]:
        """Return what to call for which kind of detail."""
        return {
            happened.Connected: self._is_connected,
            happened.Reconnected: self._is_connected,
            happened.Disconnected: self._is_disconnected,
            happened.ConnectionClosed: self._is_disconnected,
            happened.NotPrepared: self._is_not_prepared,
            happened.QueueBound: self._is_bound,
            happened.QueueLost: self._is_lost,
            happened.Draining: self._is_draining,
        }

    @property
    def ready(self) -> bool:
        """Whether tasks of every expected queue are being taken."""
        return not self.missing()

    def missing(self) -> list[str]:
        """Return what keeps the process from being ready: one line each, none when it is."""
        lines = []
        if self._draining:
            lines.append("draining")
        if not self._connected:
            lines.append("not connected to NATS")
        if not self._expected:
            lines.append("no queue is served yet" + (f": {self._not_prepared}" if self._not_prepared else ""))
        for queue in sorted(self._expected - self._bound):
            trouble = self._troubles.get(queue)
            lines.append(f"queue {queue} is not bound" + (f": {trouble}" if trouble else ""))
        return lines

    def body(self) -> dict[str, Any]:
        """Return the answer of /readyz, to be written as JSON."""
        missing = self.missing()
        return {
            "ready": not missing,
            "missing": missing,
            "connected": self._connected,
            "queues": {queue: queue in self._bound for queue in sorted(self._expected)},
        }

    def _is_connected(self, _: happened.Detail) -> None:
        self._connected = True

    def _is_disconnected(self, _: happened.Detail) -> None:
        self._connected = False

    def _is_not_prepared(self, detail: happened.NotPrepared) -> None:
        self._not_prepared = detail.text

    def _is_bound(self, detail: happened.QueueBound) -> None:
        self._expected.add(detail.queue)
        self._bound.add(detail.queue)
        self._not_prepared = ""
        self._troubles.pop(detail.queue, None)

    def _is_lost(self, detail: happened.QueueLost) -> None:
        self._bound.discard(detail.queue)
        if detail.queue in self._expected:
            self._troubles[detail.queue] = detail.text

    def _is_draining(self, _: happened.Draining) -> None:
        self._draining = True
