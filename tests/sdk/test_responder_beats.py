"""Beats, progress and the time of an attempt, with a responder on a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sdk_world import ask, connected, exec_request, serving, unique, until

import ajc
from ajc.connection import Connection
from ajc.exchange import read_reply
from ajc.instant import Instant

HERE = Path(__file__).parent


@asynccontextmanager
async def beats_of(connection: Connection) -> AsyncIterator[tuple[str, list[tuple[float, bytes]]]]:
    """A subject to beat on, and what came there, with the instants."""
    subject = f"ajc.beat.b.{unique()}"
    seen: list[tuple[float, bytes]] = []
    subscription = await connection.subscribe(subject, lambda message: seen.append((time.monotonic(), message.body)))
    yield subject, seen
    await subscription.unsubscribe()


@asynccontextmanager
async def beating_program(server: Any, connection: Connection) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    kind = unique("t")
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ajc", "beating_program:app", "--log-level", "error"),
        cwd=HERE,
        env={**os.environ, "RESPONDER_URL": server.url, "RESPONDER_TYPE": kind},
    )

    async def there() -> bool:
        try:
            return (await ask(connection, f"{kind}:there")).kind == "success"
        except ajc.NoResponders:
            return False

    try:
        await until(there, 30)
        yield kind, running
    finally:
        running.kill()
        await running.wait()


@pytest.mark.parametrize("way", ["waits", "thread", "blocks", "computes"])
async def test_it_beats_as_often_as_asked_while_a_handler_runs(server: Any, way: str) -> None:
    """EXEC-23, EXEC-24, EXEC-25, EXEC-26: three times the run time, in threads and while the loop is blocked."""
    period, run_time, work = 1.0, 1.2, 3.5
    async with (
        connected(server) as connection,
        beating_program(server, connection) as (kind, _),
        beats_of(connection) as (subject, seen),
    ):
        began = time.monotonic()
        reply = await ask(
            connection,
            f"{kind}:{way}",
            work,
            timeout_ms=int(run_time * 1000),
            heartbeat_subject=subject,
            heartbeat_ms=int(period * 1000),
        )
        ended = time.monotonic()
        assert (reply.kind, ended - began >= work) == ("success", True)
        instants = [began, *(instant for instant, _ in seen), ended]
        gaps = [later - earlier for earlier, later in pairwise(instants)]
        assert max(gaps) <= period + 0.3  # this machine may be busy; a beat that is left out makes it 1.5
        assert len(seen) <= 2 * work / period + 1  # no more than twice as often
        assert {body for _, body in seen} == {b""}
        count = len(seen)
        await asyncio.sleep(1.5 * period)
        assert len(seen) == count


async def test_without_the_header_nothing_beats(server: Any) -> None:
    """EXEC-25."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> None:
        await attempt.progress(50)
        await asyncio.sleep(0.7)

    async with serving(server, app) as connection:
        seen: list[str] = []
        await connection.subscribe("ajc.beat.>", lambda message: seen.append(message.subject))
        before = len(seen)
        own = unique()
        assert (await ask(connection, kind, timeout_ms=1000)).kind == "success"
        connection.publish(f"ajc.beat.{own}")
        await until(lambda: f"ajc.beat.{own}" in seen)
        assert seen[before:] == [f"ajc.beat.{own}"]


