"""The queues that are served: bound, kept bound, changed while running, and drained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import anyio
import msgspec

from ajc.connection import Connection, Subscription
from ajc.errors import AjcError, InvalidName, NotFound, Unavailable
from ajc.queue import QueueInfo
from ajc.subjects import is_queue
from ajc_bridge.config import Config
from ajc_bridge.happenings import QueueBound, QueueConfigured, QueueLost, RemainsCleared, Trouble
from ajc_bridge.jetstream.census import JetStreamCensus, JetStreamRecordScan
from ajc_bridge.jetstream.queues import bind_queue, make_policy, prepare_stores, served_names
from ajc_bridge.jetstream.remains import Remains
from ajc_bridge.jetstream.task_store import JetStreamTaskStore
from ajc_bridge.jetstream.work_queue import JetStreamWorkQueue
from ajc_bridge.pipeline.dispatch import ExecPolicy
from ajc_bridge.pipeline.fair_share import FairShare
from ajc_bridge.pipeline.lane import Lane
from ajc_bridge.pipeline.rescue import SCAN_PAUSE, SCAN_SECONDS, ExhaustedItems, OrphanedTasks
from ajc_bridge.ports import Ports

LOOK_SECONDS: Final = 10.0
TIDY_SECONDS: Final = 15.0
_INTERRUPTED_SECONDS: Final = 5.0


class _Served(msgspec.Struct):
    """One queue that is served."""

    info: QueueInfo
    queue: JetStreamWorkQueue
    lane: Lane
    census: JetStreamCensus
    advisories: Subscription
    task: asyncio.Task[None]
    rescuing: asyncio.Task[None]


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
        self._served: dict[str, _Served] = {}
        self._missing: dict[str, str] = {}
        self._may_be_back = asyncio.Event()
        self._may_be_back.set()

    @property
    def running(self) -> int:
        """Items that are being worked on, all queues together."""
        return sum(served.lane.running for served in self._served.values())

    def reconnected(self) -> None:
        """Look again at what the server has: it may have been killed."""
        self._may_be_back.set()

    def connection_lost(self) -> None:
        """Tell every queue that its pull under way is void."""
        for served in self._served.values():
            served.queue.connection_lost()

    async def bind_all(self) -> None:
        """Bind what is to be served and is not yet. Raises `InvalidValue` for a setting that cannot change."""
        names = await served_names(self._connection, self.config)
        # a queue whose name is refused (one made by Go) is logged, and keeps nobody from being ready
        self._expect([name for name in names if is_queue(name)])
        for name in names:
            if name not in self._served:
                await self._bind(name)

    async def keep_bound(self) -> None:
        """Look again every ten seconds: new queues are served, vanished ones are not, changed ones follow."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            try:
                _, changes = await prepare_stores(self._connection, self.config)
                for change in changes:  # somebody removed what all queues share
                    self._ports.journal.note(QueueConfigured("", change.field, change.before, change.after))
                for name in list(self._served):
                    await self._look_after(name, self._served[name])
                await self.bind_all()
            except Unavailable:
                continue  # no server now: the pulls say so
            except AjcError as error:
                self._ports.journal.note(Trouble("queues", str(error)))

    async def _bind(self, name: str) -> None:
        settings = self.config.queues.get(name)
        try:
            info, changes, created = await bind_queue(self._connection, name, settings, self.config)
        except (NotFound, InvalidName) as error:
            if self._missing.get(name) != str(error):
                self._ports.journal.note(QueueLost(name, str(error)))
            self._missing[name] = str(error)
            return
        for change in changes:
            self._ports.journal.note(QueueConfigured(name, change.field, change.before, change.after))
        self._missing.pop(name, None)
        policy = make_policy(info, self.config)
        queue = JetStreamWorkQueue(self._connection, name, info.lease_ns)
        exec_policy = ExecPolicy(self.config.exec.prefix, self.config.exec.catchall)
        self._share.add(name, info.priority, info.max_concurrent)
        lane = Lane(self._ports, queue, policy, exec_policy, self._share)
        await queue.start(lane.take)
        census = JetStreamCensus(self._connection, self._store, name)
        exhausted = ExhaustedItems(self._ports, census, lambda: lane.policy)
        self._served[name] = _Served(
            info,
            queue,
            lane,
            census,
            await census.listen(exhausted.given_up),
            asyncio.create_task(lane.run()),
            asyncio.create_task(exhausted.run()),
        )
        self._ports.journal.note(
            QueueBound(
                queue=name,
                created=created,
                priority=info.priority,
                max_concurrent=info.max_concurrent,
                max_tries=info.max_tries,
                lease_ns=info.lease_ns,
                max_run_time_ns=info.max_run_time_ns,
            )
        )

    async def _look_after(self, name: str, served: _Served) -> None:
        """Follow what the server's configuration says now; let go of a queue that is no longer there."""
        try:
            info, changes, _ = await bind_queue(
                self._connection, name, self.config.queues.get(name), self._config_for(name)
            )
        except NotFound as error:
            self._ports.journal.note(QueueLost(name, str(error)))
            self._missing[name] = str(error)
            await self._let_go(name)
            return
        for change in changes:
            self._ports.journal.note(QueueConfigured(name, change.field, change.before, change.after))
        self._follow(name, served, info)

    def _config_for(self, name: str) -> Config:
        """Return the configuration to look with: a vanished queue is made again only if we are told to serve it."""
        if name in self.config.queues or name == "DEFAULT":
            return self.config
        return self.config.model_copy(update={"bridge": self.config.bridge.model_copy(update={"create": False})})

    def _follow(self, name: str, served: _Served, info: QueueInfo) -> None:
        policy = make_policy(info, self.config)
        if policy != served.lane.policy:
            served.lane.follow(policy)
            served.queue.lease_seconds = info.lease_ns / 1e9
        if (info.priority, info.max_concurrent) != (served.info.priority, served.info.max_concurrent):
            self._share.change(name, info.priority, info.max_concurrent)
        served.info = info

    async def _let_go(self, name: str) -> None:
        served = self._served.pop(name)
        served.lane.stop()
        served.rescuing.cancel()
        self._share.remove(name)
        await served.queue.stop()
        await served.advisories.unsubscribe()

    async def rescue(self) -> None:
        """Look for tasks that wait without an item, as long as there is capacity to spare, until cancelled."""
        while True:
            seen = 0
            if self._share.busy * 2 <= self.config.bridge.concurrency:
                policies = {name: served.lane.policy for name, served in self._served.items()}
                censuses = {name: served.census for name, served in self._served.items()}
                evicting = {name: _evicts(served.info) for name, served in self._served.items()}
                try:
                    seen = await self._orphans.look(policies, censuses, evicting)
                except Unavailable:
                    seen = 0  # looked at again
            await anyio.sleep(SCAN_PAUSE if seen else SCAN_SECONDS)

    async def tidy(self) -> None:
        """Remove what a killed server brought back: once at the start and after each reconnect, until cancelled."""
        while True:
            await self._may_be_back.wait()
            self._may_be_back.clear()
            await anyio.sleep(TIDY_SECONDS)  # the server has taken up its own work again by then
            for name in list(self._served):
                try:
                    removed = await Remains(self._connection, name).clear()
                except Unavailable:
                    self._may_be_back.set()  # looked at again
                    continue
                if removed:
                    self._ports.journal.note(RemainsCleared(name, removed))

    async def apply(self, config: Config) -> None:
        """Take up a new configuration: weights, limits, backoff, retention, the number of slots.

        Raises `InvalidValue` for a setting that a queue cannot take, and `Unavailable`: then the old one stays.
        """
        old, self.config = self.config, config
        try:
            for name, served in list(self._served.items()):
                await self._look_after(name, served)
        except AjcError:
            self.config = old
            raise
        self._share.resize(config.bridge.concurrency)

    async def drain(self, seconds: float) -> int:
        """Take nothing in, let what runs end within `seconds`, put the rest back; return how many those were."""
        for served in self._served.values():
            served.lane.stop()
            served.rescuing.cancel()
        tasks = [served.task for served in self._served.values()]
        if not tasks:
            return 0
        await asyncio.wait(tasks, timeout=seconds)
        left = self.running
        if left:
            for served in self._served.values():
                served.lane.interrupt()
            await asyncio.wait(tasks, timeout=_INTERRUPTED_SECONDS)
            for served in self._served.values():
                served.lane.abandon()
            await asyncio.wait(tasks, timeout=1)
        return left

    async def abandon(self) -> None:
        """End everything unsettled: the connection is gone for good, and the leases end by themselves."""
        tasks = [task for served in self._served.values() for task in (served.task, served.rescuing)]
        for served in self._served.values():
            served.lane.stop()
            served.lane.abandon()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    async def watch(self) -> None:
        """Return when a lane ends by itself, which is a fault: raises what it raised."""
        while True:
            tasks = [served.task for served in self._served.values()]
            if not tasks:
                await anyio.sleep(1)
                continue
            done, _ = await asyncio.wait(tasks, timeout=1, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task in {served.task for served in self._served.values()}:
                    task.result()


def _evicts(info: QueueInfo) -> bool:
    """Whether the queue lets items go unseen: the oldest when it is full, or those that are too old."""
    return info.when_full == "discard_old" or info.max_age_ns > 0
