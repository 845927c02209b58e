"""A server that has no room left for what it is to store: told clearly, nothing lost, nothing done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from signal import SIGTERM

import pytest
from bridge_process import until
from outside import world_of
from scripted_responder import Request, done

from ajc.client import connect
from ajc.errors import StoreError

row = pytest.mark.row
CONFIG = '[queues.Q]\nlease = "2s"\nmax_run_time = "1m"\nmax_concurrent = -1'


def room(size: str) -> str:
    """One account with so much room in JetStream: what a disk that is full is like, without one."""
    return (
        f"accounts {{ ROOM {{ jetstream {{ max_file: {size} }}, users: [ {{ user: a, password: a }} ] }} }}\n"
        "no_auth_user: a"
    )


@row("Store: a server without room refuses; nothing is lost or done twice, and work goes on when there is room again")
async def test_a_store_that_is_full_for_a_while_loses_nothing_and_does_nothing_twice(make_server, make_bridge, kind):
    server = make_server(room("2MB"))
    bridge = await make_bridge(server.url, CONFIG).ready()
    runs: Counter[str] = Counter()
    held: list[Request] = []

    def script(request: Request):
        runs[request.task.id] += 1
        held.append(request)  # answered when the test says so

    async with world_of(server.url, bridge) as world, connect(server.url) as client:
        responder = await world.serve(kind, script)
        accepted = []

        async def fill() -> None:
            while True:
                accepted.append(await client.enqueue(kind, "x" * 8_000, queue="Q"))

        with pytest.raises(StoreError, match=r"resource limits exceeded for account \(10002\)"):
            await fill()
        # tasks of which everything was stored run; their ends find no room
        await until(lambda: held)
        before = list(held)
        for request in before:
            responder.send(request, done(b"y" * 8_000))
        line = await bridge.log("task.save_failed")
        assert "resource limits exceeded for account (10002)" in line["text"]
        await asyncio.sleep(5)  # more than two leases
        assert bridge.running
        assert set(runs.values()) == {1}, "what waits for room to save its end is not begun again"
        with pytest.raises(StoreError, match="resource limits exceeded"):
            await client.enqueue(kind, "x" * 8_000, queue="Q")

        server.stop(SIGTERM)
        server.config = room("200MB")
        server.start()
        await bridge.log("nats.reconnected")
        await world.connection.wait_connected()
        await client.connection.wait_connected()
        answered = set(map(id, before))
        left = {task.id for task in accepted}

        async def all_complete() -> bool:
            for request in held:
                if id(request) not in answered:
                    answered.add(id(request))
                    responder.send(request, done())
            for task_id in list(left):
                if (await world.load(task_id)).state == "complete":
                    left.discard(task_id)
            return not left

        await world.until_async(all_complete, "not every accepted task is complete")
        assert [runs[task.id] for task in accepted] == [1] * len(accepted)
        assert max(runs.values()) == 1
        more = await client.enqueue(kind, "more", queue="Q")
        await until(lambda: runs[more.id])
        assert not bridge.logs("lease.lost")
