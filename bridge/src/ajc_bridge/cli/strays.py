"""What a command started and what then left its process group (setsid, a double fork): found and killed, on Linux.

The process that runs commands becomes the subreaper of all that they start, so whatever loses its parent becomes its
child, not init's. Each command has a mark of its own in its environment, which all that it starts inherits; once the
command has ended, what has that mark is killed. A program that is meant to stay is started without the mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARK: Final = "AJ_RUN"
_PR_SET_CHILD_SUBREAPER: Final = 36
_PATIENCE_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.01


class Strays:
    """The descendants of this process. To be used on one loop, by whoever starts all of this process's children."""

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415 - where commands run only

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[dict[int, int]] | None = None
        self._starting = 0
        self._leaders: set[int] = set()

    @contextlib.contextmanager
    def starting(self) -> Iterator[set[int]]:
        """Start a command meanwhile, and put its id into the set that this gives."""
        self._starting += 1
        try:
            yield self._leaders
        finally:
            self._starting -= 1

    async def end(self, leader: int, mark: str) -> None:
        """Kill what has this mark, after its leader has ended, and take leave of what has died."""
        self._leaders.discard(leader)
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            parents = await self._look()
            self._reap(parents)
            if not [pid for pid in _descendants(parents) if _kill(pid, f"{MARK}={mark}".encode())]:
                return
            if time.monotonic() >= until:
                return  # it hangs in the kernel
            await asyncio.sleep(_PAUSE_SECONDS)

    def _reap(self, parents: dict[int, int]) -> None:
        if self._starting:
            return  # one of them may be a command whose id is not known yet, and whose exit code is wanted
        for pid, parent in parents.items():
            if parent == os.getpid() and pid not in self._leaders:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    async def _look(self) -> dict[int, int]:
        """Return every process and its parent, by a look that begins after this call; several callers share one."""
        if self._next is None:
            self._next = asyncio.create_task(self._look_once())
        return await asyncio.shield(self._next)

    async def _look_once(self) -> dict[int, int]:
        async with self._one_at_a_time:
            self._next = None
            return await asyncio.to_thread(_parents)


def find_strays() -> Strays | None:
    """Return what finds them; None where the system has no way to."""
    return Strays() if sys.platform == "linux" else None


def _parents() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            words = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            found[int(folder.name)] = int(words[1])
    return found


def _descendants(parents: dict[int, int]) -> list[int]:
    found: list[int] = []
    generation = {os.getpid()}
    while generation := {pid for pid, parent in parents.items() if parent in generation}:
        found += generation
    return found


def _kill(pid: int, mark: bytes) -> bool:
    """Kill this process if it has the mark; return whether it had."""
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)  # the id may be another's in a moment
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
        finally:
            os.close(process)
    return False
