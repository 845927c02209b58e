"""A responder on a real server, asked as the bridge asks."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sdk_world import ask, connected, ending, exec_request, serving, unique, until

import ajc
from ajc.connection import Connection
from ajc.context import resolve
from ajc.exchange import read_reply
from ajc.instant import Instant


class Mail(msgspec.Struct):
    to: str


async def test_results(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")
    results: dict[str, Any] = {
        "json": {"sent": True},
        "bytes": b"\x00\xff",
        "text": "é",
        "none": None,
        "number": 1 << 70,
    }

    @app.handler(kind)
    async def handle(payload: str) -> Any:
        return results[payload]

    async with serving(server, app) as connection:
        bodies = {name: (await ask(connection, kind, name)).body for name in results}
    assert bodies == {
        "json": b'{"sent":true}',
        "bytes": b"\x00\xff",
        "text": '"é"'.encode(),
        "none": b"null",
        "number": str(1 << 70).encode(),
    }


@pytest.mark.parametrize("plain", [False, True])
async def test_what_is_raised(server: Any, plain: bool) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")
    errors: list[BaseException] = [
        ajc.Terminate("no address"),
        ajc.Retry("later", after=timedelta(minutes=5)),
        ajc.Retry(),
        ajc.Busy(),
        ajc.Busy("full", after=2),
        ValueError("two\nlines"),
        KeyError(),
        SystemExit(3),
        StopIteration(1),
        TimeoutError(),
        ajc.NotFound("task", "x"),
    ]

    async def handle(payload: int) -> None:
        raise errors[payload]

    def handle_plainly(payload: int) -> None:
        raise errors[payload]

    app.handler(kind)(handle_plainly if plain else handle)
    async with serving(server, app) as connection:
        replies = [await ask(connection, kind, number) for number in range(len(errors))]
    assert [(reply.kind, reply.text, reply.retry_after_ms) for reply in replies] == [
        ("terminate", "no address", None),
        ("error", "later", 300_000),
        ("error", "retry", None),
        ("busy", "busy", None),
        ("busy", "full", 2000),
        ("error", "ValueError: two lines", None),
        ("error", "KeyError", None),
        ("error", "SystemExit: 3", None),
        ("error", "RuntimeError: the handler raised StopIteration: 1" if plain else replies[8].text, None),
        ("error", "TimeoutError", None),
        ("error", "NotFound: task x does not exist", None),
    ]
    assert "StopIteration" in replies[8].text


async def test_results_that_cannot_be_sent(make_server: Any) -> None:
    server = make_server("max_payload: 8192")
    app = ajc.Responder(server.url)
    results = [b"x" * 8193, object(), float("inf"), b"x" * 8192]

    @app.handler("t")
    async def handle(payload: int) -> Any:
        return results[payload]

    async with serving(server, app) as connection:
        replies = [await ask(connection, "t", number) for number in range(4)]
    assert [reply.kind for reply in replies] == ["terminate", "terminate", "terminate", "success"]
    assert replies[0].text == "result of 8193 bytes exceeds 8192"


async def test_what_the_attempt_knows(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> Any:
        return {
            "task": attempt.task.id,
            "payload": attempt.payload,
            "try": attempt.try_number,
            "max": attempt.max_tries,
            "left": 0 < attempt.remaining() <= 9,
            "deadline": attempt.deadline.isoformat(),
            "cancelled": attempt.cancelled,
        }

    async with serving(server, app) as connection:
        request = exec_request(kind, {"n": 1}, timeout_ms=9000, try_number=2, max_tries=7)
        message = await connection.request(f"ajc.exec.{kind}", request.body, headers=request.headers())
    assert json.loads(message.body) == {
        "task": request.task_id,
        "payload": {"n": 1},
        "try": 2,
        "max": 7,
        "left": True,
        "deadline": request.deadline.to_datetime().isoformat(),
        "cancelled": False,
    }


async def test_the_time_left_counts_not_the_clock(server: Any) -> None:
    """The bridge's clock is an hour behind: its deadline has passed here, its time-out has not."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> float:
        return attempt.remaining()

    async with serving(server, app) as connection:
        request = exec_request(kind)
        behind = msgspec.structs.replace(request, deadline=request.deadline.plus(-3600 * 10**9))
        message = await connection.request(f"ajc.exec.{kind}", behind.body, headers=behind.headers())
    assert 8 < float(message.body) <= 10


