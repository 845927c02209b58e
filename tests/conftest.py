"""Fixtures every test may use: async tests run on their own loop; real nats-servers on port 0."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, settings

# Tests share the machine: how long one example takes, or how long it takes to make some, says nothing.
settings.register_profile("ajc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ajc")

VECTORS = Path(__file__).parent / "vectors"
TEST_SECONDS = 60


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests on a loop of their own, never longer than a minute."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    marker = pyfuncitem.get_closest_marker("slow")
    seconds = TEST_SECONDS * 3 if marker else TEST_SECONDS
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


def server_binary() -> str:
    """The nats-server of this environment, else the one on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        pytest.fail("no nats-server: run `make setup`")
    return found


class NatsServer:
    """A real nats-server with JetStream on a port of its own choice; kill, stop and start it at will."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.port = -1
        self.process: subprocess.Popen[bytes] | None = None
        self.config = config

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> NatsServer:
        ports = self.folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        conf = self._write()
        command = [
            server_binary(),
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-c",
            str(conf),
            "--ports_file_dir",
            str(ports),
        ]
        self.process = subprocess.Popen(
            command, stdout=(self.folder / "server.log").open("ab"), stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
            for file in ports.glob("*.ports"):
                try:
                    urls = json.loads(file.read_text())["nats"]
                except (ValueError, KeyError):
                    continue
                self.port = int(urls[0].rsplit(":", 1)[1])
                return self
            time.sleep(0.02)
        raise RuntimeError("nats-server did not start in 20 s")

    def _write(self) -> Path:
        conf = self.folder / "server.conf"
        conf.write_text(f'jetstream {{ store_dir: "{self.folder / "store"}" }}\n{self.config}\n')
        return conf

    async def reload(self, config: str) -> None:
        """What an operator does: change the server's file, and tell the server."""
        log, told = self.folder / "server.log", "Reloaded server configuration"
        before, deadline = log.read_text().count(told), time.monotonic() + 20
        self.config = config
        self._write()
        self.signal(signal.SIGHUP)
        while log.read_text().count(told) <= before:
            assert time.monotonic() < deadline, "no reload"
            await asyncio.sleep(0.01)

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            if number != signal.SIGKILL:  # which ends one that was stopped, too, and it answers nothing before
                self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        self.process.wait(20)
        self.process = None

    def signal(self, number: int) -> None:
        """Send a signal. After SIGSTOP it stands still when this returns: the kernel takes a moment for all threads."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        if number == signal.SIGSTOP:
            process, deadline = psutil.Process(self.process.pid), time.monotonic() + 10
            while process.status() != psutil.STATUS_STOPPED:
                assert time.monotonic() < deadline, "it does not stop"
                time.sleep(0.001)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for all tests of this worker: use unique queue names and ids."""
    running = NatsServer(tmp_path_factory.mktemp("nats")).start()
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of this test's own: empty, and free to be killed and restarted (it keeps its port)."""
    folder = tmp_path / "nats"
    folder.mkdir()
    running = NatsServer(folder).start()
    yield running
    running.stop()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Any]:
    """Servers with a configuration of the test's own: make_server("max_payload: 4096")."""
    made: list[NatsServer] = []

    def make(config: str = "") -> NatsServer:
        folder = tmp_path / f"nats{len(made)}"
        folder.mkdir()
        made.append(NatsServer(folder, config).start())
        return made[-1]

    yield make
    for one in made:
        one.stop()


def load_vectors(name: str) -> Any:
    """The parsed golden vectors: a dict with `cases` for .json, a list of cases for .jsonl (line 1 is a preface)."""
    text = (VECTORS / name).read_text()
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()[1:]]
    return json.loads(text)
