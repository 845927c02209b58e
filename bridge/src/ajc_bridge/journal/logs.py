"""The log sink: one line a detail, on stderr, from the level on that is set. Nothing is formatted below it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO

import msgspec
import structlog

from ajc.duration import format_duration
from ajc_bridge import happenings as happened
from ajc_bridge.journal.journal import Handler
from ajc_bridge.journal.log_stream import LogStream
from ajc_bridge.journal.log_table import DROPPED, DROPPED_TEXT, LEVELS, LINES, MAY_WARN, Level, Line, level_of

MINUTE: Final = 60.0
MAX_BUDGETS: Final = 10_000
_LAST_LINES_SECONDS: Final = 0.5
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Logs:
    """Writes lines, to stderr unless told otherwise. After a change of `level`, the journal must be rewired."""

    def __init__(
        self,
        level: Level = "info",
        form: Literal["console", "json"] = "console",
        *,
        stream: LogStream | TextIO | None = None,
        bound: Mapping[str, Any] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.level: Level = level
        self._monotonic = monotonic
        self._budgets: dict[tuple[str, ...], _Budget] = {}
        self._written: set[tuple[str, Any]] = set()
        out = LogStream(sys.stderr.fileno()) if stream is None else stream
        self._stream = out if isinstance(out, LogStream) else None
        self._told_dropped = 0
        self._logger = make_logger(form, out).bind(**(bound or {}))

    def handlers(self) -> Mapping[type[happened.Detail], Handler]:
        """Return what to call for which kind: only kinds that can reach the level."""
        lowest = LEVELS[self.level]
        return {
            kind: self._writer(line)
            for kind, line in LINES.items()
            if LEVELS[line.level] >= lowest or (kind in MAY_WARN and lowest <= LEVELS["warn"])
        }

    def say(self, level: Level, action: str, text: str, **fields: Any) -> None:
        """Write a line that belongs to no detail (`level` decides as usual)."""
        if LEVELS[level] >= LEVELS[self.level]:
            self._write(level, action, text, fields)

    def lines_dropped(self) -> int:
        """Return how many lines whoever reads them did not take."""
        return self._stream.dropped if self._stream is not None else 0

    def finish(self) -> None:
        """Write what waits for its reader, for a moment at most: before the process ends."""
        if self._stream is not None:
            self._stream.finish(_LAST_LINES_SECONDS)

    def take_over_logging(self) -> None:
        """Let what libraries log by the standard library come out here too, from `warn` on."""
        root = logging.getLogger()
        root.handlers[:] = [_Records(self)]
        root.setLevel(logging.WARNING)

    def _writer(self, line: Line) -> Handler:
        def write(detail: happened.Detail) -> None:
            level = level_of(detail, line)
            if LEVELS[level] < LEVELS[self.level]:
                return
            fields = fields_of(detail)
            if line.once_by and not self._first(detail, line.once_by):
                return
            if line.a_minute:
                suppressed = self._spend(detail, line.a_minute)
                if suppressed is None:
                    return
                if suppressed:
                    fields["suppressed"] = suppressed
            self._write(level, detail.action, line.text, fields)

        return write

    def _write(self, level: Level, action: str, text: str, fields: Mapping[str, Any]) -> None:
        stream = self._stream
        if stream is not None and stream.dropped != self._told_dropped and not stream.waiting:
            lines, self._told_dropped = stream.dropped - self._told_dropped, stream.dropped
            self._logger.msg(DROPPED_TEXT, level="warn", action=DROPPED, lines=lines)
        self._logger.msg(text, level=level, action=action, **fields)

    def _first(self, detail: happened.Detail, field: str) -> bool:
        """Say whether no line of this action had this value before; past a bound on the values, none is new."""
        key = (detail.action, getattr(detail, field))
        if key in self._written or len(self._written) >= MAX_BUDGETS:
            return False
        self._written.add(key)
        return True

    def _spend(self, detail: happened.Detail, a_minute: int) -> int | None:
        """Return how many lines were left out before this one, None when this one is to be left out too."""
        key = (detail.action, *(getattr(detail, name, "") for name in ("queue", "type", "where")))
        now = self._monotonic()
        budget = self._budgets.get(key)
        if budget is None:
            if len(self._budgets) >= MAX_BUDGETS:  # hostile types must not fill the memory
                self._budgets.clear()
            budget = self._budgets[key] = _Budget(now)
        if now - budget.since >= MINUTE:
            budget.since, budget.spent = now, 0
        if budget.spent >= a_minute:
            budget.suppressed += 1
            return None
        budget.spent += 1
        suppressed, budget.suppressed = budget.suppressed, 0
        return suppressed


class _Budget:
    __slots__ = ("since", "spent", "suppressed")

    def __init__(self, since: float) -> None:
        self.since = since
        self.spent = 0
        self.suppressed = 0


def fields_of(detail: happened.Detail) -> dict[str, Any]:
    """Return a line's own keys: the detail's fields, nanoseconds as milliseconds."""
    if type(detail) is happened.TaskSaved:
        task = detail.task
        return {
            "queue": detail.queue,
            "type": task.type,
            "task_id": task.id,
            "state": str(task.state),
            "tries": task.tries,
            "revision": detail.revision,
        }
    fields: dict[str, Any] = {}
    for name in detail.__struct_fields__:
        value = getattr(detail, name)
        if name.endswith("_ns"):
            fields[name.removesuffix("_ns") + "_ms"] = round(value / 1e6, 3)
        elif isinstance(value, tuple):
            fields[name] = list(value)
        else:
            fields[name] = value
    return fields


class _Lines:
    """What structlog hands its lines to: its own has a lock.

    An object that is collected while a line is written may log, and would wait for that lock in the thread that has it.
    """

    def __init__(self, stream: LogStream | TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = error = critical = msg


def make_logger(form: Literal["console", "json"], stream: LogStream | TextIO) -> Any:
    """Return a structlog logger of its own, so that a host program's configuration and ours do not meet."""
    render: Any
    if form == "json":
        render = structlog.processors.JSONRenderer(serializer=lambda entry, **_: _encode(entry).decode())
    else:
        render = structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="time", pad_event_to=0)
    for_people = [] if form == "json" else [_for_people]
    return structlog.wrap_logger(
        _Lines(stream),
        processors=[structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"), *for_people, render],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _for_people(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> dict[str, Any]:
    """Leave out what is empty, and write durations as people do: `lease_ms=30000.0` becomes `lease=30s`."""
    shown: dict[str, Any] = {}
    for key, value in entry.items():
        if value in ("", None, []):
            continue
        if key.endswith("_ms") and isinstance(value, (int, float)):
            shown[key.removesuffix("_ms")] = format_duration(round(value * 1e6))
        else:
            shown[key] = value
    return shown


class _Records(logging.Handler):
    """Standard log records, as lines of ours."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warn"
        fields = {"error": repr(record.exc_info[1])} if record.exc_info and record.exc_info[1] else {}
        self._logs.say(level, f"log.{record.name}", record.getMessage(), **fields)
