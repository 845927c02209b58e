"""`make chaos`: kill everything at random, for a seed and a time, then let the checker read what was seen.

    python tests/chaos/driver.py --seed 7 --seconds 120          one run
    python tests/chaos/driver.py --seeds 10 --seconds 120        seeds 1 to 10, one after the other
    python tests/chaos/driver.py --seed 7 --servers 3            on a cluster of three, every stream on each

A server of its own (or a cluster), two bridges, three responders, a producer with a mix of outcomes that cancels some
of its tasks. Bridges and responders get SIGKILL, SIGTERM and SIGSTOP beyond the lease, the server gets SIGKILL, of a
cluster one member at a time gets SIGKILL or stands still; each is started again. The seed decides what happens when, as
far as a shared machine's clock allows. Exit code 1 when a run broke a promise: the offending tasks' stories are
printed, and the folder with all logs is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nats.errors

import ajc
from ajc.errors import AjcError, Conflict
from chaos.checker import Violation, check
from chaos.history import History, story
from chaos.plans import REASON, SERVED, next_order
from chaos.recorder import Recorder, ask, connect, make_stores, quiet
from chaos.world import Program, Server, World

HERE = Path(__file__).resolve().parent
QUEUE = "CHAOS"
LEASE, RUN_TIME = 2.0, 3.0
SETTINGS = f"""
[queues.{QUEUE}]
lease = "{LEASE:g}s"
max_run_time = "{RUN_TIME:g}s"
max_concurrent = 1000
backoff = "chaos"
"""
HEAD = """
[bridge]
drain = "2s"
concurrency = 100
replicas = {replicas}
[backoff.chaos]
steps = ["50ms", "300ms", "600ms"]
jitter = 0.5
"""
STANDS_STILL = 0.3
"""The share of a cluster's faults in which a member is not killed: the others hear nothing, and its clients nothing."""
SHOWN = 5
"""Stories printed in full."""


class Result(NamedTuple):
    seed: int
    history: History
    violations: list[Violation]
    calm: bool

    @property
    def good(self) -> bool:
        return self.calm and not self.violations


