"""Named places at which a test may kill this process: `AJC_FAILPOINT=name` or `name:n` for the n-th time.

Unset, `reach` does nothing. Set, the process sends itself SIGKILL when it gets there, exactly as a power cut would
end it: no handler runs, no buffer is flushed.
"""

from __future__ import annotations

import os
import signal
from typing import Final

POINTS: Final = (
    "enqueue.begin",
    "enqueue.save_sent",
    "enqueue.saved",
    "enqueue.event_sent",
    "enqueue.item_sent",
    "enqueue.item_stored",
    "enqueue.refused",
    "enqueue.error_saved",
    "lease.pulled",
    "admit.loaded",
    "admit.active_sent",
    "admit.active_saved",
    "dispatch.sent",
    "dispatch.replied",
    "settle.begin",
    "settle.save_sent",
    "settle.saved",
    "settle.event_sent",
    "settle.dead_lettered",
    "settle.scheduled",
    "settle.acked",
    "rescue.promised",
    "cancel.begin",
    "cancel.save_sent",
    "cancel.saved",
    "cancel.event_sent",
    "cancel.schedule_gone",
    "cancel.item_gone",
    "cancel.told",
    "cancel.found",
)
"""Every fail point of both distributions, in the order in which a task meets them."""

_name, _, _nth = os.environ.get("AJC_FAILPOINT", "").partition(":")
_left = int(_nth) if _nth.isdigit() else 1
ARMED: Final = bool(_name)
"""Whether the environment names a fail point: what every task passes asks this first, since eleven calls add up."""


def reach(point: str) -> None:
    """Die here if this is the fail point that the environment names."""
    global _left  # noqa: PLW0603  (a count of the whole process, used by tests alone)
    if point != _name:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
