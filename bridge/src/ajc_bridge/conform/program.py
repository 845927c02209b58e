"""The responder as a command that the kit starts, ends, kills and starts again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Final

from ajc.errors import InvalidValue

_LOOK_SECONDS: Final = 0.02
_KILLED_SECONDS: Final = 10.0
_READ_SECONDS: Final = 1.0
_LAST_LINES: Final = 10
OUTPUT_KEPT: Final = 8_192
"""Bytes: of what a command writes the newest are kept."""


class Program:
    """One process at a time of the same command, in a process group of its own; the end of what it writes is kept."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.command = tuple(command)
        self._environment = dict(environment)
        self._output = _Output()
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False
        self.trouble = ""
        """What first went wrong with it unasked, and what it had written by then."""

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs, or before it was ever started."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Start it. Raises `InvalidValue` when that cannot be done."""
        self._told = False
        try:
            self._process = subprocess.Popen(  # noqa: S603  (the user's own command)
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise InvalidValue("--start", self.command[0], f"cannot be started: {error.strerror}") from None
        assert self._process.stdout is not None
        self._output.follow(self._process.stdout)

    def terminate(self) -> None:
        """Send SIGTERM to the process itself, as a container's end does."""
        self._told = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with all that it started. Calling it again does nothing."""
        self._told = True
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it started may live on after it
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILLED_SECONDS)

    def note_end(self) -> None:
        """Remember that it has ended, if it has and nobody told it to."""
        if self.code is not None and not self._told:
            self.note_trouble(f"the command ended by itself ({code_words(self.code)})")

    def note_trouble(self, what: str) -> None:
        """Remember the first thing that went wrong; later ones mostly follow from it."""
        if not self.trouble:
            words = self.last_words()
            self.trouble = f"{what}; its last words:\n{words}" if words else f"{what}, and wrote nothing"

    async def ended(self, seconds: float) -> int | None:
        """Wait for its end, at most so long, and return the exit code; None when it runs on."""
        limit = asyncio.get_running_loop().time() + seconds
        while self.code is None and asyncio.get_running_loop().time() < limit:  # noqa: ASYNC110  (a process has no event)
            await asyncio.sleep(_LOOK_SECONDS)
        return self.code

    def last_words(self) -> str:
        """Return the end of what it wrote."""
        if self.code is not None:
            self._output.wait(_READ_SECONDS)
        return self._output.last_lines(_LAST_LINES)


class _Output:
    """Reads what a command writes, as fast as it comes, and keeps the newest bytes of it."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._seen = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def follow(self, pipe: IO[bytes]) -> None:
        """Read this pipe from now on, until all who hold it have closed it."""
        self._thread = threading.Thread(target=self._read, args=(pipe,), name="ajc-conform-output", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the pipe, at most so long: what the command started may hold it."""
        if self._thread is not None:
            self._thread.join(seconds)

    def last_lines(self, lines: int) -> str:
        """Return the last lines; where that is not all, the first says of how much they are the end."""
        with self._lock:
            text = bytes(self._kept).decode("utf-8", "replace")
            cut = self._seen > len(self._kept)
        found = text.rstrip().splitlines()
        last = found[-lines:]
        if last and (cut or len(found) > len(last)):
            last.insert(0, f"... (the end of {self._seen:,} bytes)")
        return "\n".join(last)

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                with self._lock:
                    self._seen += len(data)
                    self._kept += data
                    del self._kept[:-OUTPUT_KEPT]


def code_words(code: int | None) -> str:
    """Tell an exit code."""
    if code is None:
        return "it runs on"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"
