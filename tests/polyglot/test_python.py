"""The two Python examples pass the conformance kit at their levels: always run, since nothing has to be built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyglot.examples import POLYGLOT, read


@pytest.mark.slow
@pytest.mark.parametrize("name", ["python-nats", "python-sdk"])
def test_a_python_example_passes_the_kit_at_its_level(name: str) -> None:
    example = read(POLYGLOT / name)
    level = example.settings.level
    beside = str(Path(sys.executable).parent)
    command = [sys.executable, "-m", "ajc_bridge", "conform", name, "--level", level, "--json"]
    done = subprocess.run(
        [*command, "--start", f"sh -c '{example.settings.start}'"],
        cwd=example.folder,
        env={**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}", "AJC_FAMILY": name},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["highest_level"] == level, report