@pytest.mark.parametrize("skew", [0, -3600, 3600], ids=["clocks agree", "ours is ahead", "ours is behind"])
async def test_beats_move_the_deadline_but_never_past_the_tasks_own(server: Any, skew: int) -> None:
    """EXEC-20, EXEC-21, EXEC-26: by the bridge's clock, which need not agree with this one."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    told: dict[str, Any] = {}

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> None:
        began = time.monotonic()
        told["before"] = attempt.deadline
        try:
            await asyncio.sleep(1.2)
            told["after"], told["left"] = attempt.deadline, attempt.remaining()
            await asyncio.Event().wait()
        finally:
            told["took"] = time.monotonic() - began
            told["reason"] = attempt.cancel_reason

    async with serving(server, app) as connection, beats_of(connection) as (subject, seen):
        by_the_bridge = Instant.now().plus(int((0.8 + skew) * 1e9))
        more = {"deadline": by_the_bridge, "heartbeat_subject": subject, "heartbeat_ms": 400}
        request = exec_request(kind, timeout_ms=800, **more)
        task = ajc.Task.decode(request.body)
        task = task.replace(deadline=request.deadline.plus(int(1.2e9)))  # two seconds after the start
        with pytest.raises(ajc.RequestTimeout):
            await connection.request(f"ajc.exec.{kind}", task.encode(), headers=request.headers(), timeout=2.6)
        await until(lambda: "took" in told)
        assert 1.9 <= told["took"] < 2.5
        assert told["reason"] == "the deadline passed"
        assert 0 < told["left"] <= 0.8
        assert 0.3 < (told["after"] - told["before"]).total_seconds() <= 1.2
        count = len(seen)
        await asyncio.sleep(0.6)
        assert len(seen) == count  # EXEC-25: nor after its end without a reply


async def test_no_beat_brings_a_time_back_that_is_over(server: Any) -> None:
    """EXEC-20, EXEC-26: the bridge has counted it as over by then."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind, heartbeat=False)
    async def handle(attempt: ajc.Attempt) -> None:
        time.sleep(0.8)  # the loop stands still, so nobody has looked
        attempt.progress(50)

    async with serving(server, app) as connection, beats_of(connection) as (subject, seen):
        with pytest.raises(ajc.RequestTimeout):
            await ask(connection, kind, wait=1.5, timeout_ms=500, heartbeat_subject=subject, heartbeat_ms=200)
        assert seen == []


@pytest.mark.parametrize("way", ["waits", "thread"])
async def test_a_process_that_stood_still_beyond_its_time_neither_beats_nor_replies(server: Any, way: str) -> None:
    """EXEC-20, EXEC-26."""
    async with (
        connected(server) as connection,
        beating_program(server, connection) as (kind, process),
        beats_of(connection) as (subject, seen),
    ):
        more = {"timeout_ms": 1200, "heartbeat_subject": subject, "heartbeat_ms": 500}
        asking = asyncio.create_task(ask(connection, f"{kind}:{way}", 2.5, wait=5.0, **more))
        await until(lambda: len(seen) >= 2)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.8)
        count = len(seen)
        process.send_signal(signal.SIGCONT)
        with pytest.raises(ajc.RequestTimeout):
            await asking
        assert len(seen) == count


@pytest.mark.parametrize("plain", [False, True])
async def test_the_handlers_own_time_is_a_limit_that_beats_do_not_move(server: Any, plain: bool) -> None:
    """EXEC-22: it is stopped, and says so while there is time."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    told: list[str] = []

    if plain:

        @app.handler(kind, timeout=0.5)
        def handle(attempt: ajc.Attempt) -> None:
            attempt.wait_cancelled(20)
            told.append(attempt.cancel_reason)

    else:

        @app.handler(kind, timeout=0.5)
        async def handle_later(attempt: ajc.Attempt) -> None:
            try:
                await asyncio.sleep(20)
            finally:
                told.append(attempt.cancel_reason)

    async with serving(server, app) as connection, beats_of(connection) as (subject, _):
        reply = await ask(connection, kind, timeout_ms=1000, heartbeat_subject=subject, heartbeat_ms=200)
        assert (reply.kind, reply.text) == ("error", "not done within 0.5 s")
        await until(lambda: told == ["the handler's own time is over"])
        await until(lambda: app.handlers[kind].running == 0)
    with pytest.raises(ajc.InvalidValue):
        app.handler("other", timeout=0)(lambda attempt: None)


async def test_a_handler_may_leave_beats_to_its_progress(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind, heartbeat=False)
    async def handle(attempt: ajc.Attempt) -> None:
        await asyncio.sleep(0.5)
        await attempt.progress(50)
        await asyncio.sleep(0.5)

    async with serving(server, app) as connection, beats_of(connection) as (subject, seen):
        reply = await ask(connection, kind, timeout_ms=800, heartbeat_subject=subject, heartbeat_ms=100)
        assert reply.kind == "success"  # the one beat gave it another 800 ms
        assert [body for _, body in seen] == [b'{"percent":50}']


@pytest.mark.parametrize("plain", [False, True])
async def test_much_progress_is_thinned_and_the_last_is_not_lost(server: Any, plain: bool) -> None:
    """EXEC-27."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    def report(attempt: ajc.Attempt) -> None:
        for number in range(5001):
            attempt.progress(number / 50, f"step {number}")

    async def report_later(attempt: ajc.Attempt) -> None:
        report(attempt)

    app.handler(kind)(report if plain else report_later)
    async with serving(server, app) as connection, beats_of(connection) as (subject, seen):
        reply = await ask(connection, kind, heartbeat_subject=subject, heartbeat_ms=1000)
        assert reply.kind == "success"
        said = [json.loads(body) for _, body in seen]
        assert said[-1] == {"percent": 100, "message": "step 5000"}
        assert 2 <= len(said) <= 60  # a slow machine gets ten more a second
        assert [one["percent"] for one in said] == sorted(one["percent"] for one in said)


