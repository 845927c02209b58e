"""How an attempt ended: one small value for each way, handed from the dispatch to `settlement.decide`.

Each class has a `word`, stable for logs and metrics. Texts arrive cleaned (`ajc.exchange.clean_text`).
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from msgspec import Struct


class Succeeded(Struct, frozen=True):
    """A reply that no other rule matched; an empty body is a result too."""

    word: ClassVar[str] = "succeeded"
    body: bytes


class Failed(Struct, frozen=True):
    """The handler said `AJ-Error` (or `Nats-Service-Error`), perhaps with the delay it wants, in milliseconds."""

    word: ClassVar[str] = "failed"
    text: str
    retry_after_ms: int | None = None


class Terminated(Struct, frozen=True):
    """The handler said `AJ-Terminate`: no further try."""

    word: ClassVar[str] = "terminated"
    text: str


class TimedOut(Struct, frozen=True):
    """No reply within the time the handler was given, in nanoseconds.

    `at_deadline`: that time was cut short by the task's own deadline, so there is no later try.
    """

    word: ClassVar[str] = "timed_out"
    waited_ns: int
    at_deadline: bool = False


class NoHeartbeat(Struct, frozen=True):
    """The responder had beaten, and then was silent for so many nanoseconds: three missed beats. It is gone."""

    word: ClassVar[str] = "no_heartbeat"
    silent_ns: int


class NoResponder(Struct, frozen=True):
    """Nobody listens on the subject (503), or nobody was asked, for the reason that `text` gives: no work was begun."""

    word: ClassVar[str] = "no_responder"
    subject: str
    text: str = ""


class Busy(Struct, frozen=True):
    """Every responder asked said `AJ-Busy`: no work was begun. Perhaps with the delay it wants, in milliseconds."""

    word: ClassVar[str] = "busy"
    text: str = ""
    retry_after_ms: int | None = None


class Malformed(Struct, frozen=True):
    """A reply that cannot be parsed: a header block that is none, or a status that means nothing here."""

    word: ClassVar[str] = "malformed"
    text: str


class Interrupted(Struct, frozen=True):
    """The drain limit passed while the attempt ran: this process ends, another one tries again."""

    word: ClassVar[str] = "interrupted"


class Abandoned(Struct, frozen=True):
    """The attempt's bridge was lost: the server ended its lease. The try was counted when it began."""

    word: ClassVar[str] = "abandoned"


class ResultTooLarge(Struct, frozen=True):
    """The task with its result has `size` bytes where `limit` fit. The work is done: again would be twice."""

    word: ClassVar[str] = "result_too_large"
    size: int
    limit: int


class TaskTooLarge(Struct, frozen=True):
    """The active save or the request has `size` bytes where `limit` fit. Found before the save: nothing was counted.

    `store_limit`: what fits into the store, where that is more than fits into a request; 0: `limit`.
    """

    word: ClassVar[str] = "task_too_large"
    size: int
    limit: int
    store_limit: int = 0


Outcome: TypeAlias = (
    Succeeded
    | Failed
    | Terminated
    | TimedOut
    | NoHeartbeat
    | NoResponder
    | Busy
    | Malformed
    | Interrupted
    | Abandoned
    | ResultTooLarge
    | TaskTooLarge
)
