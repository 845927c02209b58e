"""What the tests of this folder share."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(condition: Callable[[], Any | Awaitable[Any]], seconds: float = 20.0) -> None:
    """Wait for a condition, a plain or an async one."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if inspect.isawaitable(found) else found:
            return
        assert time.monotonic() < deadline, f"the condition did not come within {seconds:g} s"
        await asyncio.sleep(0.01)
