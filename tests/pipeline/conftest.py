"""Every async test of this folder runs in memory and in virtual time: an hour of retries takes no time."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import pytest

from ajc.testing import run_virtually

sys.path.insert(0, str(Path(__file__).parent))

VIRTUAL_SECONDS = 100_000.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests on a loop whose time jumps: one that hangs ends at once, at its time-out."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def bounded() -> None:
        async with asyncio.timeout(VIRTUAL_SECONDS):
            await pyfuncitem.obj(**arguments)

    run_virtually(bounded())
    return True
