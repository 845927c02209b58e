"""One command run to its end: own session, bounded output, and nothing that it started left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from ajc_bridge.cli.exits import USAGE, CliError
from ajc_bridge.cli.strays import MARK, Strays

STDERR_KEPT: Final = 16_384
PIPE_SECONDS: Final = 1.0
_MAX_TEXT: Final = 4_096


def check_command(name: str, missing: str = "is it installed, and on PATH?") -> None:
    """Raise `CliError` when there is no such program; `missing` is the advice when no file has the name either."""
    if shutil.which(name) is not None:
        return
    here = Path(name)
    hint = missing
    if here.exists():
        by_path = os.sep in name or not os.access(here, os.X_OK)
        hint = "is it executable?" if by_path else f"it is not on PATH: write ./{name} for the one in this folder"
    raise CliError(f"there is no command {name}", hint, USAGE)


class Ended(msgspec.Struct, frozen=True):
    """How a command ended. `code` is its exit code, negative for a signal; `stdout` is all of it.

    `too_much`: it wrote more than it may, and was ended for that. `late`: it was still running when its time was over.
    """

    code: int
    stdout: bytes
    stderr_tail: bytes
    too_much: bool = False
    late: bool = False

    @property
    def last_line(self) -> str:
        """The last line of stderr that is not blank, as text; else what can be said about the end."""
        for line in reversed(self.stderr_tail.decode("utf-8", "replace").splitlines()):
            if line.strip():
                return line.strip()[-_MAX_TEXT:]
        if self.code < 0:
            with contextlib.suppress(ValueError):
                return f"ended by {signal.Signals(-self.code).name}"
            return f"ended by signal {-self.code}"
        return f"exit code {self.code}"


class _Running(asyncio.SubprocessProtocol):
    """Collects output; after the command's own end, ends what it left behind in its group."""

    def __init__(self, max_output: int) -> None:
        self._max_output = max_output
        self._transport: asyncio.SubprocessTransport | None = None
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.drained: asyncio.Future[None] = loop.create_future()
        self._open = {1, 2}
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.too_much = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)  # uvloop's is no subclass

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            if len(self.stdout) + len(data) > self._max_output:
                self.too_much = True
                self.signal(signal.SIGKILL)
                return
            self.stdout += data
        else:
            self.stderr += data
            if len(self.stderr) > 2 * STDERR_KEPT:
                del self.stderr[:-STDERR_KEPT]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's name
        self._open.discard(fd)
        if not self._open and not self.drained.done():
            self.drained.set_result(None)

    def process_exited(self) -> None:
        # The leader is gone; a background job of its own may live, and may hold the pipes open.
        self.signal(signal.SIGKILL)
        if not self.exited.done():
            self.exited.set_result(None)

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group (the command leads a session of its own)."""
        pid = self._transport.get_pid() if self._transport is not None else None
        if pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)


async def run_command(
    command: Sequence[str],
    stdin: bytes,
    environment: Mapping[str, str],
    *,
    seconds: float,
    max_output: int,
    kill_after: float,
    on_signal: Callable[[signal.Signals], None] = lambda _number: None,
    strays: Strays | None = None,
) -> Ended:
    """Run `command` with `stdin`, and return how it ended.

    After `seconds` its process group gets TERM, `kill_after` seconds later KILL, and `on_signal` is told of each; the
    same when this is cancelled, and then the cancellation goes on once the command is gone. `strays` finds what has
    left that group. Raises `OSError` when it cannot be started.
    """
    mark = secrets.token_hex(8)
    loop = asyncio.get_running_loop()
    with contextlib.nullcontext(set[int]()) if strays is None else strays.starting() as leaders:
        transport, running = await loop.subprocess_exec(
            lambda: _Running(max_output),
            *command,
            env={**environment, MARK: mark},
            start_new_session=True,
        )
        leaders.add(transport.get_pid())
    try:
        _feed(transport, stdin)
        late = not await _within(running.exited, seconds)
        if late:
            await _end(running, kill_after, on_signal)
        if strays is not None:
            await strays.end(transport.get_pid(), mark)
        await _within(running.drained, PIPE_SECONDS)  # somebody outside of the group may hold the pipes: not waited for
        code = transport.get_returncode()
        assert code is not None
        return Ended(code, bytes(running.stdout), bytes(running.stderr[-STDERR_KEPT:]), running.too_much, late)
    except asyncio.CancelledError:
        if not running.exited.done():
            await asyncio.shield(asyncio.ensure_future(_end(running, kill_after, on_signal)))
        if strays is not None:
            await asyncio.shield(asyncio.ensure_future(strays.end(transport.get_pid(), mark)))
        raise
    finally:
        if not running.exited.done():
            running.signal(signal.SIGKILL)
        transport.close()


async def _within(future: asyncio.Future[None], seconds: float) -> bool:
    done, _ = await asyncio.wait({future}, timeout=max(seconds, 0))
    return bool(done)


async def _end(running: _Running, kill_after: float, on_signal: Callable[[signal.Signals], None]) -> None:
    running.signal(signal.SIGTERM)
    on_signal(signal.SIGTERM)
    if not await _within(running.exited, kill_after):
        running.signal(signal.SIGKILL)
        on_signal(signal.SIGKILL)
        await running.exited


def _feed(transport: Any, stdin: bytes) -> None:
    """Write what the command reads, and close it; a command that reads nothing is no error."""
    pipe = transport.get_pipe_transport(0)
    if pipe is None:
        return
    with contextlib.suppress(RuntimeError, OSError):  # it may be closed already, which uvloop says by an error
        if stdin:
            pipe.write(stdin)
        pipe.write_eof()


def own_environment() -> dict[str, str]:
    """Return this process's environment without variables of a task: one task's must not reach another's command."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AJ_")}


def command_name(command: Sequence[str]) -> str:
    """Return the command as a reader would type it, for texts."""
    import shlex  # noqa: PLC0415 - for texts only

    return shlex.join(command) if sys.platform != "win32" else " ".join(command)
