"""`ajc-bridge task ...`: add tasks, look at them, try them again, cancel or remove them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ajc_bridge.cli.connecting import with_client
from ajc_bridge.cli.exits import USAGE, CliError
from ajc_bridge.cli.options import Context, Json, Server, optional_deadline, optional_duration
from ajc_bridge.cli.output import print_json, print_json_list, print_table, say
from ajc_bridge.cli.task_by_id import cancel, retry, rm
from ajc_bridge.cli.task_text import event_line, first_line, show, when

if TYPE_CHECKING:
    from ajc.client import Client
    from ajc.task import Task

app = typer.Typer(
    help="Add tasks, look at them, try them again, cancel or remove them.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def add(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="task type")],  # noqa: A002 - the word of the wire
    payload: Annotated[str | None, typer.Argument(metavar="PAYLOAD", help="payload, as JSON")] = None,
    queue: Annotated[str, typer.Option("--queue", "-q", help="queue")] = "DEFAULT",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="payload from a file, as it is; - is stdin")
    ] = None,
    id: Annotated[  # noqa: A002 - likewise
        str | None,
        typer.Option("--id", help="id of your own: repeating the command adds nothing"),
    ] = None,
    deadline: Annotated[str | None, typer.Option(metavar="TIME", help="expires then: 1h from now, or RFC 3339")] = None,
    max_tries: Annotated[int, typer.Option(min=0, help="tries at most; 0: as the queue says")] = 10,
    traceparent: Annotated[str, typer.Option(metavar="00-...", help="W3C trace context for its handler")] = "",
    wait: Annotated[str | None, typer.Option(metavar="DURATION", help="wait for its end, at most so long")] = None,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Add a task to a queue.

    \b
    Examples:
      ajc-bridge task add email:new '{"to": "x@example.net"}' --queue EMAIL
      ajc-bridge task add report --deadline 1h --max-tries 3 --wait 30s
      ajc-bridge task add report --id report:2030-01 --wait 30s
      tar c photos | ajc-bridge task add archive --file -

    With an --id the command can be repeated: a task of this id that is stored already is not added again. With --wait
    its end is waited for, where type and queue are the same; else the command ends with 4.
    """
    data = _payload(payload, file)
    ends = optional_deadline(deadline)
    patience = optional_duration(wait, "--wait")

    async def work(client: Client) -> tuple[Task, int]:
        from ajc import ksuid  # noqa: PLC0415 - keeps --help quick
        from ajc_bridge.cli.queue_look import most_tries  # noqa: PLC0415
        from ajc_bridge.cli.task_adding import add_task, end_of  # noqa: PLC0415

        task = await add_task(
            client,
            type,
            data,
            queue=queue,
            task_id=id or ksuid.new(),  # chosen here, so that a refusal can name it
            deadline=ends,
            max_tries=max_tries,
            traceparent=traceparent or None,
            waits=patience is not None,
        )
        if patience is None:
            return task, 0
        task = await end_of(client, task.id, patience.total_seconds())
        return task, await most_tries(client.connection, task)

    task, most = with_client(server, context, work, lasting=patience is not None)
    if as_json:
        print_json(task.encode())
    elif patience is not None:
        show(task, most)
    else:
        sys.stdout.write(f"{task.id}\n")


