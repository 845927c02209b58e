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


@row("Rescue: orphaned and evicted tasks are found")
@pytest.mark.slow
async def test_a_bridge_killed_in_the_middle_of_a_rescue_leaves_the_right_end(own_server, make_bridge, kind):
    """Nothing looks at a task that is over: an item brings back what was left to do."""
    points = {"A": "rescue.promised", "B": "settle.saved", "C": "settle.dead_lettered"}
    settings = 'when_full = "discard_old"\nmax_entries = 3\nlease = "2s"\n'
    async with world_of(own_server.url) as world:
        dying = {
            queue: make_bridge(own_server.url, f"[queues.{queue}]\n{settings}", env={"AJC_FAILPOINT": point})
            for queue, point in points.items()
        }
        for bridge in dying.values():
            await bridge.ready()
        tasks = {queue: world.task(kind, queue=queue) for queue in points}
        for task in tasks.values():
            await world.save(task.id, task.encode())  # and no item
        for bridge in dying.values():
            assert await bridge.ended(120) == -9
        await world.serve(kind, [done()])
        await make_bridge(own_server.url, "".join(f"[queues.{queue}]\n{settings}" for queue in points)).ready()
        await world.settled(tasks["A"], "complete")  # it had not ended yet
        for queue in ("B", "C"):
            await world.until_state(tasks[queue].id, "queue_error")
            headers, _ = await world.until_letter(queue, tasks[queue].id)
            assert headers.get("AJ-Dlq-Reason") == "queue_error"
        for queue, task in tasks.items():
            await world.until_gone(queue, task.id)