async def test_a_typed_payload_that_does_not_fit(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    def handle(mail: Mail) -> str:
        return mail.to

    async with serving(server, app) as connection:
        assert (await ask(connection, kind, {"to": "x"})).body == b'"x"'
        refused = await ask(connection, kind, {"to": 1})
    assert (refused.kind, refused.text) == ("terminate", "payload.to: Expected `str`, got `int`")


async def test_beyond_its_concurrency_it_is_busy(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind, other = unique("t"), unique("t")
    let_go = asyncio.Event()

    @app.handler(kind, concurrency=2)
    async def handle(_attempt: ajc.Attempt) -> None:
        await let_go.wait()

    @app.handler(other)
    async def answer(_attempt: ajc.Attempt) -> str:
        return "free"

    async with serving(server, app) as connection:
        held = [asyncio.create_task(ask(connection, kind)) for _ in range(2)]
        await until(lambda: app.handlers[kind].running == 2)
        began = time.monotonic()
        busy = await ask(connection, kind)
        assert (busy.kind, busy.text) == ("busy", "2 attempts run already")
        assert time.monotonic() - began < 5
        assert (await ask(connection, other)).kind == "success"
        let_go.set()
        assert {(await reply).kind for reply in held} == {"success"}
        assert (await ask(connection, kind)).kind == "success"


async def test_plain_functions_run_in_threads_side_by_side(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")
    together = threading.Barrier(5)
    main = threading.get_ident()

    @app.handler(kind, concurrency=5)
    def handle(_attempt: ajc.Attempt) -> bool:
        together.wait(20)
        return threading.get_ident() != main

    async with serving(server, app) as connection:
        replies = await asyncio.gather(*(ask(connection, kind) for _ in range(5)))
    assert [reply.body for reply in replies] == [b"true"] * 5


async def test_a_passed_deadline_cancels_and_is_not_answered(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = ajc.Responder(server.url)
    kind, stubborn, late = unique("t"), unique("t"), unique("t")
    cancelled = asyncio.Event()

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert attempt.cancelled
            cancelled.set()
            raise

    @app.handler(stubborn)
    async def go_on(_attempt: ajc.Attempt) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "went on"
        return ""

    @app.handler(late)
    async def never(_attempt: ajc.Attempt) -> str:
        return "ran"

    async with serving(server, app) as connection:
        for name in (kind, stubborn, late):
            with pytest.raises(ajc.RequestTimeout):
                await ask(connection, name, timeout_ms=0 if name == late else 100, wait=0.5)
        async with asyncio.timeout(10):
            await cancelled.wait()
        await until(lambda: not any(handler.running for handler in app.handlers.values()))
    assert "the deadline passed" in caplog.text


@pytest.mark.rule("EXEC-21")
@pytest.mark.parametrize("hours", [-1, 1], ids=["this clock is ahead", "this clock is behind"])
async def test_the_time_left_rules_where_the_clocks_disagree(server: Any, hours: int) -> None:
    app = ajc.Responder(server.url)
    quick, endless = unique("t"), unique("t")

    @app.handler(quick)
    async def tell(attempt: ajc.Attempt) -> float:
        return attempt.remaining()

    @app.handler(endless)
    async def wait(_attempt: ajc.Attempt) -> None:
        await asyncio.Event().wait()

    deadline = Instant.now().plus(hours * 3_600_000_000_000)
    async with serving(server, app) as connection:
        reply = await ask(connection, quick, timeout_ms=9_000, deadline=deadline)
        assert reply.kind == "success"
        assert 0 < float(reply.body) <= 9
        with pytest.raises(ajc.RequestTimeout):
            await ask(connection, endless, timeout_ms=100, deadline=deadline, wait=0.5)
        await until(lambda: not app.handlers[endless].running)


async def test_a_thread_past_its_deadline_keeps_its_slot_until_it_ends(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")
    end = threading.Event()
    told: list[bool] = []

    @app.handler(kind, concurrency=1)
    def handle(attempt: ajc.Attempt) -> None:
        end.wait(20)
        told.append(attempt.cancelled)

    async with serving(server, app) as connection:
        with pytest.raises(ajc.RequestTimeout):
            await ask(connection, kind, timeout_ms=100, wait=0.4)
        assert (await ask(connection, kind)).kind == "busy"
        end.set()
        await until(lambda: app.handlers[kind].running == 0)
        assert (await ask(connection, kind)).kind == "success"
    assert told[0] is True


async def test_middleware_wraps_every_handler(server: Any) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")
    seen: list[Any] = []

    @app.middleware
    async def outer(attempt: ajc.Attempt, call_next: Any) -> Any:
        seen.append(("outer", attempt.payload))
        try:
            return await call_next(attempt)
        except ajc.Terminate:
            seen.append("terminated")
            raise

    @app.middleware
    async def inner(attempt: ajc.Attempt, call_next: Any) -> Any:
        if attempt.payload == "short":
            return "cut short"
        return [await call_next(attempt)]

    @app.handler(kind)
    async def handle(payload: str) -> str:
        if payload == "bad":
            raise ajc.Terminate("bad")
        return payload

    async with serving(server, app) as connection:
        assert (await ask(connection, kind, "x")).body == b'["x"]'
        assert (await ask(connection, kind, "short")).body == b'"cut short"'
        assert (await ask(connection, kind, "bad")).kind == "terminate"
        assert (await ask(connection, kind, 1)).kind == "terminate"
    assert seen == [("outer", "x"), ("outer", "short"), ("outer", "bad"), "terminated", ("outer", 1), "terminated"]


@pytest.mark.parametrize("plain", [False, True])
async def test_progress_goes_to_the_heartbeat_subject(server: Any, plain: bool) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")

    if plain:

        @app.handler(kind)
        def report(attempt: ajc.Attempt) -> None:
            attempt.progress(50, "half")
            attempt.progress()
            attempt.progress(message="soon")

    else:

        @app.handler(kind)
        async def report_later(attempt: ajc.Attempt) -> None:
            await attempt.progress(50, "half")
            await attempt.progress()
            await attempt.progress(message="soon")

    subject = f"ajc.beat.b.{unique()}"
    async with serving(server, app) as connection:
        beats: list[bytes] = []
        await connection.subscribe(subject, lambda message: beats.append(message.body))
        reply = await ask(connection, kind, heartbeat_subject=subject, heartbeat_ms=1000)
        assert reply.kind == "success"
        await until(lambda: len(beats) == 3)
        assert [json.loads(beat or b"{}") for beat in beats] == [
            {"percent": 50, "message": "half"},
            {},
            {"message": "soon"},
        ]
        assert (await ask(connection, kind)).kind == "success"  # nobody listens for beats


async def test_requests_that_cannot_be_read(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> None:
        assert attempt.payload is None

    subject = f"ajc.exec.{kind}"
    async with serving(server, app) as connection:
        good = exec_request(kind)
        for headers, body in ((None, b""), (good.headers(), b"{nope"), (None, good.body)):
            message = await connection.request(subject, body, headers=headers)
            reply = read_reply(message.headers, message.body)
            assert (reply.kind, reply.text.startswith("malformed ")) == ("error", True)
        connection.publish(subject, good.body, headers=good.headers())  # wants no reply
        assert (await ask(connection, kind)).kind == "success"
    assert "wants no reply" in caplog.text


async def test_the_request_of_a_go_worker(server: Any) -> None:
    """Two headers only, another prefix, a deadline in whole seconds."""
    app = ajc.Responder(server.url, prefix="CHORIA_AJ.H.T")
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> Any:
        return [attempt.try_number, attempt.max_tries, attempt.task.type, attempt.remaining() > 5]

    async with serving(server, app) as connection:
        request = exec_request(kind)
        deadline = request.deadline.plus(-(int(request.deadline) % 10**9)).rfc3339()
        headers = (
            f"NATS/1.0\r\nAJ-Content-Type: application/x-asyncjobs-task+json\r\nAJ-Handler-Deadline: {deadline}\r\n\r\n"
        )
        message = await connection.request(f"CHORIA_AJ.H.T.{kind}", request.body, headers=headers.encode())
    assert json.loads(message.body) == [1, 10, kind, True]


async def test_two_responders_share_the_work(server: Any) -> None:
    kind = unique("t")
    apps = [ajc.Responder(server.url), ajc.Responder(server.url)]
    served = [0, 0]
    for place, app in enumerate(apps):

        @app.handler(kind)
        async def handle(_attempt: ajc.Attempt, place: int = place) -> None:
            served[place] += 1

    async with serving(server, apps[0]) as connection, serving(server, apps[1]):
        for _ in range(40):
            await ask(connection, kind)
    assert sum(served) == 40
    assert all(served)


async def test_the_catch_all_may_be_served(server: Any) -> None:
    app = ajc.Responder(server.url, prefix=unique("p"))

    @app.handler("catchall")
    async def handle(attempt: ajc.Attempt) -> str:
        return attempt.request.type

    async with serving(server, app) as connection:
        request = exec_request("some:type")
        message = await connection.request(f"{app._prefix}.catchall", request.body, headers=request.headers())
    assert message.body == b'"some:type"'


async def test_drain_lets_what_runs_finish_and_takes_nothing_new(server: Any) -> None:
    async with ending(server, ajc.Responder(server.url, drain=20)) as (connection, kind):

        async def nobody() -> bool:
            try:
                return (await ask(connection, kind, wait=5)).kind == "no_responder"
            except ajc.NoResponders:
                return True

        await until(nobody)


async def test_what_does_not_finish_in_time_fails(server: Any) -> None:
    app = ajc.Responder(server.url, drain=0.1)
    kind = unique("t")

    @app.handler(kind)
    async def handle(_attempt: ajc.Attempt) -> None:
        await asyncio.Event().wait()

    async with connected(server) as connection:
        started = asyncio.Event()
        running = asyncio.create_task(app.serve(started=started.set))
        await started.wait()
        held = asyncio.create_task(ask(connection, kind))
        await until(lambda: app.handlers[kind].running == 1)
        app.stop()
        reply = await held
        assert (reply.kind, reply.text) == ("error", "interrupted: the responder ended")
        await running


async def test_it_waits_for_a_server_and_comes_back_for_ever(own_server: Any) -> None:
    port = own_server.port
    own_server.stop()
    app = ajc.Responder(f"nats://127.0.0.1:{port}")

    @app.handler("t")
    async def handle(_attempt: ajc.Attempt) -> str:
        return "here"

    async def served() -> bool:
        try:
            async with connected(own_server) as connection:
                return (await ask(connection, "t", wait=2)).body == b'"here"'
        except ajc.Unavailable:
            return False

    running = asyncio.create_task(app.serve())
    await asyncio.sleep(0.2)
    for _ in range(2):
        own_server.start()
        await until(served, 30)
        own_server.stop()
    app.stop()
    await running


async def test_refused_for_good(make_server: Any) -> None:
    server = make_server('authorization { user: "u", password: "p" }')
    app = ajc.Responder(server.url)

    @app.handler("t")
    async def handle(_attempt: ajc.Attempt) -> None: ...

    with pytest.raises(ajc.Closed):
        await app.serve()


async def test_few_rights_suffice(make_server: Any) -> None:
    server = make_server(
        """
        authorization { users: [
          { user: bridge, password: a },
          { user: app, password: a, permissions: {
              publish: ["ajc.beat.>"], subscribe: ["ajc.exec.t ajc", "_INBOX.>"], allow_responses: true } } ] }
        """
    )
    app = ajc.Responder(server.url.replace("//", "//app:a@"))

    @app.handler("t")
    async def handle(attempt: ajc.Attempt) -> str:
        await attempt.progress(1)
        return "done"

    started = asyncio.Event()
    running = asyncio.create_task(app.serve(started=started.set))
    await started.wait()
    connection = await Connection.open(resolve(server.url.replace("//", "//bridge:a@")))
    reply = await ask(connection, "t", heartbeat_subject="ajc.beat.b.a", heartbeat_ms=1000)
    assert reply.body == b'"done"'
    await connection.close()
    app.stop()
    await running


def test_registration_is_checked() -> None:
    app = ajc.Responder()
    for wrong in ("", "a.b", "*", "x" * 129):
        with pytest.raises(ajc.InvalidName):
            app.handler(wrong)(lambda attempt: None)
    for concurrency in (0, -1, True, 1.5):
        with pytest.raises(ajc.InvalidValue):
            app.handler("a", concurrency=concurrency)(lambda attempt: None)  # type: ignore[arg-type]
    with pytest.raises(ajc.InvalidValue):
        asyncio.run(ajc.Responder().serve())
    with pytest.raises(ajc.InvalidValue):
        ajc.Responder(drain=-1)


async def test_the_logger_carries_the_task(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> None:
        attempt.logger.warning("look", extra={"more": 1})

    async with serving(server, app) as connection:
        with caplog.at_level(logging.INFO):
            await ask(connection, kind)
    record = next(record for record in caplog.records if record.getMessage() == "look")
    assert (record.task_type, record.try_number, record.more) == (kind, 1, 1)  # type: ignore[attr-defined]


async def test_the_log_says_which_task_failed_and_how(make_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = make_server("max_payload: 8192")
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(payload: int) -> Any:
        if payload == 1:
            raise ValueError("one")
        return object() if payload == 2 else b"x" * 9000

    async with serving(server, app) as connection:
        with caplog.at_level(logging.WARNING, "ajc.handler"):
            for number in (1, 2, 3, "none"):
                await ask(connection, kind, number)
    said = [record.getMessage() for record in caplog.records if record.name == "ajc.handler"]
    which = [text.partition(", try 1: ") for text in said]
    assert [tail for _, _, tail in which] == [
        "the handler failed",
        "result <class 'object'>: cannot be written as JSON: Encoding objects of type object is unsupported",
        "result of 9000 bytes exceeds 8192",
        "payload: Expected `int`, got `str`",
    ]
    assert all(head.startswith("task ") and head.endswith(f" ({kind})") for head, _, _ in which)


def test_a_decorator_without_a_type_and_a_second_handler_are_told() -> None:
    app = ajc.Responder()
    with pytest.raises(ajc.InvalidValue, match=r'handle: write it behind the decorator: @app\.handler\("'):

        @app.handler  # type: ignore[arg-type]
        async def handle(attempt: ajc.Attempt) -> None: ...

    @app.handler("one")
    async def first(attempt: ajc.Attempt) -> None: ...

    with pytest.raises(ajc.AlreadyExists, match="handler one exists already: a type has one handler"):
        app.handler("one")(first)
    with pytest.raises(ajc.InvalidValue, match=r"wrong: parameter x is none of"):

        @app.handler("two")
        async def wrong(x, y: int) -> None: ...
