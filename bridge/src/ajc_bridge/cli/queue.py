"""`ajc-bridge queue ...`: make queues, look at them, empty and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ajc_bridge.cli.connecting import with_client
from ajc_bridge.cli.exits import CONFLICT, CliError
from ajc_bridge.cli.options import Context, Json, Server, Yes, optional_duration
from ajc_bridge.cli.output import confirm, print_fields, print_json, print_table, say

if TYPE_CHECKING:
    from ajc.client import Client
    from ajc.queue import QueueInfo

app = typer.Typer(help="Make queues, look at them, empty and remove them.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="QUEUE")]


@app.command()
def add(
    name: Name,
    priority: Annotated[int | None, typer.Option(help="share of a bridge's slots, 1 to 100")] = None,
    max_tries: Annotated[int | None, typer.Option(help="tries of a task at most; 0: as the task says")] = None,
    max_run_time: Annotated[str | None, typer.Option(metavar="DURATION", help="time one attempt may take")] = None,
    lease: Annotated[
        str | None, typer.Option(metavar="DURATION", help="a dead bridge's tasks run elsewhere after it")
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="attempts at once over all bridges; -1: no limit")] = None,
    max_entries: Annotated[int | None, typer.Option(help="entries at most; 0: no limit")] = None,
    when_full: Annotated[str | None, typer.Option(metavar="reject|discard_old", help="what a full queue does")] = None,
    max_age: Annotated[str | None, typer.Option(metavar="DURATION", help="older entries are removed")] = None,
    backoff: Annotated[
        str | None, typer.Option(metavar="POLICY", help="delay between tries: default, 1m, 10m, 1h")
    ] = None,
    storage: Annotated[str | None, typer.Option(metavar="file|memory", help="where it is kept")] = None,
    replicas: Annotated[int | None, typer.Option(help="copies in a cluster, 1 to 5")] = None,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Make a queue; one that is there already with these settings is fine.

    \b
    Examples:
      ajc-bridge queue add EMAIL
      ajc-bridge queue add EMAIL --max-tries 5 --max-run-time 10m --max-concurrent 100 --priority 10
    """
    from ajc.queue import Queue  # noqa: PLC0415 - keeps --help quick

    wanted = Queue(
        name,
        priority=priority,
        max_tries=max_tries,
        max_run_time=optional_duration(max_run_time, "--max-run-time"),
        lease=optional_duration(lease, "--lease"),
        max_concurrent=max_concurrent,
        max_entries=max_entries,
        when_full=when_full,  # type: ignore[arg-type]  # Queue checks the word
        max_age=optional_duration(max_age, "--max-age"),
        backoff=backoff,
        storage=storage,  # type: ignore[arg-type]  # likewise
        replicas=replicas,
    )

    async def work(client: Client) -> tuple[QueueInfo, int | None]:
        from ajc_bridge.cli.queue_look import delayed  # noqa: PLC0415 - keeps --help quick

        info = await client.ensure_queue(wanted)
        return info, await delayed(client.connection, name)

    info, waiting = with_client(server, context, work)
    if info.differences:
        raise CliError(
            f"queue {name} is there already, and its {'; its '.join(info.differences)}",
            f"it was left as it is; `queue view {name}` shows it, [queues.{name}] in the bridge's file changes it",
            CONFLICT,
        )
    if backoff is not None:
        from ajc_bridge.cli.queue_look import own_policies, unknown_policy  # noqa: PLC0415 - keeps --help quick

        warning = unknown_policy(backoff, own_policies())
        if warning:
            say(f"warning: {warning}")
    print_json(_document(info, waiting)) if as_json else say(f"queue {name} is there")


