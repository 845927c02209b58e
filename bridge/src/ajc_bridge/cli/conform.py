"""`ajc-bridge conform TYPE`: which rules of the exec protocol a responder keeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ajc_bridge.cli.connecting import check_connection
from ajc_bridge.cli.exits import FAILED, USAGE, CliError
from ajc_bridge.cli.options import Context, Json, Server, check_prefix, duration
from ajc_bridge.cli.output import print_json, say

if TYPE_CHECKING:
    from ajc_bridge.conform.kit import Report


class _Level(StrEnum):
    """The levels, here once more: what has their meaning is not imported for --help."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"


def conform(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="the family: TYPE:echo, TYPE:fail and so on")],  # noqa: A002
    level: Annotated[
        _Level,
        typer.Option(
            "--level",
            "-l",
            metavar="L0|L1|L2|L3",
            case_sensitive=False,
            help="how much is asked; includes those before",
        ),
    ] = _Level.L0,
    start: Annotated[str, typer.Option(metavar="COMMAND", help="start this responder; gets NATS_URL")] = "",
    only: Annotated[list[str] | None, typer.Option(metavar="EXEC-n", help="this rule only; may be repeated")] = None,
    prefix: Annotated[str, typer.Option(metavar="SUBJECT", help="the bridge's exec.prefix")] = "ajc.exec",
    wait: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="until it serves, else nothing is tried [default: 30s with --start, else 1s]"
        ),
    ] = "",
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="write JUnit XML here")] = None,
    server: Server = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Play the bridge against a responder, and tell which rules of the exec protocol it keeps.

    \b
    Examples:
      ajc-bridge conform conform --level L1
      ajc-bridge conform conform --level L3 --start './my-responder' --junit conform.xml

    The responder must serve the scripted tasks TYPE:echo, TYPE:fail and so on, which docs/protocol.md lists. A line for
    each rule: passed, FAILED (with what was sent, expected and seen), n/a (with the reason), or untried: nobody served.

    \b
    Level   Asks for
      L0    replies
      L1    errors, terminate, busy, retry-after
      L2    heartbeats, progress, deadline
      L3    discovery, cancel, tracing

    With --start the kit starts the command (no shell: write sh -c '...' for one), ends, kills and starts it again. With
    neither --server nor --context it also starts a nats-server for it, and stops that for a while. No bridge and no
    JetStream is needed.

    \b
    Exit code   Meaning
      0         no rule failed
      1         a rule failed, or was not tried since nobody served
      2         usage
      5         no connection

    docs/conformance.md says how to read what it writes.
    """
    from ajc_bridge.conform.report import as_document, as_text  # noqa: PLC0415 - keeps --help quick

    patience = duration(wait, "--wait").total_seconds() if wait else 30.0 if start else 1.0
    chosen = _check(type, prefix, only or [])
    command = _command(start)
    _check_place(junit)
    alone = bool(command) and server is None and context is None
    if not alone:
        check_connection(server, context)
    try:
        report = asyncio.run(_examined(type, level, prefix, patience, chosen, command, server, context, alone=alone))
    except asyncio.CancelledError:  # SIGTERM
        raise KeyboardInterrupt from None
    if junit is not None:
        from ajc_bridge.conform.junit import as_junit  # noqa: PLC0415 - only when asked for

        junit.write_bytes(as_junit(report))
    if as_json:
        print_json(as_document(report))
    else:
        sys.stdout.write(as_text(report))
    if report.gave_up and not start:
        say(f"{type} is the name of a family: the responder serves {type}:echo and others, see docs/protocol.md")
    if not report.ok:
        raise typer.Exit(FAILED)


async def _examined(
    family: str,
    level: str,
    prefix: str,
    wait: float,
    only: frozenset[str],
    command: list[str],
    server: str | None,
    context: str | None,
    *,
    alone: bool,
) -> Report:
    """Start what is to be started (where it is `alone` a server, too), try the rules, and end all of it.

    A signal cancels this, so it comes between two steps: within one, a process that just began would be nobody's.
    """
    from ajc.context import resolve  # noqa: PLC0415 - keeps --help quick
    from ajc_bridge.conform.kit import Setup, examine  # noqa: PLC0415
    from ajc_bridge.conform.program import Program  # noqa: PLC0415
    from ajc_bridge.conform.rules import Level  # noqa: PLC0415

    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    with contextlib.ExitStack() as stack:
        own = None
        environment = dict(os.environ)
        if alone:
            from ajc.testing.nats_server import server as nats_server  # noqa: PLC0415
            from ajc_bridge.cli.children import find_server  # noqa: PLC0415

            find_server()
            own = stack.enter_context(nats_server())
            environment.pop("NATS_CONTEXT", None)
        options = resolve(own.url if own is not None else server, context, environment)
        if context is not None:
            environment["NATS_CONTEXT"] = context
        program = None
        if command:
            environment["NATS_URL"] = ",".join(options.servers)
            program = Program(command, environment)
            stack.callback(program.kill)
        setup = Setup(
            family=family,
            level=Level(level),
            prefix=prefix,
            wait=wait,
            only=only,
            program=program,
            server=own,
        )
        report = await examine(options, setup)
        if program is not None and program.trouble:
            say(program.trouble)
        return report


def _check(family: str, prefix: str, only: list[str]) -> frozenset[str]:
    """Refuse what cannot be tried, before anything is started."""
    from ajc.errors import InvalidValue  # noqa: PLC0415 - keeps --help quick
    from ajc.subjects import check_type  # noqa: PLC0415
    from ajc_bridge.conform.rules import BY_NAME  # noqa: PLC0415

    check_type(family, catchall=True)
    check_type(f"{family}:progress")  # the longest
    check_prefix(prefix)
    for name in only:
        rule = BY_NAME.get(name.upper())
        if rule is None:
            raise InvalidValue("--only", name, f"must be a rule, EXEC-1 to EXEC-{len(BY_NAME)}")
        if rule.level is None:
            raise InvalidValue("--only", name, "binds the bridge, not a responder: name a rule with a level")
    return frozenset(name.upper() for name in only)


def _command(start: str) -> list[str]:
    from ajc.errors import InvalidValue  # noqa: PLC0415 - keeps --help quick
    from ajc_bridge.cli.command import check_command  # noqa: PLC0415

    try:
        command = shlex.split(start)
    except ValueError as error:
        raise InvalidValue("--start", start, f"is no command: {error}") from None
    if start and not command:
        raise InvalidValue("--start", start, "is no command")
    if command:
        check_command(command[0], "is it installed, and on PATH? No shell runs it: write sh -c '...' for one")
    return command


def _check_place(junit: Path | None) -> None:
    if junit is None:
        return
    try:
        junit.open("ab").close()  # now, and not after half a minute
    except OSError as error:
        raise CliError(f"{junit} cannot be written: {error.strerror}", code=USAGE) from None
