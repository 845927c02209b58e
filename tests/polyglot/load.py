"""Sends tasks through one bridge to all examples at once, while each of them is killed and started again once."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import nats
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

import ajc
from ajc.making_tasks import new_task
from ajc_bridge.cli.children import NatsServer, find_server
from polyglot.examples import Example
from polyglot.processes import Processes

LIMIT_SECONDS: Final = 240
_SHELL_SHARE: Final = 200
"""An L0 example starts a process or three for each task: this many are enough of it."""
_READY_SECONDS: Final = 60
_CALM_SECONDS: Final = 3
_SLOW: Final = (20, 50)  # one task of twenty, milliseconds
_BRIDGE: Final = """\
[nats]
url = "{url}"
[http]
listen = "off"
[log]
format = "json"
[bridge]
name = "polyglot"
concurrency = 100
[backoff.soon]
steps = ["100ms", "300ms"]
jitter = 0.5
"""
_QUEUE: Final = """\
[queues.{queue}]
max_run_time = "5s"
max_concurrent = 8
max_tries = 20
backoff = "soon"
"""


@dataclass
class Share:
    """The tasks of one example: their results as they must be, and what was seen of them."""

    example: Example
    results: dict[str, bytes]
    slow: set[str] = field(default_factory=set)
    done: dict[str, float] = field(default_factory=dict)  # seconds since the first was enqueued
    began: dict[str, int] = field(default_factory=dict)  # ns: the task's age when its last attempt began
    took: list[float] = field(default_factory=list)  # seconds: that attempt, without the tasks that are slow
    retried: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.done) == len(self.results)

    @property
    def rate(self) -> float:
        """Tasks a second, from the start of the whole load to this example's last task."""
        return len(self.done) / max(self.done.values(), default=1.0)

    @property
    def p99(self) -> float:
        """Seconds from the dispatch of a task's last attempt to its completion."""
        return sorted(self.took)[len(self.took) * 99 // 100] if self.took else 0.0


def shares(examples: list[Example], tasks: int) -> list[Share]:
    """Divide so many tasks: as many to each, fewer to those that start a process for each."""
    weights = [_SHELL_SHARE if one.settings.level == "L0" else None for one in examples]
    small = min(_SHELL_SHARE, tasks // len(examples))
    others = weights.count(None)
    if not others:
        counts = [tasks // len(examples)] * len(examples)
    else:
        large = (tasks - small * (len(examples) - others)) // others
        counts = [small if weight else large for weight in weights]
    counts[weights.index(None) if others else 0] += tasks - sum(counts)
    return [_share(example, count) for example, count in zip(examples, counts, strict=True)]


def _share(example: Example, count: int) -> Share:
    share = Share(example, {})
    for number in range(count):
        task_id = f"{example.name}-{number:05d}"
        if example.settings.level in ("L2", "L3") and number % _SLOW[0] == 0:
            share.slow.add(task_id)
            share.results[task_id] = str(_SLOW[1]).encode()
        else:
            share.results[task_id] = f"{task_id} {number * number}\n".encode()
    return share


class Load:
    """One run: a server, a bridge, all the examples, and their tasks."""

    def __init__(self, examples: list[Example], tasks: int, processes: Processes) -> None:
        self.shares = shares(examples, tasks)
        self._processes = processes
        self._by_name = {share.example.name: share for share in self.shares}
        self._server = NatsServer(find_server(), processes.folder, 0)
        self._killing: set[asyncio.Task[None]] = set()
        self._killed: set[str] = set()
        self.problems: list[str] = []

    async def run(self) -> None:
        """Do all of it; what is wrong stands in `problems`, the shares' too."""
        self._url = self._server.start(lambda: False)
        try:
            await self._start()
            async with ajc.connect(self._url) as client:
                await self._play(client)
                await self._read(client)
            await self._end()
        finally:
            await self._processes.kill_all()
            self._server.stop()

    async def _start(self) -> None:
        settings = self._processes.folder / "bridge.toml"
        queues = "".join(_QUEUE.format(queue=_queue(share.example)) for share in self.shares)
        settings.write_text(_BRIDGE.format(url=self._url) + queues)
        command = [sys.executable, "-m", "ajc_bridge", "run", "--config", str(settings)]
        await self._processes.start("bridge", command, self._processes.folder)
        await self._wait_for_bridge()
        for share in self.shares:
            await self._respond(share.example)
        self._nats = await nats.connect(self._url)
        for share in self.shares:
            await self._wait_for(share.example)
            await _be_unreliable(self._nats, share.example, max(5, len(share.results) // 20))

    async def _wait_for_bridge(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        while self._processes.log("bridge").read_text().count('"queue.bound"') < len(self.shares):
            if time.monotonic() > until or self._processes.ended():
                raise RuntimeError(f"the bridge did not start:\n{self._processes.last_words('bridge')}")
            await asyncio.sleep(0.05)

    async def _respond(self, example: Example) -> None:
        await self._processes.start_shell(example.name, example, example.settings.start, NATS_URL=self._url)

    async def _wait_for(self, example: Example) -> None:
        """Ask until it answers."""
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until:
            try:
                await self._nats.request(f"ajc.exec.{example.name}:echo", b'{"payload":null}', timeout=2)
            except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
                await asyncio.sleep(0.05)
            else:
                return
        self.problems.append(f"{example.name} did not answer:\n{self._processes.last_words(example.name)}")

    async def _play(self, client: ajc.Client) -> None:
        async with client.watch() as events:
            self._zero = time.monotonic()
            following = asyncio.create_task(self._follow(events))
            try:
                async for _ in client.enqueue_many(self._tasks()):
                    pass
                await self._until_done(client)
            finally:
                following.cancel()
        if self._killing:
            await asyncio.wait(self._killing)

    def _tasks(self) -> Iterator[ajc.Task]:
        order = [(share, task_id) for share in self.shares for task_id in share.results]
        random.Random(1).shuffle(order)
        for share, task_id in order:
            name = "slow" if task_id in share.slow else "echo"
            type_, queue = f"{share.example.name}:{name}", _queue(share.example)
            yield new_task(type_, share.results[task_id], id=task_id, queue=queue, max_tries=0)

    async def _follow(self, events: ajc.Watch) -> None:
        async for event in events:
            if isinstance(event, ajc.TaskStateChanged) and event.task_age is not None:
                share = self._by_name[event.task_id.rpartition("-")[0]]
                if event.state == ajc.TaskState.ACTIVE:
                    share.began[event.task_id] = event.task_age
                elif event.state == ajc.TaskState.COMPLETE:
                    began = share.began.get(event.task_id)
                    if began is not None and event.task_id not in share.slow:
                        share.took.append((event.task_age - began) / 1e9)
                    self._completed(share, event.task_id)

    def _completed(self, share: Share, task_id: str) -> None:
        share.done.setdefault(task_id, time.monotonic() - self._zero)
        name = share.example.name
        if len(share.done) >= len(share.results) // 2 and name not in self._killed:
            self._killed.add(name)
            self._killing.add(asyncio.create_task(self._kill_and_start(share.example)))

    async def _kill_and_start(self, example: Example) -> None:
        await self._processes.kill(example.name)
        await self._respond(example)

    async def _until_done(self, client: ajc.Client) -> None:
        """Wait for all; events are not stored, so when none comes for a while the store is asked."""
        until = time.monotonic() + LIMIT_SECONDS
        seen, looked = -1, time.monotonic()
        while time.monotonic() < until and not all(share.complete for share in self.shares):
            await asyncio.sleep(0.1)
            done = sum(len(share.done) for share in self.shares)
            if done != seen:
                seen, looked = done, time.monotonic()
            elif time.monotonic() > looked + _CALM_SECONDS:
                looked = time.monotonic()
                for share in self.shares:
                    for task_id in share.results.keys() - share.done.keys():
                        if (await client.load(task_id)).state == ajc.TaskState.COMPLETE:
                            self._completed(share, task_id)

    async def _read(self, client: ajc.Client) -> None:
        """Compare what the store has with what must be there."""
        for share in self.shares:
            for task_id, wanted in share.results.items():
                task = await client.load(task_id)
                share.retried += task.tries > 1
                found = task.result.data if task.result else None
                if task.state != ajc.TaskState.COMPLETE or found != wanted:
                    share.problems.append(
                        f"{task_id}: {task.state} {found!r} after {task.tries} tries: {task.last_err}"
                    )
            if share.example.name not in self._killed:
                share.problems.append("was not killed")
            if not share.retried:
                share.problems.append("no task failed at first")

    async def _end(self) -> None:
        await self._nats.close()
        self.problems += [
            f"{one} ended by itself:\n{self._processes.last_words(one)}" for one in self._processes.ended()
        ]
        for share in self.shares:
            code = await self._processes.terminate(share.example.name)
            if code and share.example.settings.level in ("L2", "L3"):
                share.problems.append(f"ended with {code} on SIGTERM")
        if code := await self._processes.terminate("bridge"):
            self.problems.append(f"the bridge ended with {code}:\n{self._processes.last_words('bridge')}")


def _queue(example: Example) -> str:
    return example.name.upper()


async def _be_unreliable(connection: Nats, example: Example, times: int) -> None:
    """Take a place beside the example in the queue group, fail the first tasks that come, and leave."""

    async def fail(request: Msg) -> None:
        await connection.publish(request.reply, headers={"AJ-Error": "an unreliable neighbour"})

    subscription = await connection.subscribe(f"ajc.exec.{example.name}:echo", queue="ajc", cb=fail)
    await subscription.unsubscribe(limit=times)
