"""The public types as their users see them: nothing here runs, mypy checks it.

Each `assert_type` is a promise; each call without one must simply be accepted. What must be refused carries an ignore,
which mypy reports when it is not needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import msgspec

import ajc
import ajc.testing


class Payload(msgspec.Struct):
    to: str


async def producer() -> None:
    async with ajc.connect("nats://127.0.0.1:4222") as client:
        assert_type(client, ajc.Client)
        info = await client.ensure_queue(
            ajc.Queue(
                "EMAIL", max_tries=5, max_run_time=600, max_concurrent=100, priority=10, lease=timedelta(seconds=5)
            )
        )
        assert_type(info, ajc.QueueInfo)
        assert_type(info.max_run_time_ns, int)
        assert_type(info.max_run_time, timedelta)
        task = await client.enqueue(
            "email:new",
            {"to": "x@example.net"},
            queue="EMAIL",
            deadline=timedelta(hours=1),
            max_tries=3,
            wait=2.5,
            id="x",
        )
        assert_type(task, ajc.Task)
        assert_type(task.id, str)
        assert_type(task.tries, int)
        assert_type(task.payload, bytes | None)
        assert_type(task.deadline, ajc.Instant | None)
        assert_type(task.result, ajc.Result | None)
        assert_type(task.final, bool)
        await client.enqueue("a", b"raw", deadline=datetime.now(UTC))
        await client.enqueue("a", deadline=30, wait=timedelta(seconds=1))
        await client.enqueue(7)  # type: ignore[arg-type]
        await client.enqueue("a", deadline="soon")  # type: ignore[arg-type]
        assert_type(await client.load(task.id), ajc.Task)
        done = await client.result(task.id, timeout=30)
        assert_type(done, ajc.Task)
        if done.result is not None:
            assert_type(done.result.data, bytes)
            assert_type(done.result.value, Any)
            assert_type(done.result.raw, Any)
            assert_type(done.result.as_(Payload), Payload)
            assert_type(done.result.as_(dict[str, int]), dict[str, int])

        tasks = [ajc.new_task("a", n, queue="EMAIL") for n in range(3)]
        async for stored in client.enqueue_many(tasks):
            assert_type(stored, ajc.Task)
        async for outcome in client.enqueue_many(iter(tasks), queue="EMAIL", return_errors=True):
            assert_type(outcome, ajc.Task | ajc.AjcError)
        async for stored in client.enqueue_many(later()):
            assert_type(stored, ajc.Task)
        async for event in client.watch():
            if isinstance(event, ajc.TaskStateChanged):
                assert_type(event.task_id, str)
            elif isinstance(event, ajc.TaskProgressed):
                assert_type(event.percent, int | float | None)
            else:
                assert_type(event, ajc.LeaderElected)
        async with client.watch("x") as events:
            assert_type(events, ajc.Watch)
        async for task in client.tasks(states=[ajc.TaskState.EXPIRED, "newer"], limit=10):
            assert_type(task, ajc.Task)
        assert_type(await client.retry("x", deadline=60), ajc.Task)
        assert_type(await client.cancel("x", "mistake"), ajc.Task)
        assert_type(await client.delete("x", force=True), ajc.Task)
        assert_type(await client.queues(), list[str])
        assert_type(await client.queue("EMAIL"), ajc.QueueInfo)
        assert_type(await client.purge_queue("EMAIL"), int)
        async for letter in client.dead_letters("EMAIL"):
            assert_type(letter, ajc.DeadLetter)
            assert_type(letter.task, ajc.Task | None)
    async with ajc.connect(context="WQ"), ajc.connect(["nats://a", "nats://b"], wait_for_server=True):
        pass


async def later() -> AsyncIterator[ajc.Task]:
    yield ajc.new_task("a")


def blocking() -> None:
    with ajc.connect_sync(context="WQ") as client:
        assert_type(client, ajc.SyncClient)
        task = client.enqueue("a", 1)
        assert_type(task, ajc.Task)
        assert_type(client.enqueue_many([task]), Iterator[ajc.Task])
        assert_type(client.enqueue_many([task], return_errors=True), Iterator[ajc.Task | ajc.AjcError])
        assert_type(client.watch(), Iterator[ajc.Event])
        assert_type(client.result(task.id, timeout=timedelta(seconds=1)), ajc.Task)
        assert_type(list(client.tasks()), list[ajc.Task])


app = ajc.Responder()
other = ajc.Responder("nats://a", prefix="CHORIA_AJ.H.T", drain=timedelta(seconds=5))
hidden = ajc.Responder(name="mailer", version="1.2.3", description="sends", errors="type")
ajc.Responder(errors="none")  # type: ignore[arg-type]


@app.handler("email:new", concurrency=10)
async def send(attempt: ajc.Attempt) -> dict[str, bool]:
    await attempt.progress(50, "rendered")
    assert_type(attempt.task, ajc.Task)
    assert_type(attempt.try_number, int)
    assert_type(attempt.max_tries, int)
    assert_type(attempt.deadline, datetime)
    assert_type(attempt.remaining(), float)
    assert_type(attempt.cancelled, bool)
    assert_type(attempt.cancel_reason, str)
    assert_type(attempt.wait_cancelled(0.1), bool)
    assert_type(attempt.payload_bytes, bytes | None)
    assert_type(attempt.traceparent, str | None)
    attempt.logger.info("hello", extra={"a": 1})
    if not attempt.payload:
        raise ajc.Terminate("no address")
    if attempt.try_number > 1:
        raise ajc.Retry("later", after=timedelta(minutes=5))
    if attempt.remaining() < 1:
        raise ajc.Busy(after=2)
    return {"sent": True}


@app.handler("email:typed", timeout=timedelta(minutes=5), heartbeat=False)
def typed(payload: Payload) -> str:
    return payload.to


@app.middleware
async def timed(attempt: ajc.Attempt, call_next: Any) -> Any:
    return await call_next(attempt)


assert_type(typed(Payload("x")), str)  # a decorated handler is what it was
app.handler("x", concurrency="many")  # type: ignore[arg-type]


async def decorated() -> None:
    assert_type(await send(ajc.testing.run(send)), dict[str, bool])


def own_tests() -> None:
    assert_type(ajc.testing.run(send, {"to": "x"}, try_number=2), Any)
    with ajc.testing.server() as server:
        assert_type(server.url, str)


def errors(error: ajc.AjcError) -> None:
    match error:
        case ajc.TooLarge():
            assert_type(error.limit, int)
        case ajc.TaskFailed():
            assert_type(error.task, ajc.Task)
        case ajc.Closed() | ajc.RequestTimeout() | ajc.NoResponders():
            unavailable: ajc.Unavailable = error
            del unavailable
        case _:
            pass
    assert_type(ajc.FINAL_STATES, frozenset[str])
    ajc.nothing_of_that_name  # type: ignore[attr-defined]  # noqa: B018
