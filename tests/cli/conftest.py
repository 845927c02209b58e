"""One command line a test, against the worker's shared server."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from command_line import CommandLine


@pytest.fixture
def cli(server: Any, tmp_path: Path) -> Iterator[CommandLine]:
    made = CommandLine(server.url, tmp_path)
    yield made
    made.end()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line where nobody listens."""
    made = CommandLine("nats://127.0.0.1:1", tmp_path)
    yield made
    made.end()


@pytest.fixture
def queue(cli: CommandLine) -> str:
    """A queue of this test's own."""
    name = f"Q{secrets.token_hex(4)}"
    cli.ok("queue", "add", name)
    return name


@pytest.fixture
def kind() -> str:
    """A task type that no other test uses."""
    return f"t{secrets.token_hex(4)}"
