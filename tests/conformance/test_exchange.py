"""`ports.Exchange`."""

from __future__ import annotations

import asyncio

import pytest
from worlds import Opens, make_request, unique, until

from ajc.errors import TooLarge
from ajc.exchange import ExecReply, ExecRequest


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
