"""The configuration of a running daemon: read again on a signal, and taken up as far as that can be while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import anyio

from ajc.connection import Connection
from ajc.errors import AjcError, NotPermitted, Unavailable
from ajc.topology import possible_changes
from ajc_bridge.config import Config, ConfigError, changed_keys, restart_needed
from ajc_bridge.happenings import ConfigApplied, ConfigRefused, QueueConfigured, RestartNeeded, Trouble
from ajc_bridge.jetstream.queues import make_queue, prepare_stores
from ajc_bridge.journal.journal import Journal
from ajc_bridge.journal.logs import Logs
from ajc_bridge.serving import Serving

_PAUSE_SECONDS: Final = 0.5


class Following:
    """`config` is what holds now; `reload` reads the next one, and raises `ConfigError` for a wrong one."""

    def __init__(self, config: Config, reload: Callable[[], Config], journal: Journal, logs: Logs) -> None:
        self.config = config
        self._reload = reload
        self._journal = journal
        self._logs = logs
        self._wanted = asyncio.Event()

    def read_again(self) -> None:
        """Read it again, as soon as the daemon serves; several wishes at once are one."""
        self._wanted.set()

    async def run(self, connection: Connection, serving: Serving) -> None:
        """Follow until cancelled. A wrong configuration is told, and the old one stays."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._apply_surely(self._reload(), connection, serving)
            except ConfigError as error:
                self._journal.note(ConfigRefused(tuple(error.lines)))
            except AjcError as error:
                self._journal.note(ConfigRefused((str(error),)))
            except Exception as error:  # noqa: BLE001  (a file that is wrong changes nothing, however wrong it is)
                self._journal.note(ConfigRefused((f"{type(error).__name__}: {error}",)))

    async def _apply_surely(self, config: Config, connection: Connection, serving: Serving) -> None:
        """Apply, however long the server is away, unless a newer reading is asked for meanwhile.

        What the bridge may not change is refused at once: no repetition would have the right.
        """
        while not self._wanted.is_set():
            try:
                await self._apply(config, connection, serving)
            except NotPermitted:
                raise
            except Unavailable as error:
                self._journal.note(Trouble("reload", str(error)))
                await anyio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _apply(self, config: Config, connection: Connection, serving: Serving) -> None:
        old = self.config
        refused = restart_needed(old, config)
        changed = [key for key in changed_keys(old, config) if key not in refused]
        config = _what_can_change(old, config)
        # what is wrong for a queue or for the stores is found before anything is changed
        for info in serving.infos():
            possible_changes(info, make_queue(info.name, config.queues.get(info.name)))
        await self._stores(connection, config, limits=False)
        await serving.apply(config)
        # last: smaller limits remove dead letters for good, and what is refused before must not have done that
        await self._stores(connection, config, limits=True)
        if config.log.level != old.log.level:
            self._logs.level = config.log.level
            self._journal.rewire()
        self.config = config
        self._journal.note(ConfigApplied(tuple(changed), tuple(refused)))
        if refused:
            self._journal.note(RestartNeeded(tuple(refused)))

    async def _stores(self, connection: Connection, config: Config, *, limits: bool) -> None:
        """Give the shared streams what the configuration needs of them, and (`limits`) dead letters theirs."""
        _, changes = await prepare_stores(connection, config, apply=limits)
        for change in changes:
            self._journal.note(QueueConfigured("", change.field, change.before, change.after))


def _what_can_change(old: Config, new: Config) -> Config:
    """Return the new configuration with everything that needs a restart as it was."""
    fixed = {"name": old.bridge.name, "create": old.bridge.create, "replicas": old.bridge.replicas}
    return new.model_copy(
        update={
            "nats": old.nats,
            "exec": old.exec,
            "http": old.http,
            "bridge": new.bridge.model_copy(update=fixed),
            "queues": {name: new.queues.get(name, queue) for name, queue in old.queues.items()},
        }
    )
