"""The daemon as a process of its own: started with a configuration, watched by its log lines, probes and metrics."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGCONT, SIGKILL
from typing import Any

START_SECONDS = 30.0
# prometheus-client's own parser gives Go's counters another name
_sample = re.compile(r"(?P<name>[a-zA-Z_:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)").fullmatch
_label = re.compile(r'(\w+)="([^"]*)"')
COMMAND = (sys.executable, "-m", "ajc_bridge", "run", "--config")


class BridgeProcess:
    """`ajc-bridge run` with `config` (TOML; `[nats] url`, `[http] listen` and `[log]` are written by this class)."""

    def __init__(
        self,
        folder: Path,
        url: str,
        config: str = "",
        *,
        env: Mapping[str, str] | None = None,
        nats: str = "",
        level: str = "debug",
        listen: str = "127.0.0.1:0",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "bridge.toml"
        self.log_file = folder / "bridge.log"
        self.env = {**os.environ, **(env or {})}
        self._url = url
        self._nats = nats
        self.level = level
        self._listen = listen
        self._log_start = 0
        self._read_to = 0
        self._entries: list[dict[str, Any]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.write(config)

    def write(self, config: str) -> None:
        """Write the configuration; SIGHUP makes the running process read it."""
        server = f'url = "{self._url}"\n' if self._url else ""
        self.file.write_text(
            f"[nats]\n{server}{self._nats}\n"
            f'[http]\nlisten = "{self._listen}"\n'
            f'[log]\nformat = "json"\nlevel = "{self.level}"\n'
            f"{config}\n"
        )

    def start(self, *, output: int | None = None) -> BridgeProcess:
        """Start it, and do not wait; what it writes goes to the log file, or to this descriptor."""
        self._log_start = self._read_to = self.log_file.stat().st_size if self.log_file.exists() else 0
        self._entries.clear()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, str(self.file)],
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.file.parent,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = SIGKILL) -> int | None:
        """End it whatever it does, and return its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(SIGCONT)
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(5)

    def exit_code(self, seconds: float = 30.0) -> int:
        """Wait for its end."""
        assert self.process is not None
        return self.process.wait(seconds)

    async def ended(self, seconds: float = 30.0) -> int:
        """Wait for its end without holding up the loop."""
        await until(lambda: not self.running, seconds, lambda: f"the bridge still runs:\n{self.tail()}")
        assert self.process is not None
        code = self.process.returncode
        assert code is not None
        return code

    # --- logs -------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """All that it wrote since its last start."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def tail(self) -> str:
        return self.text()[-4000:]

    def logs(self, action: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """The JSON log lines with this action and these fields."""
        with self.log_file.open("rb") as log:
            log.seek(self._read_to)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # half written
                self._read_to += len(line)
                if line.startswith(b"{"):
                    self._entries.append(json.loads(line))
        return [
            entry
            for entry in self._entries
            if (action is None or entry.get("action") == action) and all(entry.get(k) == v for k, v in fields.items())
        ]

    async def log(self, action: str, seconds: float = 20.0, *, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for a log line."""
        await until(
            lambda: len(self.logs(action, **fields)) >= count or not self.running,
            seconds,
            lambda: f"no line {action} {fields}:\n{self.tail()}",
        )
        found = self.logs(action, **fields)
        assert len(found) >= count, f"the bridge ended without a line {action} {fields}:\n{self.tail()}"
        return found[count - 1]

    # --- probes and metrics -----------------------------------------------------------------------------------------

    @property
    def http(self) -> str:
        return str(self.logs("http.listening")[-1]["url"])

    def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        """GET /healthz or /readyz: status and body."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def metric(self, sample: str, **labels: str) -> float:
        """The value of a sample, all label sets that match added up; 0 when there is none."""
        with urllib.request.urlopen(self.http + "/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = 0.0
        for line in text.splitlines():
            match = _sample(line)
            if match and match["name"] == sample:
                given = dict(_label.findall(match["labels"] or ""))
                if all(given.get(label) == value for label, value in labels.items()):
                    found += float(match["value"])
        return found

    def is_ready(self) -> bool:
        """Whether it serves what it shall."""
        if not self.logs("http.listening"):
            return False
        try:
            return self.probe("/readyz")[0] == 200
        except OSError:
            return False

    def wait_ready(self, seconds: float = START_SECONDS) -> BridgeProcess:
        """Wait for /readyz, from a test or fixture that has no loop."""
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            assert self.running, f"the bridge ended with {self.exit_code()}:\n{self.tail()}"
            assert time.monotonic() < deadline, f"the bridge is not ready:\n{self.tail()}"
            time.sleep(0.03)
        return self

    async def ready(self, seconds: float = START_SECONDS) -> BridgeProcess:
        """Wait for /readyz."""
        await until(
            lambda: not self.running or self.is_ready(), seconds, lambda: f"the bridge is not ready:\n{self.tail()}"
        )
        assert self.running, f"the bridge ended:\n{self.tail()}"
        return self


async def until(
    condition: Callable[[], Any], seconds: float = 20.0, say: Callable[[], str] | str = "", *, every: float = 0.02
) -> Any:
    """Wait until the condition holds, and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            text = say if isinstance(say, str) else say()
            raise AssertionError(f"not within {seconds:g} s: {text}")
        await asyncio.sleep(every)
    return value
