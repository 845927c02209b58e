"""Every port while its server is away, and after it came back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from worlds import Opens, make_letter, make_request, until

from ajc.errors import Unavailable
from ajc.exchange import ExecReply
from ajc.work_item import WorkItem
from ajc_bridge.ports import Lease


async def test_without_a_server_every_call_is_unavailable(ports_that_break: Opens) -> None:
    async with ports_that_break() as world:
        queue = await world.queue()
        for name in ("a", "b"):
            await world.put_item(queue.name, name, WorkItem(name).encode())
        revision = await world.store.save("a", b"1", 0)
        other = await world.store.save("b", b"1", 0)
        leases: list[Lease] = []
        await queue.port.pull(1, 0, leases.append)
        pulling = asyncio.ensure_future(queue.port.pull(1, 0, leases.append))
        await pulling
        waiting = asyncio.ensure_future(queue.port.pull(1, 30, leases.append))
        await asyncio.sleep(0.1)
        scan = world.scan()

        await world.go_away()
        with pytest.raises(Unavailable):
            await waiting
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "load": lambda: world.store.load("a"),
            "load from the leader": lambda: world.store.load("a", leader=True),
            "save": lambda: world.store.save("a", b"2", revision),
            # of another record: what is sent late may take effect, and a save before it may not
            "discard": lambda: world.store.discard("b", other),
            "pull": lambda: queue.port.pull(1, 0, leases.append),
            "renew": lambda: queue.port.renew(leases[0]),
            "schedule": lambda: world.delay.schedule(queue.name, "c", world.now().plus(1), WorkItem("c")),
            "forget": lambda: world.delay.forget(queue.name, "c"),
            "publish": lambda: world.letters.publish(make_letter(queue.name, "a"), b"x"),
            "request": lambda: world.exchange.request("ajc.exec.kind", make_request(), world.monotonic() + 0.2),
            "exhausted": lambda: queue.census.exhausted(1),
            "has_item": lambda: queue.census.has_item("a"),
            "next": lambda: scan.next(5),
        }
        outcomes = await asyncio.gather(*(call() for call in calls.values()), return_exceptions=True)
        unlike = {
            name: outcome for name, outcome in zip(calls, outcomes, strict=True) if not isinstance(outcome, Unavailable)
        }
        assert not unlike
        queue.port.ack(leases[0])  # lost in silence: kept until it is back, it might meet another delivery
        queue.port.nak(leases[1])

        await world.come_back()
        record = await until(lambda: _load(world))
        assert record.data in {b"1", b"2"}
        assert await world.store.save("a", b"3", record.revision) > record.revision
        again: list[Lease] = []
        await until(lambda: _pull(queue, again), 40)
        assert again[0].subject_id in {"a", "b", "c"}


async def _load(world: object) -> object:
    try:
        return await world.store.load("a")  # type: ignore[attr-defined]
    except Unavailable:
        return None


async def _pull(queue: object, leases: list[Lease]) -> bool:
    try:
        return bool(await queue.port.pull(1, 1, leases.append))  # type: ignore[attr-defined]
    except Unavailable:
        return False


async def test_a_request_waits_for_a_server_that_comes_back_in_time(ports_that_break: Opens) -> None:
    async with ports_that_break() as world:
        await world.serve("ajc.exec.kind", lambda request: ExecReply("success", body=request.body))
        await world.go_away()
        asking = asyncio.ensure_future(
            world.exchange.request("ajc.exec.kind", make_request(b"1"), world.monotonic() + 30)
        )
        await asyncio.sleep(0.2)
        assert not asking.done()
        await world.come_back()
        assert await asking in (ExecReply("success", body=b"1"), ExecReply("no_responder"))
