"""The processes of a run: each in a group of its own, ended with all that it started, and looked for afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from pathlib import Path
from typing import Final

from polyglot.examples import Example

_MARK: Final = "POLYGLOT_RUN"
_END_SECONDS: Final = 30


class Processes:
    """Every process of one run bears the run's mark in its environment, so that one that is left is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)
        self.path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._running: dict[str, Process] = {}

    async def start(self, name: str, command: list[str], cwd: Path, **environment: str) -> Process:
        """Start a program; its output goes to the end of <folder>/<name>.log."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AJC_", "NATS_"))}
        with self.log(name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=cwd,
                env=kept | {"PATH": self.path, _MARK: self.mark} | environment,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    async def start_shell(self, name: str, example: Example, command: str, **environment: str) -> Process:
        """Start a command of an example's polyglot.toml in its folder."""
        return await self.start(name, ["sh", "-c", command], example.folder, AJC_FAMILY=example.name, **environment)

    async def run(self, name: str, command: list[str], cwd: Path, seconds: float, **environment: str) -> int:
        """Run a program to its end, and return the exit code; -1 when it took longer than that many seconds."""
        process = await self.start(name, command, cwd, **environment)
        try:
            return await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            return -1
        finally:
            await self.kill(name)

    async def kill(self, name: str) -> None:
        """End a program at once, with its group."""
        process = self._running.pop(name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def terminate(self, name: str) -> int:
        """Ask a program to end, and return its exit code; kill it when it takes too long."""
        process = self._running[name]
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_SECONDS)
        await self.kill(name)
        assert process.returncode is not None
        return process.returncode

    async def kill_all(self) -> None:
        """End whatever runs."""
        for name in reversed(list(self._running)):
            with contextlib.suppress(ProcessLookupError):
                self._running[name].terminate()  # the kit ends what it started
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._running[name].wait(), 3)
            await self.kill(name)

    def ended(self) -> list[str]:
        """Return those that have ended though nobody told them to."""
        return [name for name, process in self._running.items() if process.returncode is not None]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def last_words(self, name: str, lines: int = 15) -> str:
        """Return the end of a program's output."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def left(self) -> list[str]:
        """Return the command lines of this run's processes that are still there after a moment; Linux only."""
        for _ in range(50):
            found = self._marked()
            if not found:
                break
            await asyncio.sleep(0.1)
        return found

    def _marked(self) -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{_MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                    found.append(f"{folder.name}: {shlex.join(words)}")
        return found
