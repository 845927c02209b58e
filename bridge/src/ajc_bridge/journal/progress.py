"""The progress sink: how far a running attempt is, told on core NATS ten times a second a task at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ajc.errors import AjcError
from ajc.instant import Instant
from ajc.progress import Progress, TaskProgressed
from ajc.subjects import progress_subject
from ajc_bridge.happenings import AttemptBeaten, Detail, TaskSaved
from ajc_bridge.journal.journal import Handler

WINDOW_SECONDS: Final = 0.1


class _Timer(Protocol):
    def cancel(self) -> None: ...


class _Window:
    """The time after an event of one task: what comes in it waits for its end, and the newest is told then."""

    __slots__ = ("newest", "timer")

    def __init__(self) -> None:
        self.newest: AttemptBeaten | None = None
        self.timer: _Timer | None = None


class ProgressEvents:
    """Publishes `TaskProgressed`: the newest of each window, and the last one before the event of the task's next save.

    So it stands before the sink that tells of saves. Not stored by anybody: one that cannot be sent is lost. There is
    an entry for a task only while a window is open.
    """

    def __init__(
        self,
        publish: Callable[[str, bytes], None],
        now: Callable[[], Instant] = Instant.now,
        call_later: Callable[[float, Callable[[str], None], str], _Timer] | None = None,
    ) -> None:
        self._publish = publish
        self._now = now
        self._call_later = call_later
        self._windows: dict[str, _Window] = {}
        self.lost = 0

    def handlers(self) -> Mapping[type[Detail], Handler]:
        """Return what to call for which kind."""
        return {AttemptBeaten: self._beaten, TaskSaved: self._saved}

    def _beaten(self, detail: AttemptBeaten) -> None:
        if detail.percent is None and not detail.message:
            return
        window = self._windows.get(detail.task_id)
        if window is not None:
            window.newest = detail
            return
        self._tell(detail)
        self._open(detail.task_id, _Window())

    def _open(self, task_id: str, window: _Window) -> None:
        call_later = self._call_later or asyncio.get_running_loop().call_later
        self._windows[task_id] = window
        window.timer = call_later(WINDOW_SECONDS, self._over, task_id)

    def _over(self, task_id: str) -> None:
        window = self._windows.pop(task_id)
        newest, window.newest = window.newest, None
        if newest is not None:
            self._tell(newest)
            self._open(task_id, window)

    def _saved(self, detail: TaskSaved) -> None:
        if not self._windows:
            return
        window = self._windows.pop(detail.task.id, None)
        if window is None:
            return
        if window.timer is not None:
            window.timer.cancel()
        if window.newest is not None:
            self._tell(window.newest)

    def _tell(self, detail: AttemptBeaten) -> None:
        try:
            said = Progress(detail.percent, detail.message)
            event = TaskProgressed.of(
                detail.task_id,
                said,
                self._now(),
                queue=detail.queue,
                task_type=detail.type,
                tries=detail.try_number,
            )
            self._publish(progress_subject(detail.task_id), event.encode())
        except AjcError:  # no connection, or no room in its buffer
            self.lost += 1