class Chaos:
    """One run of one seed in a folder of its own."""

    def __init__(
        self, seed: int, seconds: float, rate: float, folder: Path, *, servers: int = 1, faults: bool = True
    ) -> None:
        self.seconds, self.rate, self.faults, self.seed = seconds, rate, faults, seed
        self.replicas = servers
        self.orders = random.Random(seed)
        self.folder = folder
        self.logs = [folder / f"responder{number}.jsonl" for number in range(4)]
        self.producing = True

    async def run(self) -> Result:
        with World(self.folder, self.replicas) as self.world:
            client = await connect(self.world.urls)
            try:
                await make_stores(client, self.replicas)
                self.recorder = Recorder(client)
                await self.recorder.start()
                calm = await self._scenes()
                history = await self.recorder.collect([QUEUE], self.logs)
            finally:
                await client.close()
            ended = [program.name for program in self.world.programs if not program.running]
        violations = check(history)
        violations += [Violation("process-died", "", f"{name} ended by itself") for name in ended]
        if not calm:
            violations.append(Violation("not-calm", "", "items or schedules were left when the time was up"))
        return Result(self.seed, history, violations, calm)

    async def _scenes(self) -> bool:
        head = HEAD.format(replicas=self.replicas)
        bridges = [self.world.bridge(f"bridge{number}", SETTINGS, head=head).start() for number in range(2)]
        responders = [self._responder(number, SERVED).start() for number in range(3)]
        late = self._responder(3, ("late",))
        producer = asyncio.create_task(self._produce())
        try:
            if self.faults:
                await self._break(bridges, responders, late)
            else:
                await asyncio.sleep(self.seconds / 2)
                late.start()
                await asyncio.sleep(self.seconds / 2)
        finally:
            self.producing = False
            await asyncio.wait([producer], timeout=60)
            producer.cancel()
        if producer.done() and not producer.cancelled() and producer.exception():
            raise RuntimeError("the producer failed") from producer.exception()
        return await quiet(self.recorder.client, [QUEUE], 60 + self.seconds / 4)

    def _responder(self, number: int, types: tuple[str, ...]) -> Program:
        arguments = (",".join(self.world.urls), f"responder{number}", str(self.logs[number]), ",".join(types))
        return self.world.add(f"responder{number}", str(HERE / "responder.py"), *arguments)

    # -- tasks ------------------------------------------------------------------------------------------------------

    async def _produce(self) -> None:
        """Enqueue at the rate, many at once; what was acknowledged is written down."""
        under_way: set[asyncio.Task[None]] = set()
        number = 0
        queue = ajc.Queue(QUEUE, lease=LEASE, max_run_time=RUN_TIME, max_concurrent=1000, replicas=self.replicas)
        async with ajc.connect(self.world.urls) as client:
            await client.ensure_queue(queue)
            while self.producing:
                number += 1
                under_way.add(asyncio.create_task(self._enqueue(client, f"c{self.seed}-{number:06d}")))
                under_way = {task for task in under_way if not task.done()}
                await asyncio.sleep(1 / self.rate if len(under_way) < 500 else 0.2)
            if under_way:
                await asyncio.wait(under_way, timeout=40)

    async def _enqueue(self, client: ajc.Client, task: str) -> None:
        order = next_order(self.orders, RUN_TIME)
        self.recorder.plans[task] = order.plan(task)
        try:
            await client.enqueue(
                order.type, order.payload, queue=QUEUE, id=task, deadline=order.seconds, max_tries=order.max_tries
            )
        except AjcError:
            return  # not acknowledged: it may be there or not
        self.recorder.acknowledged.add(task)
        if order.cancel is not None:
            await asyncio.sleep(order.cancel)
            await self._cancel(client, task)

    async def _cancel(self, client: ajc.Client, task: str) -> None:
        try:
            await client.cancel(task, REASON)
        except Conflict as error:
            self.recorder.cancelled(task, error.task.state if error.task is not None else "unknown")
        except AjcError:
            self.recorder.cancelled(task, "unknown")
        else:
            self.recorder.cancelled(task, "cancelled")

    # -- faults -----------------------------------------------------------------------------------------------------

    async def _break(self, bridges: list[Program], responders: list[Program], late: Program) -> None:
        """Each breaker goes its own way, so that faults overlap; afterwards everything runs again."""
        self.end = time.monotonic() + self.seconds
        bridge_faults = {"kill": 5, "stop": 2, "term": 3}
        responder_faults = {"kill": 4, "stop": 1, "term": 3}
        breakers = [
            *(self._breaker("bridge", [bridge], bridge_faults, 1.0, 6.0) for bridge in bridges),
            self._breaker("responder", responders, responder_faults, 0.5, 4.0),
            self._server_breaker(),
            self._start_late(late),
        ]
        await asyncio.gather(*breakers)

    async def _start_late(self, late: Program) -> None:
        await asyncio.sleep(self.seconds / 2)
        late.start()

    async def _breaker(
        self, target: str, group: list[Program], kinds: dict[str, int], least: float, most: float
    ) -> None:
        chance = random.Random(f"{self.seed} {group[0].name}")
        while True:
            await asyncio.sleep(chance.uniform(least, most))
            if time.monotonic() > self.end:
                return
            program, kind = chance.choice(group), chance.choices(list(kinds), list(kinds.values()))[0]
            self.recorder.fault(kind, target, program.name)
            if kind == "stop":
                program.send(signal.SIGSTOP)
                await asyncio.sleep(LEASE * chance.uniform(0.3, 2))
                program.send(signal.SIGCONT)
                continue
            program.send(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            await asyncio.to_thread(program.wait, 15)
            await asyncio.sleep(chance.uniform(0, 1))
            program.start()

    async def _server_breaker(self) -> None:
        chance = random.Random(f"{self.seed} server")
        while True:
            await asyncio.sleep(chance.uniform(4, min(20, max(6, self.seconds / 3))))
            if time.monotonic() > self.end:
                return
            server = await self._member(chance)
            cluster = len(self.world.servers) > 1
            if cluster and chance.random() < STANDS_STILL:
                self.recorder.fault("stop", "server", server.name)
                server.send(signal.SIGSTOP)
                await asyncio.sleep(chance.uniform(0.5, 8))
                server.send(signal.SIGCONT)
                continue
            self.recorder.fault("kill", "server", server.name)
            server.kill()
            await asyncio.sleep(chance.uniform(0, 1))
            await asyncio.to_thread(server.start)

    async def _member(self, chance: random.Random) -> Server:
        """One of the servers: every other time that which leads the task store."""
        any_one, leading = chance.choice(self.world.servers), chance.random() < 0.5
        if len(self.world.servers) == 1 or not leading:
            return any_one
        try:
            info = await ask(self.recorder.client, "STREAM.INFO.CHORIA_AJ_TASKS")
        except nats.errors.Error:
            return any_one  # there is no leader just now
        leader = info.get("cluster", {}).get("leader")
        return next((server for server in self.world.servers if server.name == leader), any_one)


def report(result: Result, folder: Path) -> None:
    history = result.history
    ends = Counter(plan.does for plan in history.plans)
    faults = Counter(f"{fault.kind} {fault.target}" for fault in history.faults)
    print(f"seed {result.seed}: {len(history.acknowledged)} acknowledged of {len(history.plans)} {dict(ends)}")
    print(
        f"  {len(history.revisions)} saves, {len(history.requests)} requests, {len(history.letters)} dead letters, "
        f"{dict(faults)}"
    )
    print(f"  cancels: {dict(Counter(cancel.said for cancel in history.cancels))}")
    if history.leftovers:
        print(f"  {len(history.leftovers)} messages that the killed server brought back after their end")
    if result.good:
        print("  no promise broken", flush=True)
        return
    print(f"  {len(result.violations)} VIOLATIONS: {dict(Counter(one.rule for one in result.violations))}")
    for violation in result.violations[:50]:
        print(f"  {violation.rule} {violation.task}: {violation.text}")
    for task in list(dict.fromkeys(one.task for one in result.violations if one.task))[:SHOWN]:
        print(f"--- {task}\n{story(history, task)}")
    print(f"  seed {result.seed}; logs are in {folder}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="kill everything at random, and check what was promised")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=1, help="this many, from 1")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=float, default=30, help="tasks a second")
    parser.add_argument("--servers", type=int, default=1, choices=(1, 3), help="a cluster of so many, R3 streams")
    parser.add_argument("--no-faults", action="store_true", help="the same without any kill: stricter rules apply")
    return parser.parse_args()


def _end(number: int, _frame: object) -> None:
    """Leave by way of every `with`, so that no child stays."""
    raise SystemExit(128 + number)


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, _end)
    seeds = [chosen.seed] if chosen.seed is not None else range(1, chosen.seeds + 1)
    bad = []
    for seed in seeds:
        folder = Path(tempfile.mkdtemp(prefix=f"ajc-chaos-{seed}-"))
        chaos = Chaos(seed, chosen.seconds, chosen.rate, folder, servers=chosen.servers, faults=not chosen.no_faults)
        result = asyncio.run(chaos.run())
        report(result, folder)
        if result.good:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            bad.append(seed)
    print(
        f"{len(list(seeds)) - len(bad)} of {len(list(seeds))} seeds kept every promise"
        + (f"; broken: {bad}" if bad else "")
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
