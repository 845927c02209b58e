"""`ajc-bridge exec TYPE -- CMD...`: a responder that runs a command for each task."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ajc_bridge.cli.connecting import check_connection
from ajc_bridge.cli.exits import FAILED, USAGE, CliError
from ajc_bridge.cli.options import Context, Server, check_prefix, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ajc.attempt import Attempt
    from ajc_bridge.cli.command import Ended
    from ajc_bridge.cli.strays import Strays

EX_TERMINATE: Final = 65
EX_BUSY: Final = 69
EX_RETRY: Final = 75
_NO_ROOM: Final = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Processes, open files, memory: for the moment there are none left."""
_logger: Final = logging.getLogger("ajc_bridge.exec")


def execute(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="task type; catchall takes what nobody else serves")],  # noqa: A002
    command: Annotated[list[str], typer.Argument(metavar="CMD...", help="command and its arguments, after --")],
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="commands at once; beyond: busy")] = 10,
    max_output: Annotated[int, typer.Option(metavar="BYTES", min=1, help="output of a command at most")] = 1 << 20,
    max_runtime: Annotated[
        str | None, typer.Option(metavar="DURATION", help="longest run of a command, by heartbeats")
    ] = None,
    kill_after: Annotated[str, typer.Option(metavar="DURATION", help="time from TERM to KILL")] = "5s",
    drain: Annotated[str, typer.Option(metavar="DURATION", help="how long commands may go on after SIGTERM")] = "30s",
    prefix: Annotated[str, typer.Option(metavar="SUBJECT", help="the bridge's exec.prefix")] = "ajc.exec",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="a line for each command that ends")] = False,
    server: Server = None,
    context: Context = None,
) -> None:
    """Answer tasks of a type by running a command for each.

    \b
    Examples:
      ajc-bridge exec email:new -- ./send-mail
      ajc-bridge exec thumbnail --concurrency 4 -- sh -c 'convert - -resize 100x100 png:-'
      ajc-bridge exec video:cut --max-runtime 2h -- ./cut-video

    The payload is the command's stdin, its stdout is the result. AJ_TASK_ID, AJ_TASK_TYPE, AJ_QUEUE, AJ_TRY,
    AJ_MAX_TRIES, AJ_TIMEOUT_MS and AJ_HANDLER_DEADLINE are in its environment.

    \b
    Exit code   Meaning
      0         done
      75        try again (EX_TEMPFAIL)
      69        busy: not now, does not count as a try; not run again for a second (EX_UNAVAILABLE)
      65        terminate: never try again (EX_DATAERR)
      other     failed: the last line of stderr is the error, and the queue's policy decides
    A command that is still running after the queue's run time gets TERM, then KILL. With --max-runtime heartbeats
    extend the attempt, and that happens after this time, or at the task's own deadline. What a command started and
    left behind is killed once it has ended; on Linux also what left its process group (setsid), unless it was started
    without AJ_RUN in its environment: `env -u AJ_RUN setsid ./daemon`.
    """
    from ajc.errors import Busy  # noqa: PLC0415 - keeps --help quick
    from ajc.responder import Responder  # noqa: PLC0415
    from ajc_bridge.cli.command import check_command  # noqa: PLC0415
    from ajc_bridge.cli.refusals import Refusals  # noqa: PLC0415
    from ajc_bridge.cli.strays import find_strays  # noqa: PLC0415

    patience = duration(kill_after, "--kill-after").total_seconds()
    longest = None if max_runtime is None else duration(max_runtime, "--max-runtime").total_seconds()
    if longest is not None and longest <= 0:
        raise CliError(f"--max-runtime {max_runtime} leaves no time for the command", "write it like 5m", USAGE)
    check_prefix(prefix)
    check_connection(server, context)
    check_command(command[0])
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    for noisy in ("asyncio", "ajc.handler"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    responder = Responder(server, context=context, name=f"ajc-bridge exec {type}", prefix=prefix, drain=duration(drain))

    strays = find_strays()
    refusals = Refusals()

    async def answer(attempt: Attempt) -> bytes:
        said = refusals.said(attempt.task.id)
        if said is not None:
            raise Busy(said)
        try:
            return await _run(
                command, attempt, max_runtime=longest, max_output=max_output, kill_after=patience, strays=strays
            )
        except Busy as refused:
            refusals.note(attempt.task.id, str(refused))
            raise

    responder.handler(type, concurrency=concurrency)(answer)
    responder.run()
    if responder.interrupted:
        sys.exit(FAILED)


async def _run(
    command: Sequence[str],
    attempt: Attempt,
    *,
    max_runtime: float | None,
    max_output: int,
    kill_after: float,
    strays: Strays | None,
) -> bytes:
    from ajc.errors import Busy, Retry  # noqa: PLC0415 - keeps --help quick
    from ajc_bridge.cli.command import own_environment, run_command  # noqa: PLC0415

    sent: list[str] = []
    limit = limit_for(attempt, max_runtime)
    try:
        ended = await run_command(
            command,
            attempt.task.payload or b"",
            own_environment() | environment_of(attempt, limit),
            seconds=limit - attempt.request.timeout_ms / 1000 + attempt.remaining(),
            max_output=max_output,
            kill_after=kill_after,
            on_signal=lambda number: sent.append(number.name),
            strays=strays,
        )
    except asyncio.CancelledError:
        _logger.info("%s: %s", _which(attempt), _cut_off(attempt, limit, sent))
        raise
    except MemoryError as error:
        raise Busy(f"{command[0]} cannot be started now: {error}") from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise Busy(f"{command[0]} cannot be started now: {error.strerror}") from None
        raise Retry(f"{command[0]} cannot be started: {error.strerror}") from None
    level = logging.DEBUG if ended.code == 0 else logging.INFO
    _logger.log(level, "%s: %s", _which(attempt), _cut_off(attempt, limit, sent) if ended.late else _told(ended))
    return result_of(ended, max_output, limit)


def result_of(ended: Ended, max_output: int, limit: float) -> bytes:
    """Return the result of a command that has ended, or raise what its end stands for; it had `limit` seconds."""
    from ajc.errors import Busy, Retry, Terminate  # noqa: PLC0415 - keeps --help quick

    if ended.too_much:
        raise Terminate(f"the command wrote more than {max_output} bytes")
    if ended.late:
        raise Retry(f"the command did not end within its {round(limit, 2):g} s")
    if ended.code == 0:
        return ended.stdout
    if ended.code == EX_BUSY:
        raise Busy(ended.last_line)
    if ended.code == EX_TERMINATE:
        raise Terminate(ended.last_line)
    raise Retry(ended.last_line)  # 75 and every other: what comes next is the queue's policy


def limit_for(attempt: Attempt, max_runtime: float | None) -> float:
    """Return the seconds from the attempt's begin that a command may take: the request's, or up to `max_runtime`.

    A bridge that does not act on heartbeats gives no more than the request has, and none more than the task has.
    """
    asked = attempt.request.timeout_ms / 1000
    if max_runtime is None:
        return asked
    if not attempt.heartbeat_subject:
        return min(asked, max_runtime)
    task_ends = attempt.task.deadline
    if task_ends is None:
        return max_runtime
    # both instants are of one clock, the bridge's
    return min(max_runtime, asked + (task_ends - attempt.request.deadline) / 1e9)


def environment_of(attempt: Attempt, limit: float) -> dict[str, str]:
    """Return what a command is told in its environment: the request's headers, under names that a shell can read.

    The two times are the command's own, which may take `limit` seconds from the attempt's begin.
    """
    request = attempt.request
    beyond = limit - request.timeout_ms / 1000
    deadline = request.deadline.plus(round(beyond * 1e9)) if beyond else request.deadline
    told = {
        "AJ_TASK_ID": request.task_id,
        "AJ_TASK_TYPE": request.type,
        "AJ_QUEUE": request.queue,
        "AJ_TRY": str(request.try_number),
        "AJ_MAX_TRIES": str(request.max_tries),
        "AJ_TIMEOUT_MS": str(int(max(beyond + attempt.remaining(), 0) * 1000)),
        "AJ_HANDLER_DEADLINE": deadline.rfc3339(),
        "TRACEPARENT": request.traceparent or "",
        "TRACESTATE": request.tracestate or "",
    }
    return {name: value.replace("\0", "") for name, value in told.items() if value}


def _which(attempt: Attempt) -> str:
    return f"task {attempt.task.id} ({attempt.request.type}), try {attempt.try_number}"


def _cut_off(attempt: Attempt, limit: float, sent: Sequence[str]) -> str:
    if attempt.interrupted:
        why = "the responder ended"
    elif attempt.stopped == "cancelled":
        why = attempt.cancel_reason
    else:
        why = f"not done within its {round(limit, 2):g} s"
    what = " and ".join(dict.fromkeys(name.removeprefix("SIG") for name in sent))
    return f"{why}; its process group got {what}" if what else why


def _told(ended: Ended) -> str:
    if ended.too_much:
        return "wrote too much"
    return "done" if ended.code == 0 else f"exit code {ended.code}: {ended.last_line}"
