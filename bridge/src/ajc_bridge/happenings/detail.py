"""What every detail of what happened has in common."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Detail(msgspec.Struct, frozen=True, gc=False):
    """The root of all details: facts, in the units that the fields name.

    `action` is the stable key of the kind: it is in every log line and never changes its meaning.
    """

    action: ClassVar[str] = ""
