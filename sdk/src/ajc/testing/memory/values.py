"""The values that go in and out of the ports: plain structs, for those who have none of their own.

The fields are those of the bridge's `Record`, `Lease`, `Stranded` and `DeadLetter`, so either kind serves: a
`MemoryServer` makes whatever it was told to.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ajc.instant import Instant
from ajc.task import Task


class MemoryRecord(Struct, frozen=True):
    """What the store holds for a task; `task` None: `malformed` says why it is none.

    `stored`: when. `expires`: the store removes it in time.
    """

    task_id: str
    data: bytes
    revision: int
    stored: Instant
    task: Task | None = None
    malformed: str = ""
    expires: bool = False

    @property
    def stored_at(self) -> Instant:
        """When it was stored."""
        return self.stored


class MemoryLease(Struct, eq=False):
    """One delivery of an item: its taker's until `until`, seconds of the loop's clock."""

    queue: str
    subject_id: str
    body: bytes
    deliveries: int
    backlog: int
    token: bytes
    until: float
    received: float
    lost: bool = False


class MemoryStranded(Struct, frozen=True):
    """An item that its queue holds and will never deliver again."""

    sequence: int
    subject_id: str
    body: bytes
    deliveries: int
    revision: int | None = None


class AnyLease(Protocol):
    """What a queue looks at in a lease."""

    token: bytes
    until: float
    lost: bool


class AnyStranded(Protocol):
    """What a census looks at in an item that it forgets."""

    @property
    def sequence(self) -> int:
        """The item's place in its queue."""


class AnyLetter(Protocol):
    """What a dead letter says."""

    @property
    def queue(self) -> str:
        """The queue that held the task's item."""

    @property
    def task_id(self) -> str:
        """Whose letter it is."""

    @property
    def type(self) -> str:
        """The task's type, "" when it cannot be known."""

    @property
    def reason(self) -> str:
        """Why: one stable word."""

    @property
    def error(self) -> str:
        """The task's last error."""

    @property
    def tries(self) -> int:
        """How many tries were counted."""

    @property
    def time(self) -> Instant:
        """When it ended."""
