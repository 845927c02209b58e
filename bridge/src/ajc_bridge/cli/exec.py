"""`ajc-bridge exec TYPE -- CMD...`: a responder that runs a command for each task."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ajc_bridge.cli.connecting import check_connection
from ajc_bridge.cli.exits import FAILED, USAGE, CliError
from ajc_bridge.cli.options import Context, Server, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ajc.attempt import Attempt
    from ajc_bridge.cli.command import Ended

EX_TERMINATE: Final = 65
EX_BUSY: Final = 69
EX_RETRY: Final = 75
_logger: Final = logging.getLogger("ajc_bridge.exec")


def execute(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="task type; catchall takes what nobody else serves")],  # noqa: A002
    command: Annotated[list[str], typer.Argument(metavar="CMD...", help="command and its arguments, after --")],
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="commands at once; beyond: busy")] = 10,
    max_output: Annotated[int, typer.Option(metavar="BYTES", min=1, help="output of a command at most")] = 1 << 20,
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

    The payload is the command's stdin, its stdout is the result. AJ_TASK_ID, AJ_TASK_TYPE, AJ_QUEUE, AJ_TRY,
    AJ_MAX_TRIES, AJ_TIMEOUT_MS and AJ_HANDLER_DEADLINE are in its environment.

    \b
    Exit code   Meaning
      0         done
      75        try again (EX_TEMPFAIL)
      69        busy: not now, does not count as a try (EX_UNAVAILABLE)
      65        terminate: never try again (EX_DATAERR)
      other     failed: the last line of stderr is the error, and the queue's policy decides
    A command that is still running at its deadline gets TERM, then KILL, with all that it started.
    """
    from ajc.responder import Responder  # noqa: PLC0415 - keeps --help quick

    patience = duration(kill_after).total_seconds()
    check_connection(server, context)
    if shutil.which(command[0]) is None:
        hint = "is it executable?" if Path(command[0]).exists() else "is it installed, and on PATH?"
        raise CliError(f"there is no command {command[0]}", hint, USAGE)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    for noisy in ("asyncio", "ajc.handler"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    responder = Responder(server, context=context, name=f"ajc-bridge exec {type}", prefix=prefix, drain=duration(drain))

    async def answer(attempt: Attempt) -> bytes:
        return await _run(command, attempt, max_output=max_output, kill_after=patience)

    responder.handler(type, concurrency=concurrency)(answer)
    responder.run()
    if responder.interrupted:
        sys.exit(FAILED)


async def _run(command: Sequence[str], attempt: Attempt, *, max_output: int, kill_after: float) -> bytes:
    from ajc.errors import Busy, Retry  # noqa: PLC0415 - keeps --help quick
    from ajc_bridge.cli.command import own_environment, run_command  # noqa: PLC0415

    sent: list[str] = []
    try:
        ended = await run_command(
            command,
            attempt.task.payload or b"",
            own_environment() | environment_of(attempt),
            seconds=attempt.remaining(),
            max_output=max_output,
            kill_after=kill_after,
            on_signal=lambda number: sent.append(number.name),
        )
    except asyncio.CancelledError:
        _logger.info("%s: %s", _which(attempt), _cut_off(attempt, sent))
        raise
    except (BlockingIOError, MemoryError) as error:
        raise Busy(f"{command[0]} cannot be started now: {error}") from None
    except OSError as error:
        raise Retry(f"{command[0]} cannot be started: {error.strerror}") from None
    level = logging.DEBUG if ended.code == 0 else logging.INFO
    _logger.log(level, "%s: %s", _which(attempt), _cut_off(attempt, sent) if ended.late else _told(ended))
    return result_of(ended, max_output)


def result_of(ended: Ended, max_output: int) -> bytes:
    """Return the result of a command that has ended, or raise what its exit code stands for."""
    from ajc.errors import Busy, Retry, Terminate  # noqa: PLC0415 - keeps --help quick

    if ended.too_much:
        raise Terminate(f"the command wrote more than {max_output} bytes")
    if ended.late:
        raise Retry("the command did not end before its deadline")
    if ended.code == 0:
        return ended.stdout
    if ended.code == EX_BUSY:
        raise Busy(ended.last_line)
    if ended.code == EX_TERMINATE:
        raise Terminate(ended.last_line)
    raise Retry(ended.last_line)  # 75 and every other: what comes next is the queue's policy


def environment_of(attempt: Attempt) -> dict[str, str]:
    """Return what a command is told in its environment: the request's headers, under names that a shell can read."""
    request = attempt.request
    told = {
        "AJ_TASK_ID": request.task_id,
        "AJ_TASK_TYPE": request.type,
        "AJ_QUEUE": request.queue,
        "AJ_TRY": str(request.try_number),
        "AJ_MAX_TRIES": str(request.max_tries),
        "AJ_TIMEOUT_MS": str(int(attempt.remaining() * 1000)),
        "AJ_HANDLER_DEADLINE": request.deadline.rfc3339(),
        "TRACEPARENT": request.traceparent or "",
        "TRACESTATE": request.tracestate or "",
    }
    return {name: value.replace("\0", "") for name, value in told.items() if value}


def _which(attempt: Attempt) -> str:
    return f"task {attempt.task.id} ({attempt.request.type}), try {attempt.try_number}"


def _cut_off(attempt: Attempt, sent: Sequence[str]) -> str:
    why = (
        "the responder ended" if attempt.interrupted else f"not done within its {attempt.request.timeout_ms / 1000:g} s"
    )
    what = " and ".join(dict.fromkeys(name.removeprefix("SIG") for name in sent))
    return f"{why}; its process group got {what}" if what else why


def _told(ended: Ended) -> str:
    if ended.too_much:
        return "wrote too much"
    return "done" if ended.code == 0 else f"exit code {ended.code}: {ended.last_line}"