@app.command()
def view(
    task_id: Annotated[str, typer.Argument(metavar="ID")],
    payload: Annotated[bool, typer.Option("--payload", help="its payload alone, as it is")] = False,
    result: Annotated[bool, typer.Option("--result", help="its result alone, as it is")] = False,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Show a task. With --json it is the record as it is stored.

    \b
    Examples:
      ajc-bridge task view 24ErgVol4ZjpoQ8FAima9R2jEHB
      ajc-bridge task view 24ErgVol4ZjpoQ8FAima9R2jEHB --result > photo.png
    """

    async def work(client: Client) -> tuple[Task, int]:
        from ajc_bridge.cli.queue_look import most_tries  # noqa: PLC0415 - keeps --help quick

        task = await client.load(task_id)
        return task, 0 if payload or result or as_json else await most_tries(client.connection, task)

    task, most = with_client(server, context, work)
    if payload:
        sys.stdout.buffer.write(task.payload or b"")
    elif result:
        if task.result is None:
            raise CliError(f"task {task_id} has no result: it is {task.state}")
        sys.stdout.buffer.write(task.result.data)
    elif as_json:
        print_json(task.encode())
    else:
        show(task, most)


@app.command()
def ls(
    state: Annotated[list[str] | None, typer.Option("--state", help="of this state; may be repeated")] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="of this queue")] = None,
    type: Annotated[str | None, typer.Option("--type", help="of this type")] = None,  # noqa: A002 - the word of the wire
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="tasks at most; 0: all")] = 200,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="those that changed longest ago first")] = False,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """List tasks, those that changed last first.

    \b
    Examples:
      ajc-bridge task ls --state retry --state expired
      ajc-bridge task ls --queue EMAIL --limit 20 --json
      ajc-bridge task ls --state new --oldest-first

    A narrow terminal gets fewer columns; --json has all.
    """
    states = _states(state or [])
    if queue is not None:
        from ajc.subjects import check_queue  # noqa: PLC0415 - keeps --help quick

        check_queue(queue)

    async def work(client: Client) -> list[Task]:
        from ajc.errors import NotFound  # noqa: PLC0415 - keeps --help quick
        from ajc.task_records import stored_tasks  # noqa: PLC0415
        from ajc_bridge.cli.newest import newest_tasks  # noqa: PLC0415

        stored = stored_tasks if oldest_first else newest_tasks
        found: list[Task] = []
        try:
            async for record in stored(client.connection):
                one = record.task
                if (not states or one.state in states) and queue in (None, one.queue) and type in (None, one.type):
                    found.append(one)
                if limit and len(found) > limit:  # one more than is shown: then more is known to exist
                    break
        except NotFound:
            say("no tasks yet: start a bridge (`ajc-bridge run`), or make a queue (`ajc-bridge queue add NAME`)")
        return found

    tasks = with_client(server, context, work)
    more = bool(limit) and len(tasks) > limit
    tasks = tasks[:limit] if limit else tasks
    if as_json:
        print_json_list(task.encode() for task in tasks)
        return
    rows = [
        (one.id, one.queue, one.type, one.state or '""', one.tries, when(one.created), first_line(one.last_err))
        for one in tasks
    ]
    print_table(
        ("ID", "QUEUE", "TYPE", "STATE", "TRIES", "CREATED", "LAST ERROR"),
        rows,
        empty="no tasks",
        cut="LAST ERROR",
        dispensable=("CREATED", "TRIES", "QUEUE", "LAST ERROR"),
    )
    if more:
        say(f"... and more than these {limit}: --limit 0 lists all")


@app.command()
def watch(
    task_id: Annotated[str | None, typer.Argument(metavar="ID", help="only this task; ends with it")] = None,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Show what happens to tasks, as it happens. With --json: one event a line.

    \b
    Examples:
      ajc-bridge task watch
      ajc-bridge task watch 24ErgVol4ZjpoQ8FAima9R2jEHB --json
    """

    async def work(client: Client) -> None:
        from ajc.events import TaskStateChanged  # noqa: PLC0415 - keeps --help quick
        from ajc.task import FINAL_STATES  # noqa: PLC0415

        async with client.watch(task_id) as events:
            if task_id is not None:
                task = await client.load(task_id)  # NotFound is better than silence
                if task.final:
                    say(f"task {task_id} is {task.state}")
                    return
            say("watching; Ctrl-C ends")
            async for event in events:
                if as_json:
                    print_json(event.encode())
                else:
                    sys.stdout.write(event_line(event) + "\n")
                    sys.stdout.flush()
                if task_id is not None and isinstance(event, TaskStateChanged) and event.state in FINAL_STATES:
                    return

    with_client(server, context, work, lasting=True)


for one in (retry, cancel, rm):
    app.command()(one)


def _payload(payload: str | None, file: Path | None) -> Any:
    if file is not None:
        if payload is not None:
            raise CliError("PAYLOAD and --file exclude each other", "give one of them", USAGE)
        try:
            return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise CliError(f"{file} cannot be read: {error.strerror}", code=USAGE) from None
    if payload is None:
        return None
    try:
        # as strict as the handlers that will read it: NaN is no JSON, and half a surrogate pair no text
        json.dumps(json.loads(payload, parse_constant=_no_number), ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        if payload.lstrip()[:1] in ("{", "["):
            shown = 'an object is written \'{"to": "ada@example.net"}\''
        else:
            shown = f"a text is written {shlex.quote(json.dumps(payload[:40], ensure_ascii=False))}"
        raise CliError(f"the payload is no JSON: {error}", f"{shown}; --file takes any bytes", USAGE) from None
    return payload.encode()  # as it was typed: numbers are not rounded


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _states(words: list[str]) -> list[str]:
    from ajc.task import TaskState  # noqa: PLC0415 - keeps --help quick

    words = ["complete" if word == "completed" else word for word in words]
    known = [str(state) for state in TaskState if state]
    for word in words:
        if word not in known:
            raise CliError(f"there is no state {word!r}", f"the states are {', '.join(known)}", USAGE)
    return words
