"""The command line as people run it: processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "ajc_bridge"]
SECONDS = 30.0


class Done:
    """A command that has ended."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.raw = out
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    @property
    def json(self) -> Any:
        """The one JSON document that was printed."""
        return json.loads(self.out)


class CommandLine:
    """Runs `ajc-bridge` against one server, in a folder of its own and with a clean environment."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "AJ"))}
        self.env = {
            **kept,
            "NATS_URL": url,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "TMPDIR": str(folder),
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *arguments: object, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        """Run to the end."""
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.env, **(env or {})},
            timeout=SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: object, stdin: bytes = b"") -> Done:
        """Run to the end, which must be good."""
        done = self(*arguments, stdin=stdin)
        assert done.code == 0, f"{arguments}: {done.code}\n{done.err}{done.out}"
        return done

    def start(self, *arguments: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command that goes on; ended with the test at the latest. Its stderr is in `<pid>.err`."""
        log = self.folder / f"process{len(self.started)}.err"
        with log.open("wb") as err:
            process = subprocess.Popen(
                [*PROGRAM, *map(str, arguments)],
                cwd=self.folder,
                env={**self.env, **(env or {})},
                stdout=subprocess.PIPE,
                stderr=err,
                **options,
            )
        process.log = log  # type: ignore[attr-defined]
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kill what was started and still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until the condition holds, and return what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def told(process: subprocess.Popen[bytes], text: str) -> str:
    """Wait until a started command has said so on stderr; return all it said."""
    log: Path = process.log  # type: ignore[attr-defined]

    def said() -> str:
        assert process.poll() is None or text in log.read_text(), log.read_text()
        return log.read_text() if text in log.read_text() else ""

    try:
        return str(until(said, f"{text!r} on stderr"))
    except AssertionError:
        raise AssertionError(f"never said {text!r} but:\n{log.read_text()}") from None
