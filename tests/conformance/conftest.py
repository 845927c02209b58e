"""Every test of this folder runs twice: against a real server, and against the fake in memory (in virtual time)."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from pathlib import Path

import pytest

from ajc.testing import run_virtually

sys.path.insert(0, str(Path(__file__).parent))

from worlds import MemoryWorld, Opens, ServerWorld


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run what runs against the fake on a loop whose time jumps; the rest as everywhere."""
    callspec = getattr(pyfuncitem, "callspec", None)
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or callspec is None or "memory" not in callspec.params.values():
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    run_virtually(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(params=["server", "memory"])
def ports_under_test(request: pytest.FixtureRequest) -> Opens:
    """`async with ports_under_test() as world`: the ports, and a look at them from outside. The server is shared."""
    if request.param == "memory":
        return MemoryWorld.open
    return partial(ServerWorld.open, request.getfixturevalue("server"))


@pytest.fixture(params=["server", "memory"])
def ports_that_break(request: pytest.FixtureRequest) -> Opens:
    """The same on a server of the test's own, for `world.go_away()` and `world.come_back()`."""
    if request.param == "memory":
        return MemoryWorld.open
    return partial(ServerWorld.open, request.getfixturevalue("own_server"))


@pytest.fixture(params=["server", "memory"])
def ports_that_keep(request: pytest.FixtureRequest) -> Opens:
    """The same with a task store that lets no record vanish by itself."""
    if request.param == "memory":
        return partial(MemoryWorld.open, msg_ttl=False)
    return partial(ServerWorld.open, request.getfixturevalue("own_server"), msg_ttl=False)
