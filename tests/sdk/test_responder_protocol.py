"""What a responder reads and says: versions, header names, what of an exception goes out, the trace."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from sdk_world import ask, exec_request, serving, unique

import ajc
from ajc.connection import Connection
from ajc.errors import Malformed
from ajc.exchange import ExecReply, read_reply
from ajc.replies import reply_to_exception
from ajc.request_head import quick_timeout, read_request

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def sent(connection: Connection, kind: str, headers: bytes, body: bytes) -> ExecReply:
    message = await connection.request(f"ajc.exec.{kind}", body, headers=headers)
    return read_reply(message.headers, message.body)


async def test_a_version_that_is_not_known_is_not_run(server: Any) -> None:
    """EXEC-7: busy, whatever else the request says, so that another responder may know it."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    ran: list[int] = []

    @app.handler(kind)
    async def handle(_attempt: ajc.Attempt) -> None:
        ran.append(1)

    async with serving(server, app) as connection:
        request = exec_request(kind)
        written = request.headers()
        for version in (b"2", b"1.1", b"one"):
            reply = await sent(connection, kind, written.replace(b"AJ-Protocol: 1", b"aj-PROTOCOL: " + version), b"{")
            assert reply.kind == "busy"
            assert version.decode() in reply.text
            only = b"NATS/1.0\r\nAJ-Protocol: " + version + b"\r\n\r\n"
            assert (await sent(connection, kind, only, b"")).kind == "busy"
        assert not ran
        for same in (b"AJ-Protocol:1", b"Aj-Protocol:  1 ", b"AJ-Protocol: ", b"X-Else: 2"):
            reply = await sent(connection, kind, written.replace(b"AJ-Protocol: 1", same), request.body)
            assert reply.kind == "success"
        assert len(ran) == 4


async def test_header_names_in_any_case_and_unknown_ones(server: Any) -> None:
    """EXEC-5, EXEC-6, EXEC-8."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    @app.handler(kind)
    async def handle(attempt: ajc.Attempt) -> Any:
        return [attempt.request.task_id, attempt.request.queue, attempt.try_number, attempt.max_tries]

    async with serving(server, app) as connection:
        request = exec_request(kind, try_number=2, max_tries=5)
        written = request.headers()
        lines = written.split(b"\r\n")
        shouted = [name.upper() + b":" + value for name, _, value in (line.partition(b":") for line in lines[1:-2])]
        for changed in (
            written,
            b"\r\n".join([lines[0], *shouted, b"", b""]),
            b"\r\n".join([lines[0], b"AJ-Try: ", b"X-Unknown: 7", *lines[1:]]),
            b"\r\n".join([lines[0], *reversed(lines[1:-2]), b"", b""]),
        ):
            message = await connection.request(f"ajc.exec.{kind}", request.body, headers=changed)
            assert msgspec.json.decode(message.body) == [request.task_id, "Q", 2, 5]


def test_what_the_bridge_writes_is_read_the_short_way() -> None:
    request = exec_request("a:b", heartbeat_subject="ajc.beat.b.a", heartbeat_ms=1000)
    for one in (
        exec_request("a:b"),
        request,
        msgspec.structs.replace(request, traceparent=TRACE, tracestate="a=1, b=2"),
    ):
        assert quick_timeout(one.headers()) == one.timeout_ms
        assert read_request(one.headers(), one.body) == one


LINES = exec_request(
    "a:b", b"x", heartbeat_subject="ajc.beat.b.a", heartbeat_ms=1000, traceparent=TRACE, tracestate="a=1"
).headers().split(b"\r\n")[1:-2]  # fmt: skip


def test_what_is_broken_is_not_read_the_short_way() -> None:
    block = b"NATS/1.0\r\n" + b"\r\n".join(LINES) + b"\r\n\r\n"
    assert quick_timeout(block) == 10_000
    at = block.index(b"AJ-Timeout-Ms") - 2
    for end in (b"\r\0", b"\r\n\n", b"\r\n\r\n", b"\n\r\n", b"\n\n"):
        assert quick_timeout(block[:at] + end + block[at + 2 :]) == -1, end
    at = block.index(b"AJ-Heartbeat-Subject") - 2
    for end in (b"\r\0", b"\n\n", b"\0"):
        assert quick_timeout(block[:at] + end + block[at + 2 :]) == -1, end
    early = block.index(b"AJ-Queue") - 2
    for end in (b"\n\n", b"\r\n\n"):
        assert quick_timeout(block[:early] + end + block[early + 2 :]) == -1, end


@given(
    st.permutations(LINES) | st.just(LINES),
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=3),
)
def test_both_ways_of_reading_a_request_agree(lines: list[bytes], changes: list[tuple[int, bytes]]) -> None:
    """EXEC-5, EXEC-6."""
    body = exec_request("a:b", b"x").body
    block = b"NATS/1.0\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"
    for place, change in changes:
        block = block[:place] + change + block[place + len(change) :]
    timeout_ms = quick_timeout(block)
    if timeout_ms < 0:
        return
    try:
        assert read_request(block, body).timeout_ms == timeout_ms
    except Malformed:
        return  # met when it is looked at


@pytest.mark.parametrize("errors", ["message", "type"])
async def test_what_of_an_exception_goes_out(server: Any, errors: Any, caplog: pytest.LogCaptureFixture) -> None:
    """EXEC-11, EXEC-12, EXEC-16: one line, 4,096 bytes, no trace; with `errors="type"` nothing that may be secret."""
    app = ajc.Responder(server.url, errors=errors)
    kind = unique("t")

    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    raised: list[BaseException] = [
        ValueError("password=hunter2\nsecond line\r\nthird"),
        ValueError("é" * 5000),
        ValueError("  \n "),
        UnspeakableError(),
        ValueError("\x00\x1b[31m"),
    ]

    @app.handler(kind)
    async def handle(payload: int) -> None:
        raise raised[payload] from KeyError("hunter3")

    async with serving(server, app) as connection:
        replies = [await ask(connection, kind, number) for number in range(len(raised))]
    assert {reply.kind for reply in replies} == {"error"}
    texts = [reply.text for reply in replies]
    assert all(text and "\n" not in text and len(text.encode()) <= 4096 for text in texts)
    assert not any("Traceback" in text or "hunter3" in text for text in texts)
    if errors == "type":
        assert texts == ["ValueError"] * 3 + [UnspeakableError.__qualname__, "ValueError"]
    else:
        assert texts[0] == "ValueError: password=hunter2 second line  third"
        assert (
            reply_to_exception(ValueError("\ud800")).headers
            == "NATS/1.0\r\nAJ-Error: ValueError: \ufffd\r\n\r\n".encode()
        )
        assert texts[1].endswith("…")
        assert texts[3] == UnspeakableError.__qualname__
    assert "hunter3" in caplog.text  # the trace is in the responder's own log


async def test_a_long_text_and_a_small_server(make_server: Any) -> None:
    """EXEC-16, EXEC-18: what does not fit is cut; the connection stays."""
    server = make_server("max_payload: 2048")
    app = ajc.Responder(server.url)

    @app.handler("t")
    async def handle(payload: str) -> Any:
        if payload == "big":
            return b"x" * 2049
        raise {"t": ajc.Terminate("y" * 4000), "b": ajc.Busy("y" * 4000, after=3), "e": ValueError("y" * 4000)}[payload]

    async with serving(server, app) as connection:
        replies = [await ask(connection, "t", payload) for payload in ("t", "b", "e", "big")]
    assert [reply.kind for reply in replies] == ["terminate", "busy", "error", "terminate"]
    assert all(reply.text for reply in replies)
    assert replies[1].retry_after_ms == 3000
    assert replies[3].text == "result of 2049 bytes exceeds 2048"


@pytest.mark.parametrize("plain", [False, True])
async def test_the_trace_is_the_current_one(server: Any, plain: bool) -> None:
    """EXEC-33: at the attempt, and in OpenTelemetry's context, in a thread too, and in the next attempt no more."""
    app = ajc.Responder(server.url)
    kind = unique("t")

    def look(attempt: ajc.Attempt) -> Any:
        span = trace.get_current_span().get_span_context()
        return [attempt.traceparent, attempt.tracestate, f"{span.trace_id:032x}", f"{span.span_id:016x}"]

    async def look_later(attempt: ajc.Attempt) -> Any:
        return look(attempt)

    app.handler(kind)(look if plain else look_later)
    async with serving(server, app) as connection:
        traced = await ask(connection, kind, traceparent=TRACE, tracestate="a=1,b=2")
        assert msgspec.json.decode(traced.body) == [TRACE, "a=1,b=2", TRACE[3:35], TRACE[36:52]]
        replies = await asyncio.gather(ask(connection, kind, traceparent=TRACE), ask(connection, kind))
        assert [msgspec.json.decode(reply.body)[2] for reply in replies] == [TRACE[3:35], "0" * 32]


