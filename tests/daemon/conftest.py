"""One server and one bridge for all cheap tests of a worker: each test has types and ids of its own."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bridge_process import BridgeProcess
from outside import World, world_of

CONFIG = """
[bridge]
concurrency = 400
[queues.MAIN]
lease = "10s"
max_run_time = "30s"
max_concurrent = -1
backoff = "quick"
[queues.SLOW]
lease = "10s"
max_run_time = "30s"
max_concurrent = -1
backoff = "slow"
[queues.CAP2]
max_tries = 2
lease = "10s"
max_concurrent = -1
backoff = "quick"
[queues.SHORT]
max_run_time = "1s"
max_concurrent = -1
backoff = "slow"
[queues.BEAT]
lease = "2s"
max_run_time = "3s"
max_concurrent = -1
backoff = "slow"
[queues.LEASE]
lease = "2s"
max_run_time = "1m"
max_concurrent = -1
backoff = "quick"
[queues.PLAIN]
max_concurrent = -1
[queues.STEPS]
max_concurrent = -1
backoff = "steps"
[queues.JITTER]
max_concurrent = -1
backoff = "jitter"
[queues.GO1H]
max_concurrent = -1
backoff = "1h"
[backoff.steps]
steps = ["1h", "2h", "3h"]
jitter = 0
[backoff.jitter]
steps = ["100m"]
jitter = 0.5
[backoff.quick]
steps = ["300ms"]
jitter = 0
[backoff.slow]
steps = ["1h"]
jitter = 0
[retention]
terminated = "2h"
"""
MAX_PAYLOAD = 65_536


class Site:
    """A server with a bridge; tests open worlds on it."""

    def __init__(self, server: Any, bridge: BridgeProcess) -> None:
        self.server = server
        self.bridge = bridge

    @property
    def url(self) -> str:
        return str(self.server.url)

    def world(self) -> Any:
        return world_of(self.url, self.bridge)


def server_class(config: pytest.Config) -> Any:
    """`NatsServer` of the root conftest, which is no module that could be imported by name."""
    return next(found.NatsServer for found in config.pluginmanager.get_plugins() if hasattr(found, "NatsServer"))


def _make_site(request: pytest.FixtureRequest, name: str, **env: str) -> Iterator[Site]:
    folder = request.getfixturevalue("tmp_path_factory").mktemp(name)
    server = server_class(request.config)(folder, f"max_payload: {MAX_PAYLOAD}").start()
    bridge = BridgeProcess(folder / "bridge", server.url, CONFIG, env=env).start()
    try:
        bridge.wait_ready()
        yield Site(server, bridge)
        assert bridge.running, f"the shared bridge ended with {bridge.exit_code()}:\n{bridge.tail()}"
    finally:
        bridge.stop()
        server.stop()


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The shared bridge, with the queues of `CONFIG`."""
    yield from _make_site(request, "site")


@pytest.fixture(scope="session", params=["fast", "public"])
def either_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The shared bridge on the fast client, and one on nats-py's public interface."""
    if request.param == "fast":
        yield request.getfixturevalue("site")
    else:
        yield from _make_site(request, "public", AJC_FAST="0")


@pytest.fixture
def make_bridge(tmp_path: Path) -> Iterator[Callable[..., BridgeProcess]]:
    """Bridges of the test's own: make_bridge(url, config, …) is started already."""
    made: list[BridgeProcess] = []

    def make(url: str, config: str = "", *, start: bool = True, **options: Any) -> BridgeProcess:
        made.append(BridgeProcess(tmp_path / f"bridge{len(made)}", url, config, **options))
        return made[-1].start() if start else made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def kind() -> str:
    """A task type that no other test uses."""
    return f"t{secrets.token_hex(6)}"


__all__ = ["World"]