async def test_progress_that_is_held_goes_with_its_turn(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")
    go = asyncio.Event()

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> None:
        for percent in range(12):
            attempt.progress(percent)
        attempt.progress(message="and so on")
        await go.wait()
        attempt.progress(99)

    async with serving(server, app) as connection, beats_of(connection) as (subject, seen):
        asking = asyncio.create_task(ask(connection, kind, heartbeat_subject=subject, heartbeat_ms=60_000))
        await until(lambda: seen and b"and so on" in seen[-1][1], 5)
        said = [json.loads(body) for _, body in seen]
        # ten at once, and on a slow machine ten more a second; what is held goes with its turn, all in one
        assert [one["percent"] for one in said[:10]] == list(range(10))
        assert said[-1] == {"percent": 11, "message": "and so on"} or said[-2:] == [
            {"percent": 11},
            {"message": "and so on"},
        ]
        go.set()
        await asking
        assert json.loads(seen[-1][1]) == {"percent": 99}


async def test_progress_after_the_reply_or_the_cancellation_goes_nowhere(server: Any) -> None:
    """EXEC-25."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    kept: list[ajc.Attempt] = []

    @app.handler(kind)
    def handle(attempt: ajc.Attempt) -> None:
        kept.append(attempt)

    async with serving(server, app) as connection, beats_of(connection) as (subject, seen):
        await ask(connection, kind, heartbeat_subject=subject, heartbeat_ms=1000)
        kept[0].progress(50)
        await asyncio.to_thread(kept[0].progress, 60)
        connection.publish(subject, b"the end")
        await until(lambda: seen)
        assert [body for _, body in seen] == [b"the end"]


async def test_a_beat_subject_that_is_none_harms_nobody(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> str:
        await attempt.progress(10)
        await asyncio.sleep(0.2)
        return "done"

    async with serving(server, app) as connection:
        for subject in ("ajc.beat.b. a", "ajc.beat.b.\x01a", "é" * 200, "a" * 4000):
            request = exec_request(kind)
            headers = request.headers()[:-2] + f"AJ-Heartbeat-Subject: {subject}\r\nAJ-Heartbeat-Ms: 1\r\n\r\n".encode()
            message = await connection.request(f"ajc.exec.{kind}", request.body, headers=headers)
            assert read_reply(message.headers, message.body).body == b'"done"'


async def test_many_attempts_share_the_clock(server: Any) -> None:
    """EXEC-23: each of three hundred beats in time, with one timer for all."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind, concurrency=300)
    async def handle(_attempt: ajc.Attempt) -> None:
        await asyncio.sleep(2.5)

    async with serving(server, app) as connection:
        seen: dict[str, int] = {}

        def heard(message: Any) -> None:
            seen[message.subject] = seen.get(message.subject, 0) + 1

        place = f"ajc.beat.{unique()}"
        await connection.subscribe(f"{place}.*", heard)
        replies = await asyncio.gather(
            *(
                ask(connection, kind, timeout_ms=1500, heartbeat_subject=f"{place}.{number}", heartbeat_ms=1000)
                for number in range(300)
            )
        )
        assert {reply.kind for reply in replies} == {"success"}
        assert len(seen) == 300
        assert min(seen.values()) >= 3
        assert threading.active_count() < 50
