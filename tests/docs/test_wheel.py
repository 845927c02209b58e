"""The sdk's wheel, alone: it installs, and passes the sdk's own tests where there is no bridge."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_sdk_passes_its_tests_without_the_bridge(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "sdk", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    alone = tmp_path / "alone"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(alone)
    # the dependencies as they are installed; without a site, the editable packages' .pth files count for nothing
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
        "PYTHONPATH": os.pathsep.join([str(alone), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    python = [sys.executable, "-S"]
    where = "import ajc, importlib.util; assert importlib.util.find_spec('ajc_bridge') is None; print(ajc.__file__)"
    found = subprocess.run([*python, "-c", where], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(str(alone))
    several = ["--dist", "load", "--tx", f"4*popen//python={' '.join(python)}"]
    done = subprocess.run(
        [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *several, "tests/wire", "tests/sdk"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