async def test_what_an_attempt_leaves_in_its_context_is_not_seen_by_the_next(server: Any) -> None:
    """Attempts that never wait may share a task: not what they set."""
    app = ajc.Responder(server.url)
    kind = unique("t")
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    tasks: set[Any] = set()

    @app.handler(kind, concurrency=1000)
    async def handle(payload: int) -> str:
        tasks.add(asyncio.current_task())
        if payload % 3 == 0:
            await asyncio.sleep(0)
        before = variable.get()
        if payload % 2:
            variable.set(f"left by {payload}")
        return before

    async with serving(server, app) as connection:
        replies = await asyncio.gather(*(ask(connection, kind, number) for number in range(400)))
        assert {reply.body for reply in replies} == {b'"clean"'}
    assert len(tasks) >= 200  # one each for those that waited or left something


async def test_attempts_that_never_wait_do_not_keep_the_loop(server: Any) -> None:
    """EXEC-19: some of one type in a row, and those of another in between."""
    app = ajc.Responder(server.url)
    quick, other = unique("t"), unique("t")
    order: list[str] = []

    @app.handler(quick, concurrency=1000)
    async def handle(_attempt: ajc.Attempt) -> None:
        order.append("quick")

    @app.handler(other)
    async def handle_other(_attempt: ajc.Attempt) -> None:
        await asyncio.sleep(0)
        order.append("other")

    async with serving(server, app) as connection:
        replies = await asyncio.gather(
            *(ask(connection, quick if number % 10 else other) for number in range(1, 500)), return_exceptions=True
        )
        kinds = [reply.kind for reply in replies if isinstance(reply, ExecReply)]
        assert kinds.count("success") + kinds.count("busy") == len(replies) == 499
        assert app.handlers[quick].running == app.handlers[other].running == 0
    assert order.count("quick") == 450
