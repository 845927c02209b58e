"""A stream for log lines that makes nobody wait: what its reader does not take is kept up to a bound, then left out.

A pipe that nobody reads, or a terminal that was stopped, would else stop the loop, and with it the renewal of leases.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_WAITING: Final = 1 << 20
"""Bytes that wait for the reader at most."""
_LOOK_SECONDS: Final = 1.0


class LogStream:
    """Writes to a file descriptor. A line goes out whole and in its turn, or not at all and is counted in `dropped`.

    (A disk that is full in the middle of a line cuts it.)

    While the reader keeps up, a line is written when it comes, as by a plain file: whoever is killed afterwards has
    said it. Else a thread writes what waits, as the reader takes it.
    """

    def __init__(self, descriptor: int, *, most: int = MOST_WAITING) -> None:
        self.dropped = 0
        self._most = most
        self._descriptor = descriptor
        self._tty = os.isatty(descriptor)
        self._send = _sender(descriptor)
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> bool:
        """Whether the reader is behind."""
        return bool(self._waiting)

    def isatty(self) -> bool:
        """Whether people look on."""
        return self._tty

    def write(self, text: str) -> int:
        """Take one line, with its end. Never waits, not for another thread either, and never raises."""
        line = text.encode("utf-8", "replace")
        if self._waiting and self._bytes + len(line) > self._most:
            self.dropped += 1
        else:
            self._bytes += len(line)
            self._waiting.append(line)
            self._write_waiting()
        return len(text)

    def flush(self) -> None:
        """Do nothing: what can go has gone."""

    def finish(self, seconds: float) -> None:
        """Write what waits, for so long at most: before the process ends."""
        end = time.monotonic() + seconds
        while self._waiting and (left := end - time.monotonic()) > 0:
            self._await_reader(left)
            self._write_waiting()

    def _follow(self) -> None:
        """Write as the reader takes it, until nothing waits."""
        while self._waiting:
            self._await_reader(_LOOK_SECONDS)
            self._write_waiting()
        self._thread = None
        self._write_waiting()  # what came between the last look and that

    def _write_waiting(self) -> None:
        """Write what the reader takes now; a thread follows with the rest.

        One at a time, and nobody waits for whoever does: a line may be logged while another is written, by an object
        that is collected just then, in the same thread or with a lock that others want.
        """
        behind = False
        while self._waiting and not behind and self._lock.acquire(blocking=False):
            try:
                while self._waiting and not behind:
                    line = self._waiting.popleft()
                    rest = self._sent(line)
                    self._bytes -= len(line) - len(rest)
                    if rest:
                        self._waiting.appendleft(rest)
                        behind = True
            finally:
                self._lock.release()
            # looked at again: what came meanwhile found the lock taken
        if behind and self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="log-stream", daemon=True)
            self._thread.start()
        elif not self._waiting:
            self._bytes = 0  # threads that count at once may lose something, but not for long

    def _sent(self, line: bytes) -> bytes:
        """Write what can be written now, and return the rest; a line that can never be written is dropped."""
        try:
            return line[self._send(line) :]
        except BlockingIOError:
            return line
        except OSError:  # nobody will read it: the pipe is broken, or the disk full
            self.dropped += 1
            return b""

    def _await_reader(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(seconds * 1000)


def _sender(descriptor: int) -> Callable[[bytes], int]:
    """Return what writes without waiting, and raises `BlockingIOError` when it cannot.

    The descriptor itself stays as it is: others may share it, and would not expect one that does not wait.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return lambda line: os.write(descriptor, line)
    if stat.S_ISSOCK(kind):
        shared = socket.socket(fileno=os.dup(descriptor))
        return lambda line: shared.send(line, socket.MSG_DONTWAIT)
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        own = os.open(f"/proc/self/fd/{descriptor}", flags)  # the same pipe or terminal, with flags of its own
    except OSError:
        return lambda line: _write_if_ready(descriptor, line)
    return lambda line: os.write(own, line)


def _write_if_ready(descriptor: int, line: bytes) -> int:
    """Write what a reader is sure to take at once; only where somebody else fills the pipe meanwhile, this waits."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, line[: select.PIPE_BUF])
