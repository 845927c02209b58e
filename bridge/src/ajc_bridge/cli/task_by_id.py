"""`ajc-bridge task retry | cancel | rm`: what is done by hand to tasks that are stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ajc_bridge.cli.connecting import with_client
from ajc_bridge.cli.exits import CONFLICT, CliError, code_and_hint, tell
from ajc_bridge.cli.options import Context, Json, Server, Yes, optional_deadline
from ajc_bridge.cli.output import confirm, print_json, say

if TYPE_CHECKING:
    from ajc.client import Client
    from ajc.task import Task

TaskIds = Annotated[list[str], typer.Argument(metavar="ID...", help="task ids")]


def retry(
    task_ids: TaskIds,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="into this queue instead of its own")] = None,
    deadline: Annotated[str | None, typer.Option(metavar="TIME", help="new deadline: 1h from now, or RFC 3339")] = None,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Queue tasks again, whatever their end was.

    \b
    Example:
      ajc-bridge task retry 24ErgVol4ZjpoQ8FAima9R2jEHB --deadline 1h
    """
    ends = optional_deadline(deadline)
    _each(
        server,
        context,
        task_ids,
        lambda client, one: client.retry(one, queue=queue, deadline=ends),
        "queued again",
        _not_retried,
        as_json=as_json,
    )


def cancel(
    task_ids: TaskIds,
    reason: Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="why; kept with the task")] = "",
    yes: Yes = False,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Stop tasks for good, waiting or running. No bridge is needed; a running attempt is told, and ends.

    A task that has ended already stays as it is, and the command ends with 4. Cancelling it again is no error.

    \b
    Examples:
      ajc-bridge task cancel 24ErgVol4ZjpoQ8FAima9R2jEHB --reason "sent twice" --yes
      ajc-bridge task ls --queue EMAIL --state new --json | jq -r '.[].id' | xargs ajc-bridge task cancel --yes
    """
    confirm(f"Cancel {'task ' + task_ids[0] if len(task_ids) == 1 else f'{len(task_ids)} tasks'}?", yes=yes)
    _each(
        server,
        context,
        task_ids,
        lambda client, one: client.cancel(one, reason),
        "cancelled",
        _not_cancelled,
        as_json=as_json,
    )


def rm(
    task_ids: TaskIds,
    force: Annotated[bool, typer.Option("--force", help="also a task that runs now")] = False,
    yes: Yes = False,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Remove tasks with everything that belongs to them.

    \b
    Example:
      ajc-bridge task rm 24ErgVol4ZjpoQ8FAima9R2jEHB --yes
    """
    confirm(f"Remove {'task ' + task_ids[0] if len(task_ids) == 1 else f'{len(task_ids)} tasks'} for good?", yes=yes)
    _each(
        server,
        context,
        task_ids,
        lambda client, one: client.delete(one, force=force),
        "removed",
        _not_removed,
        as_json=as_json,
    )


# what to do about a task whose state forbids what was asked for


def _not_retried(task: Task) -> str:
    if task.final or task.state == "retry":
        return f"it is {task.state}, and its deadline has passed: --deadline 1h gives it a new one"
    if task.state == "active":
        return f"it is active: wait for its end, or stop it first: ajc-bridge task cancel {task.id}"
    return f"its state is {task.state or 'unknown'}: ajc-bridge task view {task.id}"


def _not_cancelled(task: Task) -> str:
    if task.final:
        return f"it is {task.state} and stays so; ajc-bridge task rm {task.id} removes it"
    return f"its state is {task.state or 'unknown'}: ajc-bridge task view {task.id}"


def _not_removed(task: Task) -> str:
    stop = f"ajc-bridge task cancel {task.id}"
    return f"it is {task.state}: wait for its end, stop it ({stop}), or remove it all the same with --force"


def _each(
    server: str | None,
    context: str | None,
    task_ids: list[str],
    act: Callable[[Client, str], Awaitable[Task]],
    done: str,
    forbidden: Callable[[Task], str],
    *,
    as_json: bool,
) -> None:
    """Do the same to several tasks; one that fails is told and does not keep the others from it.

    `forbidden` gives the hint for a task whose state does not allow it.
    """
    from ajc.errors import AjcError, Conflict, NotPermitted, Unavailable  # noqa: PLC0415 - keeps --help quick

    code = 0

    async def work(client: Client) -> None:
        nonlocal code
        for one in task_ids:
            try:
                task = await act(client, one)
            except AjcError as error:
                if isinstance(error, Unavailable) and not isinstance(error, NotPermitted):
                    raise  # that would be so for all of them, and a right may be one of this task's queue
                told = error
                if isinstance(error, Conflict) and error.task is not None:
                    told = CliError(str(error), forbidden(error.task), CONFLICT, task_id=one)
                code = code_and_hint(told)[0]
                tell(told, task_id=one)
            else:
                print_json(task.encode()) if as_json else say(f"task {task.id}: {done}")

    with_client(server, context, work)
    if code:
        raise typer.Exit(code)
