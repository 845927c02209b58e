"""`ajc-bridge dlq ...`: the tasks that ended badly."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from ajc_bridge.cli.connecting import with_client
from ajc_bridge.cli.exits import USAGE, CliError
from ajc_bridge.cli.options import Context, Json, Server
from ajc_bridge.cli.output import print_fields, print_json, print_table, say
from ajc_bridge.cli.task_text import first_line

if TYPE_CHECKING:
    from ajc.client import Client
    from ajc.dead_letters import DeadLetter

app = typer.Typer(help="The tasks that ended badly.", no_args_is_help=True, rich_markup_mode=None)

REASONS: Final = (
    "terminated",
    "tries",
    "deadline",
    "result_too_large",
    "task_too_large",
    "queue_error",
    "unreachable",
    "invalid_type",
    "malformed_task",
    "malformed_item",
)

InQueue = Annotated[str | None, typer.Option("--queue", "-q", help="of this queue")]


@app.command()
def ls(
    queue: InQueue = None,
    reason: Annotated[str | None, typer.Option(help="of this reason: terminated, tries, deadline, ...")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="letters at most; 0: all")] = 200,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """List dead letters, the oldest first.

    \b
    Examples:
      ajc-bridge dlq ls
      ajc-bridge dlq ls --queue EMAIL --reason tries --json

    A narrow terminal gets fewer columns; --json has all.
    """
    if reason is not None and reason not in REASONS:
        raise CliError(f"there is no reason {reason!r}", f"the reasons are {', '.join(REASONS)}", USAGE)

    async def work(client: Client) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        async for letter in client.dead_letters(queue):
            if reason is None or letter.reason == reason:
                letters.append(letter)
            if limit and len(letters) == limit:
                break
        return letters

    letters = with_client(server, context, work)
    if as_json:
        print_json([_document(letter) for letter in letters])
        return
    rows = [
        (one.task_id, one.queue, one.type, one.reason, one.tries, one.time.to_datetime(), first_line(one.error))
        for one in letters
    ]
    print_table(
        ("ID", "QUEUE", "TYPE", "REASON", "TRIES", "TIME", "ERROR"),
        rows,
        empty="no dead letters",
        cut="ERROR",
        dispensable=("TIME", "TRIES", "QUEUE", "ERROR"),
    )
    if limit and len(letters) == limit:
        say(f"there may be more than these {limit}: --limit 0 lists all")


@app.command()
def view(
    task_id: Annotated[str, typer.Argument(metavar="ID")],
    queue: InQueue = None,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Show the dead letter of a task: why it ended, and the task as it was then.

    \b
    Example:
      ajc-bridge dlq view 24ErgVol4ZjpoQ8FAima9R2jEHB
    """
    letter = with_client(server, context, lambda client: client.dead_letter(task_id, queue))
    if as_json:
        print_json(_document(letter))
        return
    task = letter.task
    fields: list[tuple[str, Any]] = [
        ("id", letter.task_id),
        ("queue", letter.queue),
        ("type", letter.type),
        ("reason", letter.reason),
        ("error", letter.error),
        ("tries", letter.tries),
        ("time", letter.time.to_datetime()),
        ("state", task.state if task else "(the body is no task)"),
        (
            "payload",
            (task.payload or b"").decode("utf-8", "replace") if task else letter.body.decode("utf-8", "replace"),
        ),
    ]
    print_fields(fields)


def _document(letter: DeadLetter) -> dict[str, Any]:
    """Return what --json prints: the body as JSON where it is, else in base64."""
    document: dict[str, Any] = {
        "task_id": letter.task_id,
        "queue": letter.queue,
        "type": letter.type,
        "reason": letter.reason,
        "error": letter.error,
        "tries": letter.tries,
        "time": letter.time.rfc3339(),
    }
    try:
        msgspec.json.decode(letter.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document["body_base64"] = base64.b64encode(letter.body).decode()
    else:
        document["task"] = msgspec.Raw(letter.body)  # byte for byte: numbers are not rounded
    return document
