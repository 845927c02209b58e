"""What happens to the process: its start and end, its connection, its configuration."""

from __future__ import annotations

from typing import ClassVar

from ajc_bridge.happenings.detail import Detail


class Started(Detail, frozen=True, gc=False):
    """The process runs; it may not be connected yet."""

    action: ClassVar[str] = "bridge.started"
    name: str
    version: str
    concurrency: int


class Connected(Detail, frozen=True, gc=False):
    """The first connection stands. `server` is the URL that it stands to, without credentials."""

    action: ClassVar[str] = "nats.connected"
    server: str
    version: str


class ConnectFailed(Detail, frozen=True, gc=False):
    """There is no connection, and an attempt to make one failed; the next one follows in half a second.

    `server` is its URL without credentials, or several.
    """

    action: ClassVar[str] = "nats.connect_failed"
    server: str
    text: str


class Disconnected(Detail, frozen=True, gc=False):
    """The connection was lost; it is being sought again."""

    action: ClassVar[str] = "nats.disconnected"
    text: str


class Reconnected(Detail, frozen=True, gc=False):
    """The connection stands again, of a cluster perhaps to another member: `server` is its URL without credentials."""

    action: ClassVar[str] = "nats.reconnected"
    server: str
    version: str


class ConnectionClosed(Detail, frozen=True, gc=False):
    """The connection is closed for good; the process ends with 5."""

    action: ClassVar[str] = "nats.closed"
    text: str


class FastPathUnavailable(Detail, frozen=True, gc=False):
    """The fast client does not fit this nats-py: its public interface is used instead."""

    action: ClassVar[str] = "nats.fast_path_unavailable"
    reason: str


class ConfigApplied(Detail, frozen=True, gc=False):
    """The configuration was read again: the paths of the keys that took effect, and of those that need a restart."""

    action: ClassVar[str] = "config.applied"
    changed: tuple[str, ...]
    refused: tuple[str, ...]


class RestartNeeded(Detail, frozen=True, gc=False):
    """The configuration was read again: these keys take effect with the next start of the process alone."""

    action: ClassVar[str] = "config.restart_needed"
    keys: tuple[str, ...]


class ConfigRefused(Detail, frozen=True, gc=False):
    """The configuration was read again and is wrong: the old one stays. One line a fault."""

    action: ClassVar[str] = "config.refused"
    lines: tuple[str, ...]


class HttpListening(Detail, frozen=True, gc=False):
    """Probes and metrics answer at this URL."""

    action: ClassVar[str] = "http.listening"
    url: str


class NotPrepared(Detail, frozen=True, gc=False):
    """The server does not give what the bridge needs before its first task, and is asked again.

    `where` is "JetStream" when that is off, else "streams"; `text` the error, and the mend where it is known.
    """

    action: ClassVar[str] = "bridge.not_prepared"
    where: str
    text: str


class ClocksApart(Detail, frozen=True, gc=False):
    """This machine's clock is so far ahead of the server's (behind, when negative): retries and rescues go by both."""

    action: ClassVar[str] = "bridge.clocks_apart"
    ahead_ns: int


class Draining(Detail, frozen=True, gc=False):
    """No further item is taken; what runs may end within the limit."""

    action: ClassVar[str] = "bridge.draining"
    running: int
    limit_ns: int


class Drained(Detail, frozen=True, gc=False):
    """Draining is over; `left` attempts were interrupted and put back uncounted."""

    action: ClassVar[str] = "bridge.drained"
    left: int


class Stopped(Detail, frozen=True, gc=False):
    """The process ends with this exit code."""

    action: ClassVar[str] = "bridge.stopped"
    code: int


class Trouble(Detail, frozen=True, gc=False):
    """Something failed that should not have, and the daemon goes on. `where` names the piece, `text` the error."""

    action: ClassVar[str] = "bridge.trouble"
    where: str
    text: str
