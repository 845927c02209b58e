"""`ports.Exchange`."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from worlds import Opens, make_request, unique, until

from ajc.errors import TooLarge
from ajc.exchange import ExecReply, ExecRequest
from ajc_bridge.happenings import BeatIgnored


async def test_a_request_is_answered(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        seen: list[ExecRequest] = []

        def handler(request: ExecRequest) -> ExecReply:
            seen.append(request)
            return ExecReply("success", body=b"done " + request.body)

        await world.serve(subject, handler)
        request = make_request(b"work", try_number=2)
        reply = await world.exchange.request(subject, request, world.monotonic() + 10)
        assert reply == ExecReply("success", body=b"done work")
        assert [(one.task_id, one.try_number, one.body) for one in seen] == [(request.task_id, 2, b"work")]


@pytest.mark.parametrize(
    "reply",
    [ExecReply("terminate", "no"), ExecReply("error", "broke"), ExecReply("busy", "full"), ExecReply("success")],
)
async def test_every_kind_of_reply(ports_under_test: Opens, reply: ExecReply) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        await world.serve(subject, lambda _: reply)
        assert await world.exchange.request(subject, make_request(), world.monotonic() + 10) == reply


async def test_nobody_there_is_known_at_once(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        began = world.monotonic()
        reply = await world.exchange.request(f"ajc.exec.{unique('t')}", make_request(), began + 30)
        assert reply is not None
        assert reply.kind == "no_responder"
        assert world.monotonic() - began < 5


async def test_silence_lasts_until_the_time_is_over(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        await world.serve(subject, lambda _: None)
        began = world.monotonic()
        assert await world.exchange.request(subject, make_request(), began + 0.3) is None
        assert 0.25 <= world.monotonic() - began < 3


async def test_a_time_that_is_over_already(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        await world.serve(subject, lambda _: None)
        assert await world.exchange.request(subject, make_request(), world.monotonic() - 5) is None


async def test_a_request_that_does_not_fit(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        await world.serve(subject, lambda _: ExecReply("success"))
        with pytest.raises(TooLarge):
            await world.exchange.request(subject, make_request(b"x" * world.exchange.limit), world.monotonic() + 10)
        headers = len(make_request().headers())
        fits = make_request(b"x" * (world.exchange.limit - headers - 100))
        assert await world.exchange.request(subject, fits, world.monotonic() + 10) == ExecReply("success")


async def test_many_requests_each_get_their_own_reply(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        await world.serve(subject, lambda request: ExecReply("success", body=request.body))
        bodies = [b"%d" % number for number in range(300)]
        until_then = world.monotonic() + 20
        replies = await asyncio.gather(
            *(world.exchange.request(subject, make_request(body), until_then) for body in bodies)
        )
        assert [reply and reply.body for reply in replies] == bodies


async def test_a_request_that_is_given_up_leaves_the_others(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        await world.serve(subject, lambda request: ExecReply("success") if request.body == b"1" else None)
        given_up = asyncio.ensure_future(world.exchange.request(subject, make_request(b"0"), world.monotonic() + 20))
        await asyncio.sleep(0.05)
        given_up.cancel()
        assert await world.exchange.request(subject, make_request(b"1"), world.monotonic() + 20) == ExecReply("success")
        await until(given_up.cancelled)


async def test_a_request_without_beats_names_no_subject_for_them(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        seen: list[ExecRequest] = []
        await world.serve(subject, seen.append)
        await world.exchange.request(subject, make_request(heartbeat_ms=1000), world.monotonic() + 0.1)
        assert seen[0].heartbeat_subject is None


@pytest.mark.rule("EXEC-26")
async def test_each_beat_moves_the_end(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        seen: list[ExecRequest] = []
        bodies: list[bytes] = []

        def beaten(body: bytes) -> float:
            bodies.append(body)
            return world.monotonic() + 1.0

        await world.serve(subject, seen.append)
        began = world.monotonic()
        request = make_request(heartbeat_ms=1234)
        asking = asyncio.ensure_future(world.exchange.request(subject, request, began + 1.0, beaten=beaten))
        await until(lambda: seen)
        (asked,) = seen
        assert asked.heartbeat_ms == 1234
        assert asked.heartbeat_subject is not None
        assert asked.heartbeat_subject.startswith("ajc.beat.")
        for number in range(5):
            await asyncio.sleep(0.4)
            await world.beat(asked, b"%d" % number)
        await until(lambda: len(bodies) == 5)
        assert world.monotonic() - began > 1.9
        assert not asking.done()
        last = world.monotonic()
        assert await asking is None
        assert 0.9 < world.monotonic() - last < 3
        assert bodies == [b"0", b"1", b"2", b"3", b"4"]


async def test_beats_of_an_attempt_that_is_over_and_of_none_change_nothing(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        seen: list[ExecRequest] = []
        bodies: list[bytes] = []

        def beaten(body: bytes) -> float | None:
            bodies.append(body)
            return None

        def answer(request: ExecRequest) -> ExecReply | None:
            seen.append(request)
            return ExecReply("success") if len(seen) > 1 else None

        await world.serve(subject, answer)
        request = make_request(heartbeat_ms=1000)
        began = world.monotonic()
        asking = asyncio.ensure_future(world.exchange.request(subject, request, began + 0.5, beaten=beaten))
        await until(lambda: seen)
        await world.beat(seen[0], b"refused")
        assert await asking is None
        assert world.monotonic() - began < 3
        assert bodies == [b"refused"]
        await world.exchange.request(subject, request, world.monotonic() + 10, beaten=beaten)
        assert seen[0].heartbeat_subject != seen[1].heartbeat_subject
        for late in seen:
            await world.beat(late, b"late")
        await world.beat(replace(seen[0], heartbeat_subject=f"{seen[0].heartbeat_subject}0"), b"unknown")
        await until(lambda: world.ignored_beats == 4)
        assert bodies == [b"refused"]
        kinds = [detail.kind for detail in world.ignored if isinstance(detail, BeatIgnored)]
        assert kinds in ([], ["over", "over", "over", "unknown"])  # the fake tells nobody


async def test_a_flood_of_beats_leaves_the_others_alone(ports_under_test: Opens) -> None:
    async with ports_under_test() as world:
        subject = f"ajc.exec.{unique('t')}"
        seen: list[ExecRequest] = []
        count = 0

        def beaten(_body: bytes) -> float:
            nonlocal count
            count += 1
            return world.monotonic() + 5

        def answer(request: ExecRequest) -> ExecReply | None:
            seen.append(request)
            return ExecReply("success") if request.body == b"other" else None

        await world.serve(subject, answer)
        request = make_request(heartbeat_ms=1000)
        asking = asyncio.ensure_future(world.exchange.request(subject, request, world.monotonic() + 10, beaten=beaten))
        await until(lambda: seen)
        for _ in range(5_000):
            await world.beat(seen[0], b"x" * 100)
        other = make_request(b"other")
        assert await world.exchange.request(subject, other, world.monotonic() + 10) == ExecReply("success")
        await until(lambda: count == 5_000)
        assert not asking.done()
        asking.cancel()
