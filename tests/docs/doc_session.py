"""A reader who does what a document says, in an empty folder, in several terminals at once."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from doc_blocks import Block

from ajc_bridge.cli.children import find_server

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
READY = ("serving", "queue.bound", "queue is served")
SECONDS = 60.0
PROBES = re.compile(r"127\.0\.0\.1:808[89]")


class Session:
    """Runs blocks. What a block says of the default ports is meant of the latest server and probes started here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ""
        self.probes = ""
        self._terminals: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("AJC_", "NATS_", "PYTEST_", "XDG_"))
        }
        self.environment |= {
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / ".config"),
            "PATH": os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]]),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
        }
        if shutil.which("curl") is None:
            self._make_curl()

    def _make_curl(self) -> None:
        """Give a machine without curl one that can do what the documents ask of it."""
        program = self.folder / "bin" / "curl"
        program.parent.mkdir()
        program.write_text(
            f"#!{sys.executable}\nimport sys, urllib.request as u\n"
            "print(u.urlopen(sys.argv[-1], timeout=10).read().decode(), end='')\n"
        )
        program.chmod(0o755)

    def do(self, block: Block) -> None:
        """Do what one block says; an AssertionError tells what went wrong."""
        if block.file:
            target = self.folder / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            text = PROBES.sub("127.0.0.1:0", block.text) if block.language == "toml" else block.text
            target.write_text(self._here(text), encoding="utf-8")
        match block.language:
            case "sh" if "background" in block.words:
                self.open_terminal(block.text.strip())
            case "sh":
                self.run(block.text)
            case "python" if block.file:
                compile(block.text, block.file, "exec")
            case "python":
                script = self.folder / f"line_{block.line}.py"
                script.write_text(self._here(block.text), encoding="utf-8")
                said = self.run(f"python {script.name}").splitlines()
                promised = re.findall(r"^ *print\(.*\)  # (.+)$", block.text, re.MULTILINE)
                assert [line for line in said if line in promised] == promised, f"{block.text}\nprinted:\n{said}"
            case "toml":
                self._check_configuration(block)
            case "json":
                json.loads(block.text)
            case "ini":
                configparser.ConfigParser(strict=True).read_string(block.text)
            case "conf":
                self._check_server_configuration(block)
            case _:
                pass

    def run(self, text: str) -> str:
        """Run commands as a shell would, and return what they wrote; some are only looked at."""
        commands = [line for line in self._here(text).splitlines() if not look_only(line)]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{said}\n{self._terminals_said()}"
        return said

    def open_terminal(self, command: str, folder: Path | None = None, *, ready: bool = True) -> None:
        """Start what keeps running, and wait until it says that it serves (unless it never says)."""
        is_server = command.startswith("ajc-bridge dev")
        if is_server:
            command += " --port 0 --listen 127.0.0.1:0"
        output = self.folder / f"terminal-{len(self._terminals)}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self._here(command)}"],
                cwd=folder or self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._terminals.append((process, output))
        until = time.monotonic() + SECONDS
        while ready and not any(word in output.read_text(errors="replace") for word in READY):
            assert process.poll() is None, f"{command}\nended:\n{output.read_text(errors='replace')}"
            assert time.monotonic() < until, f"{command}\nnever served:\n{output.read_text(errors='replace')}"
            time.sleep(0.02)
        said = output.read_text(errors="replace")
        if is_server and (url := re.search(r"nats://127\.0\.0\.1:\d+", said)):
            self.server = self.environment["NATS_URL"] = url.group()
        if url := re.search(r"http://(127\.0\.0\.1:\d+)", said):
            self.probes = url.group(1)

    def close(self) -> None:
        """End every terminal, the last one first, and make sure of it."""
        for process, _ in reversed(self._terminals):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _here(self, text: str) -> str:
        if self.server:
            text = text.replace("nats://127.0.0.1:4222", self.server)
        return PROBES.sub(self.probes, text) if self.probes else text

    def _check_configuration(self, block: Block) -> None:
        tomllib.loads(block.text)
        file = self.folder / f"line_{block.line}.toml"
        file.write_text(block.text, encoding="utf-8")
        check = "import sys, pathlib; from ajc_bridge.config import load_config; load_config(pathlib.Path(sys.argv[1]))"
        self.run(f'python -W error -c "{check}" {file.name}')

    def _check_server_configuration(self, block: Block) -> None:
        file = self.folder / f"line_{block.line}.conf"
        file.write_text(block.text.replace("/var/lib/nats", str(self.folder / "store")), encoding="utf-8")
        passwords = dict.fromkeys(re.findall(r"\$([A-Z]+_PASSWORD)", block.text), "secret")
        command = [find_server(), "-t", "-c", str(file)]
        done = subprocess.run(command, env=self.environment | passwords, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _terminals_said(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for _, path in self._terminals)


def look_only(line: str) -> bool:
    """Tell whether a command is not run here, only checked: `make`, `docker compose`, benches, the activation."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return False  # a part of something longer
    match words[:2]:
        case ["make", _]:
            subprocess.run([*words, "--dry-run"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        case ["docker", "compose"]:
            assert (ROOT / "docker-compose.yml").exists()
        case [".venv/bin/python", program]:
            told = subprocess.run(
                [sys.executable, program, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            for option in words[2:]:
                assert not option.startswith("-") or option in told.stdout, f"{program} has no {option}"
        case [".", ".venv/bin/activate"]:
            pass
        case _:
            return False
    return True
