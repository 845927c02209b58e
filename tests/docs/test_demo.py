"""The demonstration: what it expects is seen, and it leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from demo.scenes import SCENES, Ending
from demo.screen import verdict

ROOT = Path(__file__).parent.parent.parent


class Watched:
    """A process and everything it ever started, as far as a look every 20 ms can tell."""

    def __init__(self, command: list[str], output: Path) -> None:
        self.folder = output.parent / "temporary"
        self.folder.mkdir()
        environment = os.environ | {"TMPDIR": str(self.folder)}
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self._seen: dict[int, psutil.Process] = {}

    def look(self) -> int:
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._seen.setdefault(child.pid, child)
        except psutil.NoSuchProcess:
            pass
        return len(self._seen)

    def until_ended(self, seconds: float) -> int:
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < until, f"still running after {seconds} s"
            self.look()
            time.sleep(0.02)
        return self.process.returncode

    def left(self) -> list[int]:
        return [
            pid for pid, child in self._seen.items() if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    def kill(self) -> None:
        for child in self._seen.values():
            if child.is_running():
                child.kill()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.mark.slow
def test_the_demonstration_sees_what_it_expects(tmp_path: Path) -> None:
    output = tmp_path / "output"
    demo = Watched([sys.executable, "-m", "demo"], output)
    try:
        code = demo.until_ended(60)
        said = output.read_text()
        assert code == 0, said
        assert said.count(" ok ") == 9, said
        assert "everything ended as it must" in said
        assert demo.look() >= 5  # a server, a bridge, three responders, and what they started
        assert demo.left() == []
        assert list(demo.folder.iterdir()) == []
    finally:
        demo.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demonstration_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    output = tmp_path / "output"
    demo = Watched([sys.executable, "-m", "demo"], output)
    try:
        until = time.monotonic() + 30
        while "three responders" not in output.read_text():
            assert time.monotonic() < until, output.read_text()
            assert demo.process.poll() is None, output.read_text()
            demo.look()
            time.sleep(0.02)
        assert demo.look() >= 5
        demo.process.send_signal(number)
        code = demo.until_ended(20)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), output.read_text()
        # after SIGKILL the kernel tells the children, and they need a moment
        until = time.monotonic() + 20
        while demo.left() and time.monotonic() < until:
            time.sleep(0.05)
        assert demo.left() == []
        if number != signal.SIGKILL:  # which leaves no time for its folder
            assert list(demo.folder.iterdir()) == []
    finally:
        demo.kill()


def test_a_difference_is_a_failure() -> None:
    first = SCENES[0]
    rows = [(scene, Counter({scene.ending: scene.count}), scene.count) for scene in SCENES]
    assert verdict(rows)[1]
    rows[0] = (first, Counter({first.ending: first.count - 1, Ending("retry", 1): 1}), first.count)
    assert not verdict(rows)[1]
    rows[0] = (first, Counter({first.ending: first.count}), first.count - 1)
    assert not verdict(rows)[1]
