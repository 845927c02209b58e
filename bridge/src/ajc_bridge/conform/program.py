"""The responder as a command that the kit starts, ends, kills and starts again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ajc.errors import InvalidValue

_LOOK_SECONDS: Final = 0.02
_KILLED_SECONDS: Final = 10.0
_LAST_BYTES: Final = 8_192
_LAST_LINES: Final = 10


class Program:
    """One process at a time of the same command, in a process group of its own; what it writes goes to `output`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
        self.command = tuple(command)
        self._environment = dict(environment)
        self._output = output
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
        with self._output.open("ab") as output:
            try:
                self._process = subprocess.Popen(  # noqa: S603  (the user's own command)
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise InvalidValue("--start", self.command[0], f"cannot be started: {error.strerror}") from None

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
        try:
            with self._output.open("rb") as output:
                output.seek(max(0, output.seek(0, os.SEEK_END) - _LAST_BYTES))  # it may have written any amount
                text = output.read(_LAST_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.rstrip().splitlines()[-_LAST_LINES:])


def code_words(code: int | None) -> str:
    """Tell an exit code."""
    if code is None:
        return "it runs on"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"
