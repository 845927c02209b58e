"""Lanes ended in every way at any moment, on a line that fails at random: nothing leaks, nothing is lost."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_world import SECOND, SUBJECT, SUCCESS, Bridge, Notes, Record, assert_at_rest, make_task

from ajc.exchange import ExecReply, ExecRequest
from ajc.task import FINAL_STATES
from ajc.testing import run_virtually
from ajc.testing.memory import MemoryServer
from ajc_bridge.happenings import Trouble
from ajc_bridge.ports import Lease, Stranded

CALLS = (
    "store.load",
    "store.load_leader",
    "store.save",
    "queue.pull",
    "queue.renew",
    "delay.schedule",
    "letters.publish",
)
TASKS = 12
CAP = 4


class Trial:
    """A server with two queues and some tasks, and bridges that come and go."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.server: MemoryServer[Record, Lease, Stranded] = MemoryServer(record=Record, lease=Lease, stranded=Stranded)
        self.server.line.latency = lambda _: self.chance.choice((0.0, 0.0, 0.001, 0.01, 0.3))
        self.notes = Notes()
        self.begun: dict[str, int] = {}
        self.succeeded: dict[str, int] = {}
        self.server.exchange.answer(SUBJECT, self.respond)
        for queue in ("Q", "P"):
            self.server.add_queue(queue, lease_ns=5 * SECOND)
        self.names = [f"t{number}" for number in range(TASKS)]
        for name in self.names:
            queue = self.chance.choice(("Q", "P"))
            self.server.enqueue(make_task(self.server.clock.now(), id=name, queue=queue, max_tries=CAP))

    async def respond(self, request: ExecRequest) -> ExecReply | None:
        kind = self.chance.choice(("success", "success", "error", "busy", "silence", "slow"))
        if kind == "busy":
            return ExecReply("busy", "full")
        self.begun[request.task_id] = self.begun.get(request.task_id, 0) + 1
        if kind == "silence":
            return None
        await asyncio.sleep(self.chance.choice((0.0, 0.01, 1.0)) if kind != "slow" else 12.0)
        if kind == "error":
            return ExecReply("error", "broke")
        self.succeeded[request.task_id] = self.succeeded.get(request.task_id, 0) + 1
        return SUCCESS

    def bridge(self) -> Bridge:
        bridge = Bridge(self.server, slots=5, notes=self.notes)
        for queue in ("Q", "P"):
            bridge.lane(queue, max_run_time_ns=20 * SECOND, weight=self.chance.randint(1, 30))
        return bridge

    def trouble(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            self.server.line.fail(
                self.chance.choice(CALLS), times=self.chance.randint(1, 3), landed=self.chance.random() < 0.5
            )
        if self.chance.random() < 0.2:
            self.server.go_away()
            seconds = self.chance.choice((0.1, 3.0, 8.0))
            asyncio.get_running_loop().call_later(seconds, self.server.come_back)

    async def end(self, bridge: Bridge) -> None:
        """End as the process does: a drain with a limit, or everything dropped."""
        for lane in bridge.lanes.values():
            lane.stop()
        if self.chance.random() < 0.5:
            await asyncio.wait(bridge.runs.values(), timeout=self.chance.choice((0.0, 0.5, 5.0)))
            for lane in bridge.lanes.values():
                lane.interrupt()
            await asyncio.wait(bridge.runs.values(), timeout=self.chance.choice((0.0, 5.0)))
        for lane in bridge.lanes.values():
            lane.abandon()
        done, pending = await asyncio.wait(bridge.runs.values(), timeout=1)
        assert not pending, "a lane does not end"
        for run in done:
            run.result()
        await asyncio.sleep(0.001)
        assert bridge.running == 0
        assert_at_rest(bridge.share)

    @property
    def over(self) -> bool:
        return all(self.task(name).state in FINAL_STATES for name in self.names)

    def task(self, name: str) -> Any:
        record = self.server.store.get(name)
        assert record is not None
        assert record.task is not None
        return record.task

    @property
    def at_rest(self) -> bool:
        """Everything final, no item left, nothing on its way."""
        return self.over and not self.server.delay.waiting and not any(q.items for q in self.server.queues.values())

    def check(self) -> None:
        letters = {task_id for _, task_id in self.server.letters.stored}
        for name in self.names:
            task = self.task(name)
            assert 1 <= task.tries <= CAP
            assert task.state in {"complete", "expired"}
            assert (name in letters) == (task.state == "expired")
            if task.state == "complete":
                assert self.succeeded.get(name, 0) >= 1, "a result that no responder gave"
            # every attempt that was begun is counted, but for those that were interrupted and put back
            assert self.begun.get(name, 0) >= 1 or task.state == "expired"
        faults = [note for note in self.notes.of(Trouble) if note.where.startswith("item ")]
        assert not faults


@pytest.mark.parametrize("two", [False, True])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_every_task_comes_to_its_end_and_every_slot_comes_back(two: bool, seed: int) -> None:
    async def scenario() -> None:
        trial = Trial(seed)
        for _ in range(trial.chance.randint(1, 8)):
            bridges = [trial.bridge() for _ in range(1 + two)]
            for _ in range(trial.chance.randint(0, 4)):
                trial.trouble()
                await asyncio.sleep(trial.chance.choice((0.0, 0.002, 0.02, 0.5, 4.0, 9.0)))
            for bridge in bridges:
                await trial.end(bridge)
            # what is over leaves nothing running but the server's own world
            assert asyncio.all_tasks() == {asyncio.current_task()}
        trial.server.come_back()
        trial.server.line.heal()
        last = trial.bridge()
        for _ in range(3_000):
            await asyncio.sleep(1)
            if trial.at_rest:
                break
        assert trial.at_rest
        for lane in last.lanes.values():
            lane.stop()
        await asyncio.wait(last.runs.values(), timeout=60)
        assert_at_rest(last.share)
        trial.check()

    run_virtually(scenario())
