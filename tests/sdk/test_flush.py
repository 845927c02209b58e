"""`flush` and `drain` keep their word on both transports: what was sent has arrived, what was under way has come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sdk_world import connected, unique

from ajc.connection import Connection
from ajc.context import resolve


@pytest.mark.parametrize("fast", [True, False])
async def test_a_subscription_stands_once_it_is_flushed(server: Any, fast: bool) -> None:
    asking = await Connection.open(resolve(server.url))
    for _ in range(40):
        answering = await Connection.open(resolve(server.url), fast=fast)
        subject = unique("s")
        await answering.subscribe(subject, lambda message, by=answering: by.publish(message.reply, b"here"))
        await answering.flush()
        assert (await asking.request(subject)).body == b"here"
        await answering.close()
    await asking.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_nothing_is_lost_by_a_drain(server: Any, fast: bool) -> None:
    async with connected(server) as asking:
        for _ in range(10):
            one, other = [await Connection.open(resolve(server.url), fast=fast) for _ in range(2)]
            subject = unique("s")
            subscriptions = [
                await by.subscribe(subject, lambda message, by=by: by.publish(message.reply, b"here"), queue="q")
                for by in (one, other)
            ]
            await one.flush()
            await other.flush()
            replies = [asyncio.ensure_future(asking.request(subject, timeout=5)) for _ in range(200)]
            await asyncio.sleep(0)
            await subscriptions[0].drain()
            assert {reply.body for reply in await asyncio.gather(*replies)} == {b"here"}
            await one.close()
            await other.close()
