"""`ajc-bridge bench`: how many tasks a second go through a bridge here, beside a client that decides nothing."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ajc_bridge.cli.connecting import with_client
from ajc_bridge.cli.options import Context, Json, Server
from ajc_bridge.cli.output import print_json, say


def bench(
    tasks: Annotated[
        int, typer.Option("--tasks", "-n", min=1, max=1_000_000, help="tasks in each measurement")
    ] = 2_000,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="attempts at once")] = 200,
    size: Annotated[int, typer.Option(min=0, help="bytes of a payload")] = 200,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Measure tasks per second on this server, through a bridge and without one.

    \b
    Examples:
      ajc-bridge bench
      ajc-bridge bench --tasks 20000 --json

    Queues of its own, a bridge and a responder that answers at once are made for it, and removed afterwards. The
    floor is a plain client that sends the bridge's messages for as many tasks at once, and takes no decisions.
    """
    from ajc_bridge.cli.measuring import measure  # noqa: PLC0415 - keeps --help quick

    if not as_json:
        say(f"{tasks} tasks, {concurrency} at once, {size} bytes each, twice; this takes a while")
    found = with_client(
        server,
        context,
        lambda client: measure(client, server, context, tasks=tasks, concurrency=concurrency, size=size),
        quick=True,
    )
    if as_json:
        print_json(found)
        return
    sys.stdout.write(f"enqueue  {found.enqueued_per_second:>8.0f} tasks/s\n")
    sys.stdout.write(f"floor    {found.floor_per_second:>8.0f} tasks/s\n")
    sys.stdout.write(f"bridge   {found.bridge_per_second:>8.0f} tasks/s, {found.ratio:.2f} of the floor\n")
