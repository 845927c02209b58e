"""The processes of the demonstration, each in a group of its own; whatever happens, none is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ajc_bridge.cli.children import Child, NatsServer, find_server
from demo.scenes import CONFIGURATION, QUEUES

POLYGLOT: Final = Path(__file__).parent.parent / "examples" / "polyglot"
_START_SECONDS: Final = 20.0
_HURRIED_SECONDS: Final = 1.0


class NotPlayedError(Exception):
    """A process did not do what it must; the text says which, and shows the end of its log."""


class Cast:
    """Everybody who plays: a server, a bridge, responders. Started here, ended in the reverse order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, Child] = {}
        self._server: NatsServer | None = None
        self.url = ""
        self.pids: dict[str, int] = {}

    def start_server(self) -> None:
        """Start a nats-server on a free port, with its store in the folder."""
        self._server = NatsServer(find_server(), self._folder, 0)
        self.url = self._server.start(lambda: False)
        self.pids["nats-server"] = self._server.pid

    def start_bridge(self) -> None:
        """Start the daemon and wait until it serves."""
        settings = self._folder / "ajc-bridge.toml"
        settings.write_text(CONFIGURATION.format(url=self.url), encoding="utf-8")
        self._start("ajc-bridge", [sys.executable, "-m", "ajc_bridge", "run", "--config", str(settings)])

    def start_responders(self) -> None:
        """Start the three that are there from the beginning."""
        self._start("SDK", [sys.executable, "-m", "ajc", "responder:app"], cwd=POLYGLOT / "python-sdk")
        self._start("shell script", self._exec("words:count", str(POLYGLOT / "shell" / "count-words.sh")))
        self._start("plain nats-py", [sys.executable, str(POLYGLOT / "python-nats" / "responder.py")])

    def start_late_responder(self) -> None:
        """Start the one that comes later: any command will do."""
        self._start("tr a-z A-Z", self._exec("label:print", "tr", "a-z", "A-Z"))

    async def wait_until_ready(self) -> None:
        """Wait until the bridge serves its queues and the responders that say so are subscribed."""
        for queue in QUEUES:
            await self._wait_for("ajc-bridge", '"queue.bound"', f'"{queue}"')
        for name in ("SDK", "shell script"):
            await self._wait_for(name, " serving ")

    def stop(self, seconds: float) -> dict[str, int | None]:
        """End all: asked, and after so many seconds killed with its group. Return the exit codes."""
        codes: dict[str, int | None] = {}
        running = list(reversed(self._children.items()))
        for _, child in running:
            child.terminate()
        for name, child in running:
            codes[name] = child.wait(seconds)
            child.kill()
        self._children.clear()
        if self._server is not None:
            self._server.stop()
            self._server = None
        return codes

    def check(self) -> None:
        """Raise `NotPlayedError` when somebody has ended already."""
        for name, child in self._children.items():
            if child.code is not None:
                raise NotPlayedError(f"{name} ended with {child.code}:\n{self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """Return the end of a process's log."""
        try:
            return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-12:])
        except OSError:
            return ""

    async def _wait_for(self, name: str, *words: str) -> None:
        """Wait until a process has written a line with these words."""
        until = time.monotonic() + _START_SECONDS
        while not self._said(name, *words):
            self.check()
            if time.monotonic() > until:
                raise NotPlayedError(f"{name} is not ready after {_START_SECONDS:.0f} s:\n{self.last_words(name)}")
            await asyncio.sleep(0.02)

    def _said(self, name: str, *words: str) -> bool:
        with contextlib.suppress(OSError):
            lines = self._log(name).read_text(errors="replace").splitlines()
            return any(all(word in line for word in words) for line in lines)
        return False

    def _exec(self, type_: str, *command: str) -> list[str]:
        return [sys.executable, "-m", "ajc_bridge", "exec", type_, "--concurrency", "50", "--", *command]

    def _start(self, name: str, command: list[str], cwd: Path | None = None) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("AJC_", "NATS_"))}
        environment["NATS_URL"] = self.url
        with self._log(name).open("wb") as log:
            child = Child(command, stdout=log, stderr=log, env=environment, cwd=cwd or self._folder)
        self._children[name] = child
        self.pids[name] = child.pid

    def _log(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '-')}.log"


@contextlib.contextmanager
def cast(folder: Path) -> Iterator[Cast]:
    """Give a cast that is gone when the block ends, however it ends."""
    players = Cast(folder)
    try:
        yield players
    finally:
        players.stop(_HURRIED_SECONDS)
