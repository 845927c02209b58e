"""The rules of the exec protocol, numbered as in docs/protocol.md, and the level at which each binds a responder."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Level(StrEnum):
    """How much of the protocol a responder speaks; each level includes those before it."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"

    @property
    def includes(self) -> tuple[Level, ...]:
        """Return the levels up to this one."""
        return tuple(level for level in Level if level <= self)


MEANING: Final = {
    Level.L0: "replies",
    Level.L1: "errors, terminate, busy, retry-after",
    Level.L2: "heartbeats, progress, deadline",
    Level.L3: "discovery, cancel, tracing",
}


class Rule(msgspec.Struct, frozen=True):
    """One rule; `level` is None for a rule that binds the bridge alone."""

    number: int
    level: Level | None
    title: str

    @property
    def name(self) -> str:
        """The rule's name in the specification."""
        return f"EXEC-{self.number}"


RULES: Final = (
    Rule(1, Level.L0, "subscribes to the types that it handles, and to nothing wider"),
    Rule(2, Level.L0, "subscribes in the queue group ajc"),
    Rule(3, None, "publishes on subjects made of legal types only"),
    Rule(4, Level.L0, "decodes the payload from base64, and ignores keys that it does not know"),
    Rule(5, Level.L1, "compares header names without case, and takes a blank value for none"),
    Rule(6, Level.L0, "ignores headers that it does not know"),
    Rule(7, Level.L1, "runs no task of a protocol that it does not know, and answers AJ-Busy"),
    Rule(8, Level.L1, "reads the request's headers"),
    Rule(9, Level.L0, "sends exactly one reply to a request"),
    Rule(10, Level.L0, "sends the result byte for byte, with none of the outcome headers"),
    Rule(11, Level.L1, "says that a task failed by AJ-Error, with a text"),
    Rule(12, Level.L1, "answers AJ-Error when a handler ends by accident, and lives on"),
    Rule(13, Level.L1, "says by AJ-Terminate that there is to be no further try"),
    Rule(14, Level.L1, "says by AJ-Busy that the work was not begun"),
    Rule(15, Level.L1, "says by AJ-Retry-After-Ms when to try again, as a decimal integer"),
    Rule(16, Level.L1, "puts texts on one line, in UTF-8, 4,096 bytes at most"),
    Rule(17, None, "reads terminate before busy before error"),
    Rule(18, Level.L1, "says by AJ-Terminate that a result does not fit"),
    Rule(19, Level.L2, "answers others within a second while a handler works"),
    Rule(20, Level.L2, "sends no reply after the deadline"),
    Rule(21, Level.L2, "goes by AJ-Timeout-Ms when the clocks disagree"),
    Rule(22, Level.L2, "answers AJ-Error just before the deadline, or not at all"),
    Rule(23, Level.L2, "sends heartbeats from the start of a handler, as often as asked"),
    Rule(24, Level.L2, "goes on with heartbeats while a handler blocks"),
    Rule(25, Level.L2, "sends no heartbeat after the reply, nor unasked"),
    Rule(26, Level.L2, "takes each heartbeat for a full run time from then on, up to the task's deadline"),
    Rule(27, Level.L2, "tells progress in its heartbeats"),
    Rule(28, None, "takes three missed heartbeats for the end of the attempt"),
    Rule(29, Level.L3, "stops a handler whose task is cancelled"),
    Rule(30, None, "goes by the store, not by the message, when a task is cancelled"),
    Rule(31, Level.L3, "is a NATS service that says what it serves"),
    Rule(32, Level.L3, "counts requests and errors"),
    Rule(33, Level.L3, "hands the trace to the handler"),
    Rule(34, Level.L2, "on SIGTERM leaves the queue group, finishes what runs, and ends with 0"),
    Rule(35, Level.L0, "comes back after the server was away"),
    Rule(36, Level.L0, "serves again when it was killed and started"),
    Rule(37, None, "counts late and second replies, and changes nothing for them"),
    Rule(38, None, "gives nothing another meaning without another version"),
    Rule(39, None, "asks again at once when busy, then waits for room"),
    Rule(40, None, "asks the catch-all when nobody is there"),
)
BY_NAME: Final = {rule.name: rule for rule in RULES}


def rules_for(level: Level) -> tuple[Rule, ...]:
    """Return the rules that bind a responder of this level."""
    return tuple(rule for rule in RULES if rule.level is not None and rule.level <= level)
