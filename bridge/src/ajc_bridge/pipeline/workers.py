"""Asyncio tasks that take one item after another: to make a task for each would cost as much as saving one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ajc_bridge.ports import Lease

SPARE: Final = 256
"""So many wait for their next item; who ends beside them ends for good."""


class Workers:
    """Begins `work` on leases. A worker whose work raises ends with it, as a task of its own would."""

    def __init__(self, work: Callable[[Lease], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._spare: list[tuple[asyncio.Future[Lease], asyncio.Task[None]]] = []
        self._stopped = False

    def start(self, lease: Lease) -> asyncio.Task[None]:
        """Begin on this lease in the next turn of the loop, and return the task that does: its own until it is done."""
        if self._spare:
            waiter, worker = self._spare.pop()
            waiter.set_result(lease)
            return worker
        return self._loop.create_task(self._run(lease))

    def stop(self) -> None:
        """Let the spare ones go, and each other when it is done."""
        self._stopped = True
        for _, worker in self._spare:
            worker.cancel()
        self._spare.clear()

    async def _run(self, lease: Lease) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # this is a coroutine of one
        while True:
            await self._work(lease)
            if self._stopped or len(self._spare) >= SPARE:
                return
            waiter: asyncio.Future[Lease] = self._loop.create_future()
            self._spare.append((waiter, worker))
            lease = await waiter
