"""Killed at each named place (SIGKILL, the real process), started again: the end is what it would have been.

One test an outcome; all its fail points are tried side by side, each with a queue and a bridge of its own, and one
bridge that picks up what they left. The history of each is also read by the checker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import ajc
from ajc.errors import AlreadyExists, QueueFull
from ajc.failpoint import POINTS
from chaos.checker import check
from chaos.history import Fault, History, Letter, Plan, story, task_of
from chaos.recorder import Recorder, connect, make_stores, quiet
from chaos.world import Program, World

HERE = Path(__file__).resolve().parent
BEFORE_ACTIVE = ("lease.pulled", "admit.loaded", "admit.active_sent")
ACTIVE = ("admit.active_saved", "dispatch.sent", "dispatch.replied", "settle.begin", "settle.save_sent")
SAVED = ("settle.saved", "settle.event_sent", "settle.dead_lettered", "settle.scheduled", "settle.acked")
ENQUEUE = tuple(point for point in POINTS if point.startswith("enqueue."))
ONE_ONLY = ("enqueue.save_sent", "enqueue.item_sent")  # many tasks are pipelined: their writes leave together
RESCUE = ("rescue.promised",)  # tests/daemon/test_rescue.py: it needs a minute
CANCEL = tuple(point for point in POINTS if point.startswith("cancel."))  # tests/sdk/test_cancel_killed.py too
REFUSED = ("enqueue.refused", "enqueue.error_saved")
ONLY = {"settle.dead_lettered": ("terminate", "exhaust"), "settle.scheduled": ("retry", "park")}
AT_ONCE = 4
SETTINGS = 'lease = "1500ms"\nmax_run_time = "4s"\nbackoff = "chaos"\n'
HEAD = '[bridge]\nconcurrency = 10\n[backoff.chaos]\nsteps = ["100ms"]\njitter = 0.0\n'

# outcome -> payload, max tries, and (state, tries) in the end when killed before the active save, after it, after the
# last
Ends = tuple[tuple[str, int], tuple[str, int], tuple[str, int]]
OUTCOMES: dict[str, tuple[dict[str, Any], int, Ends]] = {
    "success": ({"do": "ok"}, 10, (("complete", 1), ("complete", 2), ("complete", 1))),
    "retry": ({"do": "recover", "fails": 1}, 10, (("complete", 2), ("complete", 2), ("complete", 2))),
    "terminate": ({"do": "terminate"}, 10, (("terminated", 1), ("terminated", 2), ("terminated", 1))),
    "exhaust": ({"do": "fail"}, 1, (("expired", 1), ("expired", 1), ("expired", 1))),
    "park": ({"do": "ok"}, 10, (("complete", 1), ("complete", 2), ("complete", 1))),
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def test_every_fail_point_is_tried() -> None:
    assert set(BEFORE_ACTIVE + ACTIVE + SAVED + ENQUEUE + RESCUE + CANCEL) == set(POINTS)


def queue_settings(*queues: str) -> str:
    return "".join(f"[queues.{queue}]\n{SETTINGS}" for queue in queues)


def responder(world: World) -> Program:
    log = world.folder / "responder.jsonl"
    types = "ok,recover,terminate,fail"
    return world.add("responder", str(HERE / "responder.py"), world.urls[0], "r1", str(log), types)


async def die_at(world: World, queue: str, point: str) -> None:
    """Start a bridge that kills itself at the point, and see it do so."""
    program = world.bridge(f"bridge-{queue}", queue_settings(queue), {"AJC_FAILPOINT": point}, HEAD).start()
    code = await asyncio.to_thread(program.wait, 30)
    assert code == -9, f"{point}: exit code {code}\n{program.log.read_text()[-2000:]}"


async def finish(world: World, recorder: Recorder, queues: list[str]) -> History:
    """Let a bridge without fail points do the rest, and see that nothing is left."""
    survivor = world.bridge("survivor", queue_settings(*queues), head=HEAD).start()
    calm = await quiet(recorder.client, queues, 50)
    history = await recorder.collect(queues, [world.folder / "responder.jsonl"])
    assert survivor.running
    assert calm, f"left: {history.items} {history.schedules}\n{survivor.log.read_text()[-2000:]}"
    return history


def last_of(history: History, task: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads([one for one in history.revisions if one.task == task][-1].data)
    return found


def letters_of(history: History, task: str) -> list[Letter]:
    return [letter for letter in history.letters if task_of(letter.subject) == task]


@pytest.mark.slow
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_bridge_killed_at_any_point_leaves_the_right_end(world: World, outcome: str) -> None:
    payload, most, ends = OUTCOMES[outcome]
    points = [point for point in BEFORE_ACTIVE + ACTIVE + SAVED if outcome in ONLY.get(point, (outcome,))]
    cases = {f"F{number}": point for number, point in enumerate(points)}
    serving = responder(world)
    if outcome != "park":
        serving.start()
    client = await connect(world.urls)
    await make_stores(client)
    recorder = Recorder(client)
    await recorder.start()
    async with ajc.connect(world.urls[0]) as producer:
        for queue in cases:
            await producer.ensure_queue(ajc.Queue(queue, lease=1.5, max_run_time=4))
            await producer.enqueue(f"chaos-{payload['do']}", payload, queue=queue, id=f"task-{queue}", max_tries=most)
            recorder.acknowledged.add(f"task-{queue}")

    gate = asyncio.Semaphore(AT_ONCE)

    async def one(queue: str, point: str) -> None:
        async with gate:
            recorder.faults.append(Fault(0, "kill", "bridge", point))
            await die_at(world, queue, point)

    async with asyncio.TaskGroup() as group:
        for queue, point in cases.items():
            group.create_task(one(queue, point))
    if not serving.running:
        serving.start()
    history = await finish(world, recorder, list(cases))
    await client.close()

    for queue, point in cases.items():
        task = f"task-{queue}"
        state, tries = ends[0 if point in BEFORE_ACTIVE else 1 if point in ACTIVE else 2]
        told = f"{point}:\n{story(history, task)}"
        found = last_of(history, task)
        assert (found["state"], found["tries"]) == (state, tries), told
        reasons = [letter.headers["aj-dlq-reason"] for letter in letters_of(history, task)]
        assert reasons == {"terminated": ["terminated"], "expired": ["tries"]}.get(state, []), told
        starts = sum(request.task == task for request in history.requests)
        assert starts <= tries, told
        if point in BEFORE_ACTIVE + SAVED:
            assert starts == tries, told  # whoever was killed here cost no try
    plans = tuple(Plan(f"task-{queue}", outcome, most, frozenset({ends[0][0]})) for queue in cases)
    assert check(replace(history, plans=plans)) == []


@pytest.mark.slow
async def test_a_producer_killed_at_any_point_can_enqueue_again_and_nothing_is_doubled(world: World) -> None:
    responder(world).start()
    client = await connect(world.urls)
    await make_stores(client)
    recorder = Recorder(client)
    await recorder.start()
    cases = [(point, "one") for point in ENQUEUE if point not in REFUSED]
    cases += [(point, "many") for point, _ in cases if point not in ONE_ONLY]
    tasks = {f"p{number}": case for number, case in enumerate(cases)}
    async with ajc.connect(world.urls[0]) as producer:
        await producer.ensure_queue(ajc.Queue("P", lease=1.5, max_run_time=4))
        for task, (point, how) in tasks.items():
            await killed_enqueue(world, "P", task, how, point)
            recorder.faults.append(Fault(0, "kill", "producer", point))
            try:
                await producer.enqueue("chaos-ok", {"do": "ok"}, queue="P", id=task, max_tries=10)
            except AlreadyExists:
                assert point != "enqueue.begin"
            recorder.acknowledged.add(task)
    history = await finish(world, recorder, ["P"])
    await client.close()
    for task, case in tasks.items():
        found = last_of(history, task)
        assert (found["state"], found["tries"]) == ("complete", 1), f"{case}:\n{story(history, task)}"
        assert sum(request.task == task for request in history.requests) == 1, case
    assert check(history) == []


async def test_a_producer_killed_while_its_queue_refuses_leaves_a_queue_error_in_the_end(world: World) -> None:
    client = await connect(world.urls)
    await make_stores(client)
    async with ajc.connect(world.urls[0]) as producer:
        await producer.ensure_queue(ajc.Queue("FULL", max_entries=1))
        await producer.enqueue("chaos-ok", {"do": "ok"}, queue="FULL", id="first")
        for point in REFUSED:
            task = point.replace(".", "_")
            await killed_enqueue(world, "FULL", task, "one", point)
            with pytest.raises((AlreadyExists, QueueFull)):
                await producer.enqueue("chaos-ok", {"do": "ok"}, queue="FULL", id=task)
            assert (await producer.load(task)).state == "queue_error"
        assert (await producer.load("first")).state == "new"
    answer = json.loads((await client.request("$JS.API.STREAM.INFO.CHORIA_AJ_Q_FULL")).data)
    assert answer["state"]["messages"] == 1
    await client.close()


async def killed_enqueue(world: World, queue: str, task: str, how: str, point: str) -> None:
    arguments = (str(HERE / "producer.py"), world.urls[0], queue, task, how)
    program = world.add(f"producer-{task}", *arguments, AJC_FAILPOINT=point).start()
    code = await asyncio.to_thread(program.wait, 20)
    assert code == -9, f"{point} {how}: exit code {code}\n{program.log.read_text()[-2000:]}"
