"""`python -m ajc_bridge.journal.log_table [FILE]`: level and sentence of every action; docs/logs.md is made from it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ajc_bridge import happenings as happened
from ajc_bridge.document import write_document

Level = Literal["debug", "info", "warn", "error"]
LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warn": 30, "error": 40}


class Line(msgspec.Struct, frozen=True):
    """How a kind is logged.

    `a_minute`: how many lines of one action, queue, type and place at most; the next line says how many were left out.
    0: every one. `once_by`: one line for each value of this field, and no more, as long as the process lives.
    """

    level: Level
    text: str
    a_minute: int = 0
    once_by: str = ""


LINES: Final[dict[type[happened.Detail], Line]] = {
    happened.Started: Line("info", "started"),
    happened.Connected: Line("info", "connected to NATS"),
    happened.Disconnected: Line("warn", "connection to NATS lost; seeking it again"),
    happened.Reconnected: Line("info", "connected to NATS again"),
    happened.ConnectionClosed: Line("error", "connection to NATS closed for good"),
    happened.FastPathUnavailable: Line("warn", "the fast client does not fit this nats-py; using its public interface"),
    happened.HttpListening: Line("info", "probes and metrics are served"),
    happened.QueueBound: Line("info", "queue is served"),
    happened.QueueLost: Line("warn", "queue is served no longer", 10),
    happened.QueueConfigured: Line("info", "changed on the server, as the configuration wants it"),
    happened.ConfigApplied: Line("info", "configuration read again"),
    happened.RestartNeeded: Line("warn", "restart the bridge: these keys of the file take effect at its start alone"),
    happened.ConfigRefused: Line("error", "configuration is wrong; the old one stays"),
    happened.ClocksApart: Line("warn", "this machine's clock and the server's differ: set both by NTP", 1),
    happened.Draining: Line("info", "draining: no further task is taken"),
    happened.Drained: Line("info", "drained"),
    happened.Stopped: Line("info", "stopped"),
    happened.LeaseShortened: Line("warn", "somebody has shortened the lease: what runs may be delivered elsewhere"),
    happened.DueItemHeldUp: Line("warn", "queue is full: an item whose time has come finds no room", 1),
    happened.DueItemPut: Line("debug", "item that was held up is in its queue"),
    happened.RemainsCleared: Line("info", "removed what a killed server had brought back"),
    happened.ConnectFailed: Line("warn", "cannot connect to NATS; trying again", 2),
    happened.NotPrepared: Line("warn", "the server is not ready for a bridge; trying again", 1),
    happened.Trouble: Line("error", "something failed that should not have", 10),
    happened.PullFailed: Line("warn", "pull failed; trying again", 10),
    happened.Pulled: Line("debug", "pull sent"),
    happened.AttemptStarted: Line("debug", "attempt started"),
    happened.AttemptBeaten: Line("debug", "heartbeat of a responder, maybe with progress", 60),
    happened.AttemptEnded: Line("debug", "attempt ended"),
    happened.AttemptCancelled: Line("debug", "task was cancelled while its attempt ran"),
    happened.TaskSaved: Line("debug", "task saved"),
    happened.TaskSettled: Line("debug", "task settled"),
    happened.TaskParked: Line("warn", "nobody could take the task; it waits, no try is used", 1),
    happened.DeadLettered: Line("debug", "dead letter stored"),
    happened.SaveFailed: Line("warn", "save failed", 10),
    happened.RevisionConflict: Line("warn", "somebody else has saved the task; it is left to them", 10),
    happened.ItemCameAgain: Line("warn", "item came again while it is worked on; the attempt goes on with it", 10),
    happened.LeaseLost: Line("warn", "lease ran out while the attempt ran", 10),
    happened.ReplyIgnored: Line("warn", "reply changed nothing, or could not be read", 10),
    happened.BeatIgnored: Line("warn", "heartbeat changed nothing, or its progress could not be read", 10),
    happened.RetryAfterIgnored: Line("warn", "AJ-Retry-After-Ms is no number of milliseconds", 10),
    happened.ItemDropped: Line("debug", "item acknowledged without a run"),
    happened.ItemWaits: Line("debug", "item waits"),
    happened.Rescued: Line("info", "task without an item was found and settled", 10),
    happened.UnknownState: Line("warn", "task in a state that this version does not know; left alone", once_by="state"),
}
UNLOGGED: Final = frozenset({happened.SlotsChanged})

BAD_DATA: Final = frozenset({"malformed_item", "malformed_task", "invalid_type", "task_too_large", "result_too_large"})
"""Dead letters of these reasons say that somebody writes what nobody can read: `warn`, where others are `debug`."""


def level_of(detail: happened.Detail, line: Line) -> Level:
    """Return the level of this very detail: data that nobody can read is a problem, a task's ordinary end is not."""
    if type(detail) is happened.DeadLettered and detail.reason in BAD_DATA:
        return "warn"
    if type(detail) is happened.ItemDropped and detail.reason == "no_record":
        return "warn"
    return line.level


