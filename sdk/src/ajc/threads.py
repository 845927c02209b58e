"""Threads for handlers that are plain functions: daemons, so that a hanging one does not keep the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Threads:
    """Up to `most` threads, each begun when there is no idle one."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._begun = 0
        self._busy = 0

    def run(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run it in a thread; the future belongs to the running loop. To be called on the loop only."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def landed(result: Any, error: BaseException | None) -> None:
            self._busy -= 1
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def job() -> None:
            result: Any = None
            failure: BaseException | None = None
            try:
                result = function()
            except StopIteration as error:
                failure = RuntimeError(f"the handler raised StopIteration: {error.value!r}")  # no future can hold that
            except BaseException as error:  # noqa: BLE001  (it belongs to whoever waits)
                failure = error
            try:
                loop.call_soon_threadsafe(landed, result, failure)
            except RuntimeError:
                return  # the loop has ended, and nobody waits

        if self._busy >= self._begun and self._begun < self._most:
            self._begun += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._begun}", daemon=True).start()
        self._busy += 1
        self._jobs.put(job)
        return future

    def close(self) -> None:
        """Let each thread end after what it runs now."""
        for _ in range(self._begun):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # an idle thread keeps nothing alive
