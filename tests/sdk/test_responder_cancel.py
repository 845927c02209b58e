"""A cancelled task: the handler stops, and the reply says so at once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from sdk_world import exec_request, serving, unique, until

import ajc
from ajc.exchange import ExecReply, read_reply


async def begun(app: ajc.Responder, connection: Any, kind: str, **changes: Any) -> tuple[str, asyncio.Task[ExecReply]]:
    """An attempt that runs, and its reply to come."""
    request = exec_request(kind, **changes)
    running = app.handlers[kind].running

    async def asked() -> ExecReply:
        message = await connection.request(f"ajc.exec.{kind}", request.body, headers=request.headers(), timeout=20)
        return read_reply(message.headers, message.body)

    asking = asyncio.create_task(asked())
    await until(lambda: app.handlers[kind].running == running + 1)
    return request.task_id, asking


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("reason", ["not wanted\r\nany more", ""])
async def test_a_cancelled_task_stops_its_handler_and_is_answered_at_once(
    server: Any, plain: bool, reason: str
) -> None:
    """EXEC-29."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    told: list[str] = []

    if plain:

        @app.handler(kind)
        def handle(attempt: ajc.Attempt) -> str:
            while not attempt.wait_cancelled(20):
                pass
            told.append(attempt.cancel_reason)
            return "nobody wants it"

    else:

        @app.handler(kind)
        async def handle_later(attempt: ajc.Attempt) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                assert attempt.cancelled
                told.append(attempt.cancel_reason)

    async with serving(server, app) as connection:
        task_id, asking = await begun(app, connection, kind)
        other, other_asking = await begun(app, connection, kind)
        cancelled = time.monotonic()
        connection.publish(f"ajc.cancel.{task_id}", reason.encode())
        reply = await asking
        assert time.monotonic() - cancelled < 1
        said = "cancelled: not wanted any more" if reason else "cancelled"
        assert (reply.kind, reply.text) == ("terminate", said)
        await until(lambda: app.handlers[kind].running == 1)
        assert told[0].split() == said.split()
        assert not other_asking.done()
        connection.publish(f"ajc.cancel.{other}")
        assert (await other_asking).kind == "terminate"
        await until(lambda: app.handlers[kind].running == 0)


async def test_beats_end_with_a_cancellation_though_the_thread_goes_on(server: Any) -> None:
    """EXEC-25, EXEC-29: its slot stays taken until it returns."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    end = threading.Event()

    @app.handler(kind, concurrency=1)
    def handle(attempt: ajc.Attempt) -> None:
        end.wait(20)

    subject = f"ajc.beat.b.{unique()}"
    async with serving(server, app) as connection:
        beats: list[Any] = []
        await connection.subscribe(subject, beats.append)
        task_id, asking = await begun(app, connection, kind, heartbeat_subject=subject, heartbeat_ms=200)
        await until(lambda: len(beats) > 2)
        connection.publish(f"ajc.cancel.{task_id}", b"enough")
        assert (await asking).text == "cancelled: enough"
        count = len(beats)
        await asyncio.sleep(0.5)
        assert len(beats) == count
        _, refused = await busy(app, connection, kind)
        assert refused.kind == "busy"
        end.set()
        await until(lambda: app.handlers[kind].running == 0)


async def busy(app: ajc.Responder, connection: Any, kind: str) -> tuple[int, ExecReply]:
    request = exec_request(kind)
    message = await connection.request(f"ajc.exec.{kind}", request.body, headers=request.headers())
    return app.handlers[kind].running, read_reply(message.headers, message.body)


async def test_one_that_goes_on_through_its_cancellation_is_not_answered_twice(server: Any) -> None:
    """EXEC-9."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    end = asyncio.Event()

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await end.wait()
        return "stubborn"

    async with serving(server, app) as connection:
        inbox = f"inbox.{unique()}"
        replies: list[Any] = []
        await connection.subscribe(inbox, replies.append)
        request = exec_request(kind)
        connection.publish(f"ajc.exec.{kind}", request.body, headers=request.headers(), reply=inbox)
        await until(lambda: app.handlers[kind].running == 1)
        connection.publish(f"ajc.cancel.{request.task_id}", b"x")
        await until(lambda: len(replies) == 1)
        end.set()
        await until(lambda: app.handlers[kind].running == 0)
        await connection.flush()
        connection.publish(inbox, b"the end")
        await until(lambda: len(replies) == 2)
        assert replies[1].body == b"the end"


async def test_cancels_of_others_and_junk_change_nothing(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")
    go = asyncio.Event()

    @app.handler(kind)
    async def handle(_attempt: ajc.Attempt) -> str:
        await go.wait()
        return "done"

    async with serving(server, app) as connection:
        task_id, asking = await begun(app, connection, kind)
        for subject in (f"ajc.cancel.{task_id}x", f"ajc.cancel.{task_id[:-1]}", "ajc.cancel.*", "ajc.cancel.é"):
            connection.publish(subject, b"\xff\x00")
        await connection.flush()
        go.set()
        assert (await asking).body == b'"done"'


async def test_the_reason_is_cut_and_cleaned(server: Any) -> None:
    """EXEC-16."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(_attempt: ajc.Attempt) -> None:
        await asyncio.Event().wait()

    async with serving(server, app) as connection:
        task_id, asking = await begun(app, connection, kind)
        connection.publish(f"ajc.cancel.{task_id}", b"\xff\x01" + b"y" * 9000)
        text = (await asking).text
        assert text.startswith("cancelled: \ufffdyyy")
        assert len(text.encode()) <= 4096


async def test_a_request_that_cannot_be_read_takes_nothing_from_the_others(server: Any, caplog: Any) -> None:
    """Its time ends it, and the others are still stopped in time and hear of their cancellations."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind, concurrency=4)
    async def handle() -> None:
        await asyncio.Event().wait()

    unreadable = exec_request(kind, timeout_ms=1_000)
    deadline = unreadable.deadline.rfc3339().encode()
    headers = unreadable.headers().replace(deadline, b"soon")  # its time is quickly read, and nothing else ever is
    async with serving(server, app) as connection:
        connection.publish(f"ajc.exec.{kind}", unreadable.body, headers=headers, reply="reply.of.nobody")
        await until(lambda: app.handlers[kind].running == 1)
        task_id, asking = await begun(app, connection, kind)
        connection.publish(f"ajc.cancel.{task_id}")
        assert (await asking).kind == "terminate"
        await until(lambda: app.handlers[kind].running == 0)
        short = exec_request(kind, timeout_ms=300)
        connection.publish(f"ajc.exec.{kind}", short.body, headers=short.headers(), reply="reply.of.nobody")
        await until(lambda: app.handlers[kind].running == 1)
        await until(lambda: app.handlers[kind].running == 0, 5)
    assert [record for record in caplog.records if record.exc_info] == []
