"""`ajc-bridge handlers ...`: who serves which types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ajc_bridge.cli.connecting import with_client
from ajc_bridge.cli.exits import NOT_FOUND, CliError
from ajc_bridge.cli.options import Context, Json, Server
from ajc_bridge.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ajc.client import Client
    from ajc.discovery import FoundEndpoint
    from ajc_bridge.jetstream.served_types import Overview, ServedType

app = typer.Typer(help="Who serves which types.", no_args_is_help=True, rich_markup_mode=None)

UNKNOWN = "plain subscribers cannot be discovered: whether somebody serves the type shows when a task of it is run"


@app.command()
def ls(server: Server = None, context: Context = None, as_json: Json = False) -> None:
    """List the types that responders serve; first those that have waiting tasks and nobody known to serve them.

    Responders are found as NATS services; one that is a plain subscriber is not. Requests, errors and the mean time are
    counted since each instance started. Waiting tasks are looked for in queues of up to 2,048 items whole, in longer
    ones in a sample. A narrow terminal gets fewer columns; --json has all.

    \b
    Examples:
      ajc-bridge handlers ls
      ajc-bridge handlers ls --json
    """

    async def work(client: Client) -> Overview:
        from ajc_bridge.jetstream.served_types import served_types  # noqa: PLC0415 - keeps --help quick

        return await served_types(client.connection)

    overview = with_client(server, context, work)
    if as_json:
        print_json(overview)
        return
    columns = ("TYPE", "SERVED", "WAITING", "INSTANCES", "CAPACITY", "VERSIONS", "REQUESTS", "ERRORS", "MEAN MS")
    print_table(
        columns,
        map(_row, overview.types),
        empty="no responder says what it serves, and no tasks wait",
        dispensable=("VERSIONS", "MEAN MS", "ERRORS", "REQUESTS", "CAPACITY"),
    )
    if overview.unseen:
        say(f"waiting tasks were not looked at: {overview.unseen}")
    elif not overview.whole:
        say(f"of the waiting tasks {overview.looked_at} were looked at")
    if any(one.served == "unknown" for one in overview.types):
        say(f"unknown: {UNKNOWN}")
    for one in overview.types:
        if one.other_groups:
            groups = ", ".join(repr(group) for group in one.other_groups)
            say(f"{one.type}: responders in the queue group {groups} beside 'ajc': each task would be run twice")


def _row(one: ServedType) -> tuple[Any, ...]:
    return (
        one.type,
        one.served,
        one.waiting,
        one.instances,
        one.capacity,
        " ".join(one.versions),
        one.requests,
        one.errors,
        one.average_ms,
    )


@app.command()
def ping(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="task type")],  # noqa: A002 - the word of the wire
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Show the instances that serve a type and how quickly they answer. No task is run; exit code 3 when there is none.

    \b
    Example:
      ajc-bridge handlers ping email:new
    """

    async def work(client: Client) -> list[FoundEndpoint]:
        from ajc.discovery import find_endpoints  # noqa: PLC0415 - keeps --help quick
        from ajc.subjects import check_type  # noqa: PLC0415

        check_type(type, catchall=True)
        found = await find_endpoints(client.connection, statistics=False)
        return sorted((one for one in found if one.type == type), key=lambda one: one.answered)

    found = with_client(server, context, work)
    if not found:
        raise CliError(f"no service serves {type}", UNKNOWN, NOT_FOUND)
    if as_json:
        print_json([_document(one) for one in found])
        return
    rows = [
        (one.service, one.id, one.version, one.capacity, one.subject, f"{one.answered * 1000:.1f}") for one in found
    ]
    columns = ("SERVICE", "ID", "VERSION", "CAPACITY", "SUBJECT", "ANSWERED MS")
    print_table(columns, rows, empty="", dispensable=("CAPACITY", "VERSION", "SERVICE"))


def _document(one: FoundEndpoint) -> dict[str, Any]:
    return {
        "type": one.type,
        "service": one.service,
        "id": one.id,
        "version": one.version,
        "capacity": one.capacity,
        "protocol": one.protocol,
        "subject": one.subject,
        "queue_group": one.queue_group,
        "answered_ms": round(one.answered * 1000, 3),
    }
