"""Exit codes and error texts: `ajc-bridge: what happened`, then what to do about it.

`python -m ajc_bridge.cli.exits [FILE]` makes docs/errors.md.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Final, NoReturn

from ajc import errors
from ajc_bridge.document import write_document
from ajc_bridge.mends import ENABLE_JETSTREAM, jetstream_is_off

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
NO_CONNECTION: Final = 5

# the first that fits decides: subclasses stand before their bases
EXITS: Final[tuple[tuple[type[errors.AjcError], int, str], ...]] = (
    (errors.InvalidName, USAGE, ""),
    (errors.InvalidValue, USAGE, ""),
    (errors.TooLarge, FAILED, "keep large data elsewhere and enqueue where it is"),
    (errors.NotFound, NOT_FOUND, "`ajc-bridge task ls`, `queue ls` and `dlq ls` show what there is"),
    (errors.AlreadyExists, CONFLICT, "look at it with `ajc-bridge task view` or `queue view`"),
    (errors.Conflict, CONFLICT, "look at it again and repeat the command if it still applies"),
    (errors.QueueFull, CONFLICT, "enqueue again later, or let the queue hold more (max_entries)"),
    (errors.SignatureError, FAILED, ""),
    (errors.NoResponders, NO_CONNECTION, ""),
    (errors.NotPermitted, FAILED, "use a --context whose user may: docs/operations.md lists the rights of each role"),
    (
        errors.Closed,  # a server answered: that one runs there is no question
        NO_CONNECTION,
        "are the credentials right? the URL (nats://USER:PASSWORD@HOST), --context, or $NATS_USER and others name them",
    ),
    (
        errors.Unavailable,
        NO_CONNECTION,
        "is a nats-server running there? `ajc-bridge dev` starts one; --server or --context names another",
    ),
    (errors.StoreError, FAILED, "`ajc-bridge doctor` says what is wrong with streams and permissions"),
    (errors.Malformed, FAILED, "the stored data was written by something else; it is left as it is"),
    (errors.TaskFailed, FAILED, "`ajc-bridge task view` shows it; `task retry` tries it once more"),
    (errors.TaskTimeout, FAILED, "`ajc-bridge task view` shows how far it is"),
    (errors.AjcError, FAILED, ""),
)


# what to do where the error names what is missing
MISSING: Final = {
    "task": "`ajc-bridge task ls` shows what there is",
    "queue": "`ajc-bridge queue ls` shows what there is, `queue add` makes one",
    "dead letter of task": "`ajc-bridge dlq ls` shows what there is; `task view` shows the task",
}


class CliError(errors.AjcError):
    """A command that cannot go on: `text`, `hint` (what to do), the exit `code`, and the task it is about, if any."""

    def __init__(self, text: str, hint: str = "", code: int = FAILED, *, task_id: str = "") -> None:
        super().__init__(text)
        self.hint = hint
        self.code = code
        self.task_id = task_id


def code_and_hint(error: errors.AjcError) -> tuple[int, str]:
    """Return the exit code for an error, and what the reader may do about it ("" when its text says so)."""
    if isinstance(error, CliError):
        return error.code, error.hint
    if jetstream_is_off(error):
        return NO_CONNECTION, ENABLE_JETSTREAM
    if isinstance(error, errors.NotFound) and error.what in MISSING:
        return NOT_FOUND, MISSING[error.what]
    for kind, code, hint in EXITS:
        if isinstance(error, kind):
            return code, hint
    return FAILED, ""


for_programs = False
"""Whether the command was given --json: then an error is a document on stdout too."""


def fail(error: errors.AjcError) -> NoReturn:
    """Write the error to stderr, with --json as one document to stdout too, and end the process."""
    code, _ = code_and_hint(error)
    tell(error)
    sys.exit(code)


def tell(error: errors.AjcError, **about: str) -> None:
    """Write the error to stderr, and with --json to stdout: a task that ended badly as it is stored, else the texts.

    `about` are further keys of the document.
    """
    from ajc_bridge.cli.output import print_json  # noqa: PLC0415 - it imports this module

    _, hint = code_and_hint(error)
    text = str(error) or type(error).__name__
    sys.stderr.write(f"ajc-bridge: {text}\n")
    if hint:
        sys.stderr.write(f"  {hint}\n")
    sys.stderr.flush()
    if not for_programs:
        return
    if isinstance(error, errors.TaskFailed):
        print_json(error.task.encode())
        return
    if task_id := _task_of(error):
        about = {"task_id": task_id, **about}
    print_json({"error": text, "hint": hint, **about})


def _task_of(error: errors.AjcError) -> str:
    """Return the id of the task that the error is about, "" when it is about none."""
    if isinstance(error, errors.NotFound) and error.what in ("task", "dead letter of task"):
        return error.name
    return str(getattr(error, "task_id", ""))


HEAD: Final = """# Errors and exit codes

<!-- made by `python -m ajc_bridge.cli.exits docs/errors.md`; a test compares -->

Every command writes errors to stderr, what happened first and then what to do. With `--json` stdout gets one document
besides: `{"error": ..., "hint": ...}`, with `task_id` where one task is meant; of a task that was waited for and ended
badly, the task as it is stored. `task retry`, `task cancel` and `task rm` write a line for each task that they are
given, one document each: the task, or its error with `task_id`. Options that cannot be parsed are told on stderr only.
Every command ends with

| Code | Meaning |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | usage, or configuration: nothing was done |
| 3 | not found |
| 4 | conflict, or full |
| 5 | no connection |
| 130 | ended by Ctrl-C |

Where stdout cannot be written (its disk is full, or it is closed), one line on stderr says so, and the code is 1; a
reader that goes away, like `head`, is told nothing, and the code is 1, too.

`ajc-bridge run` ends with 0 when it drained, 1 when it failed or was ended by a second signal, 2 for a wrong
configuration, 5 when the connection is refused or closed for good.

The SDK raises these, and nothing of a library below; all are `ajc.AjcError`:

| Error | Code | Meaning |
| --- | --- | --- |
"""


def document() -> str:
    """Return the whole page."""
    rows = [
        f"| {'&nbsp;&nbsp;' * depth}`{kind.__name__}` | {_code(kind)} | {_meaning(kind)} |\n"
        for kind, depth in _tree(errors.AjcError, 0)
    ]
    return HEAD + "".join(rows)


def _tree(kind: type[errors.AjcError], depth: int) -> Iterator[tuple[type[errors.AjcError], int]]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below, depth
            yield from _tree(below, depth + 1)


def _code(kind: type[errors.AjcError]) -> str:
    if issubclass(kind, errors.HandlerSignal):
        return ""
    return str(next(code for base, code, _ in EXITS if issubclass(kind, base)))


def _meaning(kind: type[errors.AjcError]) -> str:
    return " ".join(inspect.getdoc(kind).split("\n\n")[0].split())  # type: ignore[union-attr]  # lint demands docstrings


if __name__ == "__main__":
    write_document(document())
