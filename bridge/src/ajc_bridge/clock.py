"""The clock of this machine, as a port: nothing of the pipeline reads another."""

from __future__ import annotations

import time

from ajc.instant import Instant


class SystemClock:
    """`ports.Clock` of this machine."""

    now = staticmethod(Instant.now)
    monotonic = staticmethod(time.monotonic)  # the event loop's own
