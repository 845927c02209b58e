"""One measured run: the contender bound to paused queues, the gate opened, the clock stopped at the last ack."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]
import stage
from wireclient import WireClient, connect

HERE = Path(__file__).parent
Start = Callable[[list[str]], subprocess.Popen[bytes]]  # queues -> the running contender


class Run(NamedTuple):
    tasks: int
    seconds: float
    cpu: float  # the contender's own, seconds
    server_cpu: float
    peak_mb: float

    @property
    def rate(self) -> float:
        return self.tasks / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu / self.tasks * 1e6


class Bench:
    """What the runs share: the server, a connection to it, the responder, a folder for files."""

    def __init__(self, folder: Path, server: stage.Server, client: WireClient) -> None:
        self.folder, self.server, self.client = folder, server, client
        self.log = (folder / "contenders.log").open("ab")
        self.started: list[subprocess.Popen[bytes]] = []
        self.made = 0

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A process of ours; it ends with `stop`, or with the bench at the latest."""
        process = subprocess.Popen([sys.executable, *command], stdout=self.log, stderr=self.log, cwd=self.folder)
        self.started.append(process)
        return process

    async def start_responder(self) -> subprocess.Popen[bytes]:
        process = self.start(str(HERE / "responder.py"), str(self.server.port), "ajc.exec.*")
        await stage.until(self._responder_there, 20)
        return process

    async def _responder_there(self) -> bool:
        headers, body = await self.client.ask(b"bench.responder")
        return not headers and bool(body)

    def stop(self, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.server.stop()
        self.log.close()

    async def new_queues(self, count: int = 1) -> list[str]:
        """Paused queues of names never used before: nothing is left over from an earlier run."""
        self.made += 1
        queues = [f"BENCH{self.made}_{number}" for number in range(count)]
        for queue in queues:
            await stage.make_queue(self.client, queue)
        return queues

    def start_floor(self, queues: list[str], concurrency: int = 200) -> subprocess.Popen[bytes]:
        return self.start(str(HERE / "floor.py"), str(self.server.port), queues[0], str(concurrency))

    def start_coroutine_floor(self, queues: list[str], concurrency: int = 200) -> subprocess.Popen[bytes]:
        return self.start(str(HERE / "floor_coroutines.py"), str(self.server.port), queues[0], str(concurrency))

    def start_bridge(self, queues: list[str], concurrency: int = 200) -> subprocess.Popen[bytes]:
        config = self.folder / f"{queues[0]}.toml"
        lines = [f'[nats]\nurl = "{self.server.url}"', f"[bridge]\nconcurrency = {concurrency}"]
        lines += ['[http]\nlisten = "off"', '[log]\nlevel = "warn"']
        lines += [f"[queues.{queue}]" for queue in queues]
        config.write_text("\n".join(lines) + "\n")
        return self.start("-m", "ajc_bridge", "run", "--config", str(config))

    async def run(self, start: Start, tasks: int, queues: int = 1, seconds: float = 300) -> Run:
        """One contender through `tasks` stored tasks; the records are checked afterwards."""
        names = await self.new_queues(queues)
        ids = await stage.prefill(self.client, names, tasks - queues)
        contender = start(names)
        try:
            await stage.wait_for_pulls(self.client, names, contender)
            spent = cpu_seconds(contender.pid)
            server = cpu_seconds(self.server.process.pid)
            begin = time.monotonic()
            ids += await stage.release(self.client, names)
            await stage.wait_until_empty(self.client, names, seconds)
            took = time.monotonic() - begin
            run = Run(
                tasks,
                took,
                cpu_seconds(contender.pid) - spent,
                cpu_seconds(self.server.process.pid) - server,
                peak_mb(contender.pid),
            )
            await stage.check_results(self.client, ids)
        finally:
            self.stop(contender)
        await stage.remove(self.client, names)
        return run


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def peak_mb(pid: int) -> float:
    """The largest resident size that the process ever had, in MB (Linux: VmHWM); the present one elsewhere."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return float(psutil.Process(pid).memory_info().rss) / 1e6


async def open_bench(folder: Path) -> Bench:
    os.environ.pop("AJC_FAILPOINT", None)
    server = stage.Server(folder / "nats")
    client = await connect(server.port)
    bench = Bench(folder, server, client)
    await stage.make_stores(client)
    await bench.start_responder()
    return bench
