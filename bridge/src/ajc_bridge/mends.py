"""What to do about what several rooms meet: the daemon's log and the commands say it in the same words."""

from __future__ import annotations

from typing import Final

ENABLE_JETSTREAM: Final = (
    "enable it: `jetstream {}` in the server's configuration, or give this account the right to `$JS.API.>`"
)
