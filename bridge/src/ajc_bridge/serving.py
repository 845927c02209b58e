"""The queues that are served: bound, kept bound, changed while running, and drained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import anyio
from msgspec.structs import replace

from ajc.connection import Connection
from ajc.errors import AjcError, InvalidValue, NotFound, StoreError, Unavailable
from ajc.instant import SECOND
from ajc.queue import QueueInfo
from ajc.stored_queue import Change
from ajc.subjects import TASKS_STREAM, is_queue
from ajc_bridge.config import Config
from ajc_bridge.happenings import ClocksApart, LeaseShortened, QueueBound, QueueConfigured, QueueLost, Trouble
from ajc_bridge.jetstream.census import JetStreamRecordScan
from ajc_bridge.jetstream.due_items import DueItems
from ajc_bridge.jetstream.queues import bind_queue, make_policy, prepare_stores, served_names
from ajc_bridge.jetstream.server_time import server_now
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.jetstream.tidying import Tidying
from ajc_bridge.pipeline.cancellations import Cancellations
from ajc_bridge.pipeline.dispatch import ExecPolicy
from ajc_bridge.pipeline.fair_share import FairShare
from ajc_bridge.pipeline.rescue import OrphanedTasks, look_again_in
from ajc_bridge.pipeline.room import Room
from ajc_bridge.ports import Ports
from ajc_bridge.served_queue import ServedQueue, abandon, drain

LOOK_SECONDS: Final = 10.0
_APART_NS: Final = 10 * SECOND
LOOK_AGAIN_SECONDS: Final = 2.0  # while a queue that is served does not answer


class Serving:
    """Lanes for all queues of the configuration (or all there are), with their slots."""

    def __init__(
        self,
        connection: Connection,
        store: JetStreamTaskStore,
        ports: Ports,
        config: Config,
        expect: Callable[[list[str]], None],
    ) -> None:
        self.config = config
        self._connection = connection
        self._store = store
        self._ports = ports
        self._orphans = OrphanedTasks(ports, JetStreamRecordScan(connection))
        self._expect = expect
        self._share = FairShare(config.bridge.concurrency, ports.journal)
        self._room = Room()
        self._cancellations = Cancellations(ports)
        self._served: dict[str, ServedQueue] = {}
        self._leaving: list[ServedQueue] = []
        self._missing: dict[str, str] = {}
        self._looking = asyncio.Lock()  # a look and a new configuration would overtake each other
        self._tidying = Tidying(connection, ports.journal, self.infos)
        due_items = DueItems(connection, ports.journal, self.infos, may_put=config.bridge.create)
        self.upkeep = (self._tidying.run, due_items.run)  # what looks after the queues, each until cancelled

    @property
    def begun(self) -> bool:
        """Whether any queue is, or was, served."""
        return bool(self._served or self._leaving)

    @property
    def running(self) -> int:
        """Items that are being worked on, all queues together."""
        return sum(served.running for served in self._all())

    def infos(self) -> list[QueueInfo]:
        """Return the queues that are served, as the server had them when it was asked last."""
        return [served.info for served in self._served.values()]

    def _all(self) -> list[ServedQueue]:
        return [*self._served.values(), *self._leaving]

    def cancelled(self, task_id: str) -> None:
        """Take note that somebody says this task is cancelled."""
        self._cancellations.named(task_id)

    def reconnected(self) -> None:
        """Look again at what the server has: it may have been killed."""
        self._tidying.reconnected()
        self._orphans.read_again()
        for served in self._served.values():
            served.reconnected()

    def connection_lost(self) -> None:
        """Tell every queue that its pull under way is void."""
        for served in self._served.values():
            served.connection_lost()

    async def bind_all(self, *, starting: bool = True) -> None:
        """Bind what is to be served and is not yet: all of it is read and made ready before any lane begins.

        When `starting`, raises `InvalidValue` for a setting of the file that a queue cannot take; later, and for
        queues that the file does not name, that is told and keeps nobody else from being served. Raises
        `Unavailable` when there is no server.
        """
        names = await served_names(self._connection, self.config)
        # a queue whose name is refused (one made by Go) is logged, and keeps nobody from being ready
        self._expect([name for name in names if is_queue(name)])
        opened: list[tuple[ServedQueue, bool]] = []
        try:
            for name in names:
                if name in self._served:
                    continue
                try:
                    opened.append(await self._open(name))
                except AjcError as error:
                    if starting and isinstance(error, InvalidValue) and name in self.config.queues:
                        raise
                    if isinstance(error, Unavailable) and not self._connection.connected:
                        raise
                    self._cannot_serve(name, str(error))
        except BaseException:
            for served, _ in opened:
                await served.close()
            raise
        for served, created in opened:
            self._begin(served, created=created)

    async def _open(self, name: str) -> tuple[ServedQueue, bool]:
        info, changes, created = await bind_queue(self._connection, name, self.config.queues.get(name), self.config)
        self._note_changes(name, changes)
        exec_policy = ExecPolicy(self.config.exec.prefix, self.config.exec.catchall, self.config.exec.routes)
        served = ServedQueue(
            self._connection,
            self._store,
            self._ports,
            info,
            policy=make_policy(info, self.config),
            exec_policy=exec_policy,
            share=self._share,
            room=self._room,
            cancellations=self._cancellations,
        )
        await served.open()
        return served, created

    def _begin(self, served: ServedQueue, *, created: bool) -> None:
        self._missing.pop(served.name, None)
        self._served[served.name] = served
        served.begin()
        self._tell_bound(served.info, created=created)

    def _tell_bound(self, info: QueueInfo, *, created: bool) -> None:
        self._ports.journal.note(
            QueueBound(
                queue=info.name,
                created=created,
                priority=info.priority,
                max_concurrent=info.max_concurrent,
                max_tries=info.max_tries,
                lease_ns=info.lease_ns,
                max_run_time_ns=info.max_run_time_ns,
            )
        )

    def _cannot_serve(self, name: str, text: str) -> None:
        if self._missing.get(name) != text:  # told once
            self._ports.journal.note(QueueLost(name, text))
        self._missing[name] = text

    async def keep_bound(self) -> None:
        """Look again every ten seconds: new queues are served, vanished ones are not, changed ones follow."""
        while True:
            silent = self._served.keys() & self._missing.keys()
            await anyio.sleep(LOOK_AGAIN_SECONDS if silent else LOOK_SECONDS)
            try:
                async with self._looking:
                    await self._look()
            except Unavailable:
                continue  # no server now: the pulls say so

    async def _look(self) -> None:
        await self._apart("stores", self._look_at_stores())
        for served in list(self._served.values()):
            await self._apart(f"queue {served.name}", self._look_after(served))
        await self._apart("queues", self.bind_all(starting=False))

    async def _apart(self, where: str, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, whose fault is no reason not to look after the others; without a server all have to wait."""
        try:
            await work
        except Unavailable:
            if not self._connection.connected:
                raise
        except AjcError as error:
            self._ports.journal.note(Trouble(where, str(error)))

    async def _look_at_stores(self) -> None:
        _, changes = await prepare_stores(self._connection, self.config, apply=False)
        self._note_changes("", changes)  # somebody removed what all queues share
        there = await server_now(self._connection, TASKS_STREAM)
        ahead_ns = self._ports.clock.now() - there
        if abs(ahead_ns) > _APART_NS:
            self._ports.journal.note(ClocksApart(ahead_ns))

    async def _look_after(self, served: ServedQueue, *, apply: bool = False) -> None:
        """Follow what the server's configuration says now; let go of a queue that is no longer there.

        One that does not answer (a server without JetStream, or out of disk), or that cannot be pulled from, counts as
        missing until it can again; its lane goes on, since nobody knows whether it is gone.

        Only with `apply` does the server get what the file says: else bridges with different files, or a person with
        another tool, would for ever undo each other's settings.
        """
        name = served.name
        settings = self.config.queues.get(name)
        if apply and settings is not None and settings.lease is not None:
            await served.shorten(settings.lease)
        try:
            info, changes, created = await bind_queue(
                self._connection, name, settings, self._config_for(name), apply=apply
            )
        except NotFound as error:
            self._cannot_serve(name, str(error))
            await self._let_go(served)
            return
        except (Unavailable, StoreError) as error:
            if apply or not self._connection.connected:
                raise
            if name not in self._missing:  # told once, whatever the server says the next time
                self._cannot_serve(name, str(error))
            return
        if served.pull_trouble and not created:
            if name not in self._missing:
                self._cannot_serve(name, served.pull_trouble)  # there, and yet nothing comes of it: a right is missing
        elif self._missing.pop(name, None) is not None or created:
            self._tell_bound(info, created=created)
        self._note_changes(name, changes)
        if not apply and info.lease_ns < served.info.lease_ns:
            self._ports.journal.note(LeaseShortened(name, served.info.lease_ns, info.lease_ns))
        served.follow(info, make_policy(info, self.config))

    def _config_for(self, name: str) -> Config:
        """Return the configuration to look with: a vanished queue is made again only if we are told to serve it."""
        if name in self.config.queues or name == "DEFAULT":
            return self.config
        return self.config.model_copy(update={"bridge": self.config.bridge.model_copy(update={"create": False})})

    async def _let_go(self, served: ServedQueue) -> None:
        """Take nothing in from it any more. What runs ends in its own time, and is part of a drain as all else is."""
        if self._served.pop(served.name, None) is None:
            return
        served.leave()
        self._leaving = [leaving for leaving in self._leaving if leaving.running]
        self._leaving.append(served)
        await served.close()

    def _note_changes(self, name: str, changes: tuple[Change, ...]) -> None:
        for change in changes:
            self._ports.journal.note(QueueConfigured(name, change.field, change.before, change.after))

    async def rescue(self) -> None:
        """Look for tasks that wait without an item, seldom while there is no capacity to spare, until cancelled."""
        while True:
            seen = 0
            policies = {name: served.policy for name, served in self._served.items()}
            censuses = {name: served.census for name, served in self._served.items()}
            try:
                seen = await self._orphans.look(policies, censuses)
            except Unavailable:
                seen = 0  # looked at again
            except AjcError as error:
                self._ports.journal.note(Trouble("rescue", str(error)))
            spare = self._share.busy * 2 <= self.config.bridge.concurrency
            await anyio.sleep(look_again_in(seen, spare=spare))

    async def apply(self, config: Config) -> None:
        """Take up a new configuration: weights, limits, backoff, retention, the number of slots.

        Raises `InvalidValue`, `StoreError` and `Unavailable`: then the old one stays, except at the server for the
        queues before the one that was refused.
        """
        async with self._looking:
            old, self.config = self.config, config
            try:
                for served in list(self._served.values()):
                    await self._look_after(served, apply=True)
            except AjcError:
                self.config = old
                for served in self._served.values():
                    policy = make_policy(served.info, old)
                    # the server may have a shorter lease by now: the next look tells
                    lease_ns = min(policy.lease_ns, served.policy.lease_ns)
                    served.follow(served.info, replace(policy, lease_ns=lease_ns))
                raise
        self._share.resize(config.bridge.concurrency)

    async def drain(self, seconds: float) -> int:
        """Take nothing in, let what runs end within `seconds`, put the rest back; return how many those were."""
        return await drain(self._all(), seconds)

    async def abandon(self) -> None:
        """End everything unsettled: the connection is gone for good, and the leases end by themselves."""
        await abandon(self._all())

    async def watch(self) -> None:
        """Raise what ended a lane or a rescue, which no fault of a task or of the server does."""
        while True:
            await anyio.sleep(1)
            for served in self._served.values():
                served.check()
