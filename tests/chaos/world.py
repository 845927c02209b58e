"""The processes of a chaos run: nats-servers that may be killed and started again on their ports, and programs beside.

Each is ended by its own process id; leaving the world ends them all.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

STARTS = 3
"""A cluster that does not start is started so often with other ports."""


class Program:
    """One child process, with its output in a file of its own."""

    def __init__(self, name: str, command: list[str], folder: Path, env: dict[str, str] | None = None) -> None:
        self.name, self.command, self.folder = name, command, folder
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("AJC_")} | (env or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, **env: str) -> Program:
        assert not self.running
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder, env=self.env | env)
        self.stopped = False
        return self

    def send(self, number: int) -> None:
        """Send a signal if it still runs."""
        if self.running:
            assert self.process is not None
            self.process.send_signal(number)
            self.stopped = (self.stopped or number == signal.SIGSTOP) and number != signal.SIGCONT

    def wait(self, seconds: float) -> int:
        """The exit code; a process that does not end in time is killed."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Server(Program):
    """nats-server with JetStream; the port is its own choice, and kept over restarts.

    With `routes` (the cluster ports of all its members, its own first) it is one of a cluster.
    """

    def __init__(self, folder: Path, name: str = "nats-server", routes: Sequence[int] = ()) -> None:
        beside = Path(sys.executable).parent / "nats-server"
        binary = str(beside) if beside.exists() else shutil.which("nats-server")
        if binary is None:
            raise RuntimeError("no nats-server beside this interpreter or on PATH")
        self.port = -1
        self.ports = folder / f"{name}.ports"
        self.store = folder / f"{name}.store"
        self.binary = binary
        self.cluster: list[str] = []
        if routes:
            urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
            self.cluster = ["-n", name, "--cluster_name", "chaos", "--cluster", f"nats://127.0.0.1:{routes[0]}"]
            self.cluster += ["--routes", urls]
        super().__init__(name, [], folder)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self, **env: str) -> Server:
        shutil.rmtree(self.ports, ignore_errors=True)
        self.ports.mkdir(parents=True)
        self.command = [self.binary, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.store)]
        self.command += ["--ports_file_dir", str(self.ports), *self.cluster]
        super().start(**env)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.running:
            for file in self.ports.glob("*.ports"):
                try:
                    self.port = int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
                except (ValueError, KeyError):
                    continue  # the file is being written
                return self
            time.sleep(0.02)
        raise RuntimeError(f"nats-server did not start: {self.log.read_text()[-1000:]}")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def make_servers(folder: Path, count: int) -> list[Server]:
    """One server, or the members of a cluster; none of them runs."""
    routes = free_ports(count) if count > 1 else []
    return [
        Server(folder, f"nats-server{number or ''}", [*routes[number:], *routes[:number]]) for number in range(count)
    ]


class World:
    """A server, or a cluster of several, and any number of programs, all ended when the block is left."""

    def __init__(self, folder: Path, servers: int = 1) -> None:
        self.folder = folder
        self.servers = make_servers(folder, servers)
        self.programs: list[Program] = []
        self._starts = 0

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def __enter__(self) -> Self:
        while True:
            try:
                for server in self.servers:
                    server.start()
            except BaseException as error:
                self.__exit__(None, None, None)
                self._starts += 1
                # the ports of a cluster's routes were free when they were chosen, and may be somebody's since
                if not isinstance(error, RuntimeError) or len(self.servers) == 1 or self._starts == STARTS:
                    raise
                self.servers = make_servers(self.folder, len(self.servers))
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in (*self.programs, *self.servers):
            program.send(signal.SIGCONT)
            program.kill()

    def add(self, name: str, *arguments: str, **env: str) -> Program:
        """A Python program of ours (arguments as after `python`), not started yet."""
        program = Program(name, [sys.executable, *arguments], self.folder, env)
        self.programs.append(program)
        return program

    def bridge(self, name: str, queues: str, env: dict[str, str] | None = None, head: str = "") -> Program:
        """The daemon with a configuration of its own. `queues`: TOML for the queues; `head`: further sections."""
        config = self.folder / f"{name}.toml"
        config.write_text(
            f'[nats]\nurl = "{",".join(self.urls)}"\n[http]\nlisten = "off"\n[log]\nformat = "json"\n{head}\n{queues}\n'
        )
        return self.add(name, "-m", "ajc_bridge", "run", "--config", str(config), **(env or {}))
