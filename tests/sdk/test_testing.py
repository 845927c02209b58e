"""`ajc.testing`: a handler without a server, and a real server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ajc
import ajc.testing
from ajc.testing import arun, run, server


async def double(payload: int) -> int:
    return 2 * payload


def test_it_returns_what_the_handler_returns() -> None:
    assert run(double, 21) == 42
    assert run(lambda attempt: attempt.payload, b"\x00\xff") == b"\x00\xff"
    assert run(lambda attempt: attempt.payload) is None


def test_it_raises_what_the_handler_raises() -> None:
    for error in (ajc.Terminate("no"), ajc.Retry("later", after=5), ajc.Busy(), KeyError("x"), TimeoutError("own")):

        def failing(_attempt: ajc.Attempt, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as raised:
            run(failing)
        assert raised.value is error


def test_the_attempt_is_as_it_is_in_earnest() -> None:
    def look(attempt: ajc.Attempt) -> Any:
        attempt.progress(50, "half")
        assert attempt.task.state == "active"
        assert 0 < attempt.remaining() <= 5
        assert not attempt.cancelled
        assert attempt.deadline.tzinfo is not None
        attempt.logger.info("hello")
        with pytest.raises(ajc.InvalidValue):
            attempt.progress(101)
        return [attempt.task.type, attempt.task.id, attempt.task.queue, attempt.try_number, attempt.max_tries]

    found = run(look, type="email:new", id="x", queue="EMAIL", try_number=2, max_tries=3, timeout=timedelta(seconds=5))
    assert found == ["email:new", "x", "EMAIL", 2, 3]


def test_what_could_not_be_sent_is_a_terminate() -> None:
    for result in (object(), float("nan"), b"x" * (2 << 20)):
        with pytest.raises(ajc.Terminate, match="result"):
            run(lambda attempt, result=result: result)
    with pytest.raises(ajc.Terminate, match="payload"):
        run(double, "x")


def test_the_time_is_limited() -> None:
    async def forever(_attempt: ajc.Attempt) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ajc.TaskTimeout):
        run(forever, timeout=0.05)


def test_every_report_of_progress_is_kept() -> None:
    reports: list[tuple[float | None, str]] = []

    def report(attempt: ajc.Attempt) -> None:
        for number in range(50):
            attempt.progress(number, f"step {number}")
        attempt.progress(message="and so on")
        attempt.progress()

    run(report, progress=reports)
    assert reports == [*((number, f"step {number}") for number in range(50)), (None, "and so on"), (None, "")]


@pytest.mark.parametrize("plain", [False, True])
def test_a_cancellation_reaches_the_handler(plain: bool) -> None:
    told: list[str] = []

    def obey(attempt: ajc.Attempt) -> None:
        attempt.wait_cancelled(20)
        told.append(attempt.cancel_reason)

    async def obey_later(attempt: ajc.Attempt) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append(attempt.cancel_reason)

    with pytest.raises(ajc.Terminate) as raised:
        run(obey if plain else obey_later, cancel_after=timedelta(seconds=0.05), cancel_reason="not wanted")
    assert raised.value.text == "cancelled: not wanted"
    assert told == ["cancelled: not wanted"]


def test_a_handler_that_does_not_heed_its_cancellation_is_found() -> None:
    end = threading.Event()
    with pytest.raises(ajc.TaskTimeout):
        run(lambda attempt: end.wait(20), cancel_after=0, timeout=0.3)
    end.set()


def test_the_trace() -> None:
    assert run(lambda attempt: attempt.traceparent, traceparent="00-a-b-01") == "00-a-b-01"


def test_middleware() -> None:
    seen: list[str] = []

    async def outer(attempt: ajc.Attempt, call_next: Any) -> Any:
        seen.append("outer")
        return [await call_next(attempt)]

    async def inner(attempt: ajc.Attempt, call_next: Any) -> Any:
        seen.append("inner")
        return await call_next()

    assert run(double, 1, middleware=[outer, inner]) == [2]
    assert seen == ["outer", "inner"]


async def test_inside_a_running_loop() -> None:
    assert run(double, 21) == 42
    with pytest.raises(ajc.Terminate):
        run(double, "x")
    loop = asyncio.get_running_loop()

    async def same_loop(_attempt: ajc.Attempt) -> bool:
        return asyncio.get_running_loop() is loop

    assert await arun(same_loop)


async def test_the_fixture_is_a_real_server(ajc_server: Any) -> None:
    async with ajc.connect(ajc_server.url) as client:
        await client.ensure_queue(ajc.Queue("Q"))
        task = await client.enqueue("a", queue="Q")
    ajc_server.stop()
    assert ajc_server.pid is None
    ajc_server.start()
    async with ajc.connect(ajc_server.url) as client:
        assert await client.load(task.id) == task


async def test_one_server_for_the_run(ajc_session_server: Any) -> None:
    async with ajc.connect(ajc_session_server.url) as client:
        await client.queues()


def test_a_server_in_a_block(tmp_path: Path) -> None:
    with server(tmp_path, "max_payload: 2048") as running:
        assert (tmp_path / "server.conf").exists()
        pid = running.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with server() as running:
        folder = running.folder
    assert not folder.exists()
    with pytest.raises(ajc.Unavailable), server(config="{ nonsense"):
        pass


def test_a_run_of_pytest_that_does_not_use_it_imports_nothing_of_it() -> None:
    script = "import sys, ajc.testing; assert not {'nats', 'msgspec', 'pytest', 'anyio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_is_there() -> None:
    for module in (ajc, ajc.testing):
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)
    with pytest.raises(AttributeError):
        ajc.nope  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError):
        ajc.testing.nope  # type: ignore[attr-defined]  # noqa: B018
