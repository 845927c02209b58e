"""What your own tests need: a handler called without any server, and a real server for a test.

    def test_send():
        assert ajc.testing.run(send, {"to": "x@example.net"}) == {"sent": True}

    async def test_end_to_end(ajc_server):
        async with ajc.connect(ajc_server.url) as client: ...

    def test_an_hour_of_retries():
        ajc.testing.run_virtually(scenario())  # sleeps take no time; MemoryServer has the bridge's ports in memory

pytest finds the fixture `ajc_server` by itself once the package is installed; `ajc_session_server` is one server for
the whole run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ajc.testing.fixtures import ajc_server, ajc_session_server
    from ajc.testing.handler_run import arun, run
    from ajc.testing.memory import MemoryServer
    from ajc.testing.nats_server import NatsServer, server
    from ajc.testing.virtual_time import run_virtually

__all__ = [
    "MemoryServer",
    "NatsServer",
    "ajc_server",
    "ajc_session_server",
    "arun",
    "run",
    "run_virtually",
    "server",
]

_HOMES = {
    "MemoryServer": "memory",
    "NatsServer": "nats_server",
    "arun": "handler_run",
    "run": "handler_run",
    "run_virtually": "virtual_time",
    "server": "nats_server",
}


def pytest_configure(config: Any) -> None:
    """Register the fixtures. pytest calls this in every project that has the package, so nothing is imported before."""
    from ajc.testing import fixtures  # noqa: PLC0415

    config.pluginmanager.register(fixtures, "ajc-fixtures")


if not TYPE_CHECKING:  # else every name would pass for one of ours

    def __getattr__(name: str) -> Any:
        # Imported when first used: see pytest_configure.
        from importlib import import_module  # noqa: PLC0415

        if name in __all__:
            value = globals()[name] = getattr(import_module(f"ajc.testing.{_HOMES.get(name, 'fixtures')}"), name)
            return value
        raise AttributeError(f"module 'ajc.testing' has no attribute {name!r}")
