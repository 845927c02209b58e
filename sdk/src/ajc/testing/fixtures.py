"""The pytest fixtures. Nothing but pytest is imported before one of them is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ajc.testing.nats_server import NatsServer


@pytest.fixture
def ajc_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Give this test a nats-server of its own with JetStream, empty: free to be stopped and started again."""
    from ajc.testing.nats_server import server  # noqa: PLC0415

    with server(tmp_path / "ajc-nats") as running:
        yield running


@pytest.fixture(scope="session")
def ajc_session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Give all tests one nats-server with JetStream: use queues and ids of your own."""
    from ajc.testing.nats_server import server  # noqa: PLC0415

    with server(tmp_path_factory.mktemp("ajc-nats")) as running:
        yield running