@app.command()
def ls(server: Server = None, context: Context = None, as_json: Json = False) -> None:
    """List queues.

    \b
    Example:
      ajc-bridge queue ls --json
    """

    async def work(client: Client) -> tuple[list[tuple[QueueInfo, int | None]], list[str]]:
        from ajc.errors import AjcError, NotPermitted, Unavailable  # noqa: PLC0415 - keeps --help quick
        from ajc_bridge.cli.queue_look import delayed  # noqa: PLC0415

        infos, troubles = [], []
        for name in await client.queues():
            try:
                infos.append((await client.queue(name), await delayed(client.connection, name)))
            except AjcError as error:
                if isinstance(error, Unavailable) and not isinstance(error, NotPermitted):
                    raise
                troubles.append(f"queue {name}: {error}")
        return infos, troubles

    infos, troubles = with_client(server, context, work)
    if as_json:
        print_json([_document(*one) for one in infos])
    else:
        rows = [
            (
                i.name,
                i.pending,
                i.ack_pending,
                waiting,
                i.stranded,
                i.priority,
                i.max_concurrent,
                i.max_tries,
                _age(i.max_run_time_ns),
            )
            for i, waiting in infos
        ]
        columns = ("QUEUE", "WAITING", "RUNNING", "DELAYED", "STRANDED", "PRIORITY", "CONCURRENT", "TRIES", "RUN TIME")
        print_table(columns, rows, empty="no queues", dispensable=("PRIORITY", "RUN TIME", "CONCURRENT", "TRIES"))
    for line in troubles:
        say(line)


@app.command()
def view(name: Name, server: Server = None, context: Context = None, as_json: Json = False) -> None:
    """Show a queue: its settings and what is in it.

    \b
    Example:
      ajc-bridge queue view EMAIL
    """

    async def work(client: Client) -> tuple[QueueInfo, int | None]:
        from ajc_bridge.cli.queue_look import delayed  # noqa: PLC0415 - keeps --help quick

        return await client.queue(name), await delayed(client.connection, name)

    info, waiting = with_client(server, context, work)
    if as_json:
        print_json(_document(info, waiting))
        return
    fields: list[tuple[str, Any]] = [
        ("queue", info.name),
        ("waiting", info.pending),
        ("running", info.ack_pending),
        ("delayed", "?" if waiting is None else waiting),
        ("stranded", info.stranded or ""),
        ("bytes", info.bytes),
        ("priority", info.priority),
        ("max tries", info.max_tries or "as the task says"),
        ("max run time", _age(info.max_run_time_ns)),
        ("lease", _age(info.lease_ns) + ("" if info.renews else ", not renewed beyond the run time")),
        ("max concurrent", info.max_concurrent),
        ("max entries", f"{info.max_entries}, then {info.when_full}" if info.max_entries else "no limit"),
        ("max age", _age(info.max_age_ns) if info.max_age_ns else "no limit"),
        ("backoff", info.backoff),
        ("paused", "yes" if info.paused else ""),
        ("storage", f"{info.storage}, {info.replicas} {'copy' if info.replicas == 1 else 'copies'}"),
        ("max deliver", f"{info.max_deliver}: further deliveries do not come" if info.max_deliver > 0 else ""),
        ("retries", "" if info.delayed_items else "not yet possible: a bridge adds the delay stream as a source"),
    ]
    print_fields(fields)


@app.command()
def purge(name: Name, yes: Yes = False, server: Server = None, context: Context = None, as_json: Json = False) -> None:
    """Remove all entries of a queue; the tasks' records stay.

    \b
    Example:
      ajc-bridge queue purge EMAIL --yes
    """
    confirm(f"Remove every entry of queue {name}? Its tasks will not run.", yes=yes)
    purged = with_client(server, context, lambda client: client.purge_queue(name))
    print_json({"queue": name, "purged": purged}) if as_json else say(f"queue {name}: {purged} entries removed")


@app.command()
def rm(name: Name, yes: Yes = False, server: Server = None, context: Context = None, as_json: Json = False) -> None:
    """Remove a queue with its entries; the tasks' records stay.

    \b
    Example:
      ajc-bridge queue rm EMAIL --yes
    """
    confirm(f"Remove queue {name} with all its entries? Its tasks will not run.", yes=yes)
    with_client(server, context, lambda client: client.delete_queue(name))
    print_json({"queue": name, "removed": True}) if as_json else say(f"queue {name} removed")


def _document(info: QueueInfo, delayed: int | None) -> dict[str, Any]:
    """Return what --json prints: durations in nanoseconds; `delayed` is what waits for its time, a retry or parked."""
    names = [name for name in info.__struct_fields__ if name not in ("stream_config", "consumer_config", "differences")]
    return {**{name: getattr(info, name) for name in names}, "delayed": delayed, "stranded": info.stranded}


def _age(nanoseconds: int) -> str:
    from ajc.duration import format_duration  # noqa: PLC0415 - keeps --help quick

    return format_duration(nanoseconds)
