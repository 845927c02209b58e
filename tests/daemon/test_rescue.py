"""Tasks whose item was evicted, or never written: found after a minute."""

from __future__ import annotations

import pytest
from outside import world_of
from scripted_responder import done

row = pytest.mark.row


@row("Rescue: orphaned and evicted tasks are found")
@pytest.mark.slow
async def test_orphaned_and_evicted_tasks_are_found(own_server, make_bridge, kind):
    config = '[queues.PLAIN]\n[queues.EVICTS]\nwhen_full = "discard_old"\nmax_entries = 3'
    bridge = make_bridge(own_server.url, config)
    async with world_of(own_server.url, bridge) as world:
        await bridge.ready()
        orphan = world.task(kind, queue="PLAIN")
        waiting = world.task(kind, queue="PLAIN", state="retry", tries=1)
        evicted = world.task(kind, queue="EVICTS")
        elsewhere = world.task(kind, queue="ELSEWHERE")
        ended = world.task(kind, queue="PLAIN", state="complete")
        for task in (orphan, waiting, evicted, elsewhere, ended):
            await world.save(task.id, task.encode())  # and no item
        await world.serve(kind, [done()])
        assert (await world.settled(orphan, "complete", seconds=120)).tries == 1
        assert (await world.settled(waiting, "complete", seconds=60)).tries == 2
        found = await world.settled(evicted, "queue_error", seconds=60)
        assert found.last_err == "evicted by discard_old"
        headers, _ = await world.until_letter("EVICTS", evicted.id)
        assert headers.get("AJ-Dlq-Reason") == "queue_error"
        assert (await world.load(elsewhere.id)).state == "new"
        assert len(bridge.logs("task.rescued")) == 3
