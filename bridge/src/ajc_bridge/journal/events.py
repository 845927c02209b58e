"""The event sink: every save of a task is told on core NATS, as the Go implementation tells it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ajc.errors import AjcError
from ajc.events import encode_named_state, encode_state_change
from ajc.subjects import event_subject, is_type
from ajc_bridge.happenings import Detail, TaskSaved
from ajc_bridge.journal.journal import Handler


class Events:
    """Publishes `TaskStateChanged`. Not stored by anybody: one that cannot be sent is lost, and the work goes on."""

    def __init__(self, publish: Callable[[str, bytes], None], now: Callable[[], int] = time.time_ns) -> None:
        self._publish = publish
        self._now = now
        self.lost = 0

    def handlers(self) -> Mapping[type[Detail], Handler]:
        """Return what to call for which kind."""
        return {TaskSaved: self._saved}

    def _saved(self, detail: TaskSaved) -> None:
        task = detail.task
        try:
            subject = event_subject(task.id)  # so the id is plain; queues that are served and states that we save are
            encode = encode_named_state if is_type(task.type) else encode_state_change
            self._publish(subject, encode(task, self._now(), detail.queue))
        except AjcError:  # no connection, or an id that is no subject's token
            self.lost += 1
