"""When a failed task comes back: the policies, seen in `next_try_at` and the schedule."""

from __future__ import annotations

import pytest
from outside import MINUTE, SECOND, World
from scripted_responder import failed

row = pytest.mark.row
HOUR = 60 * MINUTE


async def delay_after(world: World, kind: str, queue: str, tries: int) -> int:
    """Nanoseconds from the failure to the next try, of a task that failed so often (this time included)."""
    task = await world.run(kind, queue=queue, state="retry" if tries > 1 else "new", tries=tries - 1, max_tries=0)
    schedule = await world.until_schedule(queue, task.id)
    stored = await world.record(task.id)
    found = await world.load(task.id)
    assert found.tries == tries
    assert found.next_try_at == schedule.at
    return schedule.at - stored.stored_at


@row("Backoff index: counted tries so far, from 1")
@pytest.mark.parametrize(("tries", "hours"), [(1, 1), (2, 2), (3, 3), (4, 3), (40, 3)])
async def test_the_steps_of_an_own_policy(site, kind, tries, hours):
    async with site.world() as world:
        await world.serve(kind, [failed()])
        assert abs(await delay_after(world, kind, "STEPS", tries) - hours * HOUR) < 10 * SECOND


@row("Backoff: own policies draw evenly from step*(1-j) to step*(1+j)")
async def test_jitter_spreads_and_is_reproducible(site, kind):
    async with site.world() as world:
        await world.serve(kind, [failed()])
        delays = [await delay_after(world, kind, "JITTER", 1) for _ in range(12)]
        assert all(50 * MINUTE - 10 * SECOND < delay < 150 * MINUTE + 10 * SECOND for delay in delays)
        assert max(delays) - min(delays) > 10 * MINUTE


@row("Backoff: Go's named policies keep Go's formula")
@pytest.mark.parametrize(("tries", "step"), [(1, 1), (19, 19), (90, 19)])
async def test_a_policy_of_go(site, kind, tries, step):
    async with site.world() as world:
        await world.serve(kind, [failed()])
        interval = 10 * MINUTE + step * (50 * MINUTE // 20)  # 20 steps from 10 min to 1 h, jitter 0.9
        delay = await delay_after(world, kind, "GO1H", tries)
        assert 0.9 * interval - 10 * SECOND <= delay <= 1.9 * interval + 10 * SECOND


@row("Backoff: a queue without one has `default`")
async def test_a_queue_without_a_policy_has_the_default(site, kind):
    async with site.world() as world:
        await world.serve(kind, [failed()])
        interval = MINUTE + 9 * MINUTE // 50
        delay = await delay_after(world, kind, "PLAIN", 1)
        assert 0.9 * interval - 10 * SECOND <= delay <= 1.9 * interval + 10 * SECOND
