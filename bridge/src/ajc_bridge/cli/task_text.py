"""A task and its events as people read them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ajc_bridge.cli.output import print_fields

if TYPE_CHECKING:
    from ajc.events import Event
    from ajc.task import Task

SCREEN: Final = 2_000
COLUMN: Final = 100


def show(task: Task, most: int) -> None:
    """Print a task, a line each field; `most` is how often it is tried at most, 0: no limit."""
    fields: list[tuple[str, Any]] = [
        ("id", task.id),
        ("type", task.type),
        ("queue", task.queue),
        ("state", task.state),
        ("tries", f"{task.tries} of {most}" if most > 0 else task.tries),
        ("created", when(task.created)),
        ("tried", when(task.tried)),
        ("next try", when(task.next_try_at)),
        ("deadline", when(task.deadline)),
        ("cancelled", when(task.cancelled)),
        ("last error", task.last_err),
        ("dead letter", task.dead_letter),
        ("dependencies", ", ".join(task.dependencies)),
        ("payload", readable(task.payload)),
    ]
    if task.result is not None:
        fields += [("completed", when(task.result.completed)), ("result", readable(task.result.data))]
    print_fields(fields)


def readable(data: bytes | None) -> str:
    """Return a payload or result as text, cut to a screen; of other bytes how many there are."""
    if not data:
        return ""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes (see them with --payload or --result)"
    return text if len(text) <= SCREEN else f"{text[:SCREEN]} ... ({len(data)} bytes)"


def when(instant: Any) -> datetime | str:
    """Return an instant as a cell of a table; "" for none."""
    from ajc.instant import GO_ZERO  # noqa: PLC0415 - keeps --help quick

    if instant is None or instant == GO_ZERO:
        return ""
    try:
        moment: datetime = instant.to_datetime()
    except (OverflowError, ValueError):
        return str(instant.rfc3339())
    return moment


def first_line(text: str) -> str:
    """Return the first line of a text, cut to a column."""
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= COLUMN else line[: COLUMN - 1] + "…"


def event_line(event: Event) -> str:
    """Return an event on one line."""
    from ajc.events import TaskStateChanged  # noqa: PLC0415 - keeps --help quick
    from ajc.ksuid import LENGTH  # noqa: PLC0415
    from ajc.progress import TaskProgressed  # noqa: PLC0415

    said: tuple[str, ...]
    if isinstance(event, TaskStateChanged):
        word, said = event.state or "-", (first_line(event.last_error),)
    elif isinstance(event, TaskProgressed):
        percent = "" if event.percent is None else f"{event.percent:g} %"
        word, said = "progress", (percent, first_line(event.message))
    else:
        return event.encode().decode()
    clock = f"{datetime.now().astimezone():%H:%M:%S}"
    line = f"{clock}  {word:<11} {event.task_id:<{LENGTH}}  try {event.tries:<2}  {event.task_type}"
    return "  ".join((line, *(text for text in said if text)))
