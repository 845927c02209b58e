"""`task add`: a task into its queue, what is said where that is refused, and the wait for its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ajc_bridge.cli.exits import CONFLICT, FAILED, NO_CONNECTION, NOT_FOUND, CliError, code_and_hint
from ajc_bridge.cli.output import plain, say
from ajc_bridge.cli.task_text import first_line, when

if TYPE_CHECKING:
    from ajc.client import Client
    from ajc.errors import NotFound
    from ajc.instant import Instant
    from ajc.task import Task


async def add_task(
    client: Client,
    type: str,  # noqa: A002 - the word of the wire
    payload: Any,
    *,
    queue: str,
    task_id: str,
    deadline: Instant | None,
    max_tries: int,
    traceparent: str | None,
    waits: bool,
) -> Task:
    """Add a task and return it. A refusal names the task, and the command that mends it.

    One of this id, type and queue that is stored already is returned where somebody `waits` for its end: so a command
    that was broken off can be repeated.
    """
    from ajc.errors import AlreadyExists, NotFound, NotPermitted, QueueFull, RequestTimeout  # noqa: PLC0415 - keeps --help quick

    try:
        task = await client.enqueue(
            type,
            payload,
            queue=queue,
            id=task_id,
            deadline=deadline,
            max_tries=max_tries,
            traceparent=traceparent,
        )
    except AlreadyExists:
        task = await client.load(task_id)
        if not waits or (task.type, task.queue) != (type, queue):
            raise _stored(task, type, queue) from None
        say(f"task {task_id} is stored already, and nothing was added; waiting for its end")
    except NotFound as error:
        with suppress(NotPermitted, RequestTimeout):  # without JetStream everything is missing: that is said instead
            await client.connection.api("INFO")
        raise await _missing(client, error, queue, task_id) from None
    except QueueFull as error:
        text = f"queue {error.queue} is full; task {task_id} is kept as queue_error"
        hint = f"once there is room: ajc-bridge task retry {task_id}"
        raise CliError(text, hint, CONFLICT, task_id=task_id) from None
    else:
        if waits:
            say(f"task {task.id} added; waiting for its end")
    return task


def _stored(task: Task, type: str, queue: str) -> CliError:  # noqa: A002 - the word of the wire
    """Return what to say of an id that is taken: by the same task, as far as can be told, or by another one."""
    text = f"a task with the id {task.id} is stored already, and nothing was added"
    if (task.type, task.queue) != (type, queue):
        text += f": it is of the type {task.type}, in the queue {task.queue or '-'}"
    return CliError(text, f"look at it with `ajc-bridge task view {task.id}`", CONFLICT, task_id=task.id)


async def _missing(client: Client, error: NotFound, queue: str, task_id: str) -> CliError:
    """Return what to say of a task that found no queue, or no store at all."""
    make = f"make the queue: ajc-bridge queue add {queue}"
    if error.what != "queue":
        hint = f"start a bridge (`ajc-bridge run`), or {make}"
        return CliError("nothing was ever queued here: there is no task store yet", hint, NOT_FOUND)
    kept = "is kept as queue_error" if error.code else await _kept(client, task_id)
    mend = f"ajc-bridge task retry {task_id}" if "queue_error" in kept else "repeat the command"
    return CliError(f"{error}; task {task_id} {kept}", f"{make}; then {mend}", NOT_FOUND, task_id=task_id)


async def _kept(client: Client, task_id: str) -> str:
    """Say what is stored of a task whose queue is missing as far as this user may look.

    One of an earlier enqueue is left as it was then: its queue may be there after all.
    """
    from ajc.errors import AjcError, NotFound  # noqa: PLC0415 - keeps --help quick

    try:
        task = await client.load(task_id)
    except NotFound:
        return "is not stored any more"
    except AjcError:  # nor may the user look at that
        return "is kept as queue_error, unless it was stored before"
    return f"is kept as {task.state or 'unknown'}"


async def end_of(client: Client, task_id: str, seconds: float) -> Task:
    """Wait until the task is complete and return it, at most so long.

    Raises as `Client.result`, but for the time-out: that says what the record says then. A wrong type or a handler that
    fails shows there, and nowhere else to whoever waits.
    """
    from ajc.errors import AjcError, NotPermitted, TaskTimeout, Unavailable  # noqa: PLC0415 - keeps --help quick
    from ajc_bridge.cli.queue_look import most_tries  # noqa: PLC0415

    try:
        return await client.result(task_id, seconds)
    except asyncio.CancelledError:  # Ctrl-C
        say(f"task {task_id} goes on; ajc-bridge task view {task_id}")
        raise
    except TaskTimeout as error:
        try:
            task = await client.load(task_id)
        except NotPermitted:
            raise error from None  # it may not be looked at
        except Unavailable as lost:
            text = f"task {task_id} is not known to have ended within {seconds:g} s: {lost}"
            raise CliError(text, code_and_hint(lost)[1], NO_CONNECTION, task_id=task_id) from None
        except AjcError:
            raise error from None  # it cannot be looked at: that it has not ended is all that is known
        most = await most_tries(client.connection, task)
        _, hint = code_and_hint(error)
        raise CliError(f"{error}; {standing(task, most)}", hint, FAILED, task_id=task_id) from None


def standing(task: Task, most: int) -> str:
    """Say on one line how far a task is that is tried so often at most (0: no limit)."""
    said = [f"its state is {task.state or 'unknown'}"]
    if task.tries > 0:
        said.append(f"try {task.tries} of {most}" if most > 0 else f"try {task.tries}")
    else:
        said.append("not tried yet")
    due = when(task.next_try_at)
    if isinstance(due, datetime):
        said.append(f"the next try is due at {plain(due)}")
    if task.last_err:
        said.append(f"last error: {plain(first_line(task.last_err))}")
    return ", ".join(said)
