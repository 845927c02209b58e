"""What the tests of examples do: build them once, and run their programs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from polyglot.examples import POLYGLOT, Example, lacking, read

_BUILD_SECONDS: Final = 600
_RUN_SECONDS: Final = 60
_END_SECONDS: Final = 20


@cache
def built(name: str) -> Example:
    """Return an example, built; skip the test where its tools are missing, unless AJC_REQUIRE_ALL=1."""
    example = read(POLYGLOT / name)
    if wanted := lacking(example):
        if os.environ.get("AJC_REQUIRE_ALL") == "1":
            pytest.fail(f"{name}: {wanted}")
        pytest.skip(f"{name}: {wanted}")
    # builds write into the example's folder: one at a time, whatever tests run beside this one
    with (Path(tempfile.gettempdir()) / f"polyglot-{os.getuid()}-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = subprocess.run(
            ["sh", "-c", example.settings.build],
            cwd=example.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout
    return example


def run(example: Example, command: list[str], server: Any) -> tuple[int, str, str]:
    """Run a program of an example to its end: exit code, output, errors."""
    ended = subprocess.run(
        command,
        cwd=example.folder,
        env=_environment(server),
        capture_output=True,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@contextmanager
def starting(example: Example, server: Any, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a responder by its start command, and kill it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["sh", "-c", example.settings.start],
            cwd=example.folder,
            env=_environment(server) | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(example: Example, server: Any, log: Path, **environment: str) -> Iterator[None]:
    """Run a responder by its start command, and end it with SIGTERM: it must end with 0."""
    with starting(example, server, log, **environment) as process:
        yield
        process.terminate()
        assert process.wait(_END_SECONDS) == 0, log.read_text()


def _environment(server: Any) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AJC_", "NATS_", "EXEC_"))}
    return kept | {"NATS_URL": server.url}
