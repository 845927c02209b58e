"""The SDK's wheel, built and installed alone, passes the SDK's own tests without the bridge."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT_THE_BRIDGE = [
    "context",
    "queue",
    "stream_config",
    "payloads",
    "testing",
    "client",
    "enqueue_many",
    "stored_message",
    "responder",
    "responder_beats",
    "responder_cancel",
    "responder_service",
]

NO_BRIDGE = """
import importlib.abc, os, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "ajc_bridge":
            raise ImportError("the SDK must not need the bridge")

sys.meta_path.insert(0, Refuse())

def pytest_configure(config):
    import ajc
    assert ajc.__file__.startswith(os.environ["INSTALLED"]), ajc.__file__
"""


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
def test_the_wheel_alone(tmp_path: Path) -> None:
    dist, site = tmp_path / "dist", tmp_path / "site"
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist), cwd=ROOT / "sdk")
    (wheel,) = dist.glob("ajc_sdk-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"ajc/py.typed", "ajc/testing/__init__.py", "ajc/__main__.py"} <= set(names)
    assert {name.partition("/")[0] for name in names if not name.startswith("ajc_sdk-")} == {"ajc"}

    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    run(*pip, cwd=tmp_path)
    (site / "no_bridge.py").write_text(NO_BRIDGE)
    tests = [str(ROOT / "tests" / "sdk" / f"test_{name}.py") for name in WITHOUT_THE_BRIDGE]
    run(
        *(sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", "-p", "no_bridge", "-p", "no:cacheprovider", *tests),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(site), "INSTALLED": str(site)},
    )