DROPPED: Final = "log.lines_dropped"
DROPPED_TEXT: Final = "log lines were left out: whoever reads them was too slow"
"""The one line that belongs to no detail of its own: the stream beneath the lines knows of it."""

MAY_WARN: Final = frozenset({happened.DeadLettered, happened.ItemDropped})


def field_names(kind: type[happened.Detail]) -> list[str]:
    """Return the keys of this kind's line, in order: nanoseconds become milliseconds, a task its id, type and state."""
    if kind is happened.TaskSaved:
        return ["queue", "type", "task_id", "state", "tries", "revision"]
    return [name.removesuffix("_ns") + "_ms" if name.endswith("_ns") else name for name in kind.__struct_fields__]


HEAD: Final = """# Logs

<!-- made by `python -m ajc_bridge.journal.log_table docs/logs.md`; a test compares -->

Logs go to stderr: for people (`log.format = "console"`) or as one JSON object a line (`"json"`), from `log.level`
on. Every line has `time`, `level`, `event` (a sentence, which may change) and `action` (a key, which does not); the
other keys depend on the action. A task's ordinary life is logged at `debug` only; problems are `warn`. Where a
limit is given, further lines with the same action, queue, type and `where` within a minute are left out, and the
next one says how many, as `suppressed`; metrics count them all.

For people, keys without a value are left out, and durations are written like `lease=30s` where JSON has
`"lease_ms": 30000.0`.

| `action` | Level | Sentence | Keys | At most a minute |
| --- | --- | --- | --- | --- |
"""
TAIL: Final = """
Of dead letters, those for `malformed_item`, `malformed_task`, `invalid_type`, `task_too_large` and
`result_too_large` are `warn`: somebody writes what nobody can take. So is `item.dropped` for the reason
`no_record`.

No line is ever waited for. When whoever reads stderr does not keep up, a megabyte of lines is kept for it; what comes
beyond that is left out, counted by `ajc_bridge_log_lines_dropped_total`, and told by a line `log.lines_dropped`
(`warn`, with the number as `lines`) once the reader has caught up.

A start that is refused (an address that cannot be had, a setting of a queue that cannot change) is one line with the
action `bridge.refused`. Lines of libraries have the action `log.<logger>`.
"""


def document() -> str:
    """Return the whole page."""
    rows = [
        f"| `{kind.action}` | {line.level}{', warn' if kind in MAY_WARN else ''} | {line.text} "
        f"| {' '.join(f'`{name}`' for name in field_names(kind))} | {_bound(line)} |\n"
        for kind, line in LINES.items()
    ]
    return HEAD + "".join(rows) + TAIL


def _bound(line: Line) -> str:
    if line.once_by:
        return f"one a `{line.once_by}`, ever"
    return str(line.a_minute or "")


if __name__ == "__main__":
    write_document(document())
