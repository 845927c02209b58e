"""What to do about what several rooms meet: the daemon's log and the commands say it in the same words."""

from __future__ import annotations

from typing import Final

from ajc.errors import AjcError, NoResponders, StoreError

ENABLE_JETSTREAM: Final = (
    "enable it: `jetstream {}` in the server's configuration, or give this account the right to `$JS.API.>`"
)

_NOT_ENABLED: Final = frozenset({10039, 10076})
"""JetStream's own words for it: for this account, and at all."""


def jetstream_is_off(error: AjcError) -> bool:
    """Whether this error is what a server, or an account, without JetStream answers."""
    if isinstance(error, NoResponders):
        return error.subject.startswith("$JS.")
    return isinstance(error, StoreError) and error.code in _NOT_ENABLED
