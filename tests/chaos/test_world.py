"""The processes of a chaos run come up where ports are taken, and none of them is left."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from chaos import world
from chaos.world import STARTS, World


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Let the first so many choices of ports name one that somebody listens on, as the last member's."""
    choose = world.free_ports
    listening = socket.create_server(("127.0.0.1", 0))

    def first(times: int) -> None:
        left = [listening.getsockname()[1]] * times
        monkeypatch.setattr(world, "free_ports", lambda n: [*choose(n - 1), left.pop()] if left else choose(n))

    with listening:
        yield first


def test_a_cluster_is_started_with_other_ports_where_one_is_taken(tmp_path: Path, taken: Callable[[int], None]) -> None:
    before = children()
    taken(STARTS - 1)
    with World(tmp_path, 3) as made:
        assert all(server.running for server in made.servers)
    assert children() == before


def test_a_cluster_that_cannot_start_leaves_nothing_behind(tmp_path: Path, taken: Callable[[int], None]) -> None:
    before = children()
    taken(STARTS)
    with pytest.raises(RuntimeError, match="did not start"), World(tmp_path, 3):
        pass
    assert children() == before
