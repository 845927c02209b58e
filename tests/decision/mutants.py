"""Mutation testing of decision/: `python tests/decision/mutants.py`, or `make mutants`. Fails under 95 % killed.

Works on a copy in ./mutants (which git ignores): the sources, the tables of this folder, and what they read. The
arbitrary histories are left out: they would kill too, but slowly. A survivor must be explained in SURVIVORS.md, by its
change.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPY = ROOT / "mutants"
EXPLAINED = Path(__file__).parent / "SURVIVORS.md"
LEAST_KILLED = 0.95
SECONDS = 14 * 60
SETTINGS = """[mutmut]
source_paths=src
only_mutate=src/ajc_bridge/decision/*.py
also_copy=
    docs
pytest_add_cli_args=
    -p
    no:cacheprovider
    -p
    no:ajc
    --import-mode=importlib
pytest_add_cli_args_test_selection=
    tests
max_stack_depth=-1
use_git_change_detection=false
timeout_constant=3
"""
LEFT_OUT = ("test_histories.py", "tiny_world.py", "test_purity.py", "mutants.py")


def prepare() -> None:
    """Lay out the copy that is mutated."""
    shutil.rmtree(COPY, ignore_errors=True)
    package = ROOT / "bridge" / "src" / "ajc_bridge"
    left_out = shutil.ignore_patterns("__pycache__", *LEFT_OUT)
    shutil.copytree(package / "decision", COPY / "src" / "ajc_bridge" / "decision", ignore=left_out)
    shutil.copy(package / "__init__.py", COPY / "src" / "ajc_bridge")
    shutil.copytree(Path(__file__).parent, COPY / "tests" / "decision", ignore=left_out)
    for read in ("tests/vectors/retry_policies.json", "docs/lifecycle.md"):
        (COPY / read).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / read, COPY / read)
    (COPY / "setup.cfg").write_text(SETTINGS)


def mutmut(*arguments: str, shown: bool = False) -> str:
    """Run mutmut in the copy; gives its output, unless it is shown. Its workers end with it."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    output = None if shown else subprocess.PIPE
    with subprocess.Popen(command, cwd=COPY, text=True, stdout=output, start_new_session=True) as process:
        try:
            text, _ = process.communicate(timeout=SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise SystemExit(f"mutmut {arguments[0]} ended with {process.returncode}")
    return text or ""


def survivors() -> list[str]:
    """The names of the mutants that no test killed."""
    found = re.findall(r"^\s*(\S+): (survived|no tests|suspicious|skipped)$", mutmut("results"), re.MULTILINE)
    return [name for name, _ in found]


def change_of(name: str) -> str:
    """What a mutant changes, as `file: old -> new`, which outlives a renumbering."""
    lines = mutmut("show", name).splitlines()
    changed = [line for line in lines if re.match(r"[-+](?![-+])", line)]
    old = " ".join(line[1:].strip() for line in changed if line[0] == "-")
    new = " ".join(line[1:].strip() for line in changed if line[0] == "+")
    return f"{name.split('.')[2]}: `{old}` -> `{new}`"


def main() -> int:
    """Mutate, test, and say what survived."""
    prepare()
    mutmut("run", "--max-children", str(os.cpu_count() or 2), shown=True)
    mutmut("export-cicd-stats")
    stats = json.loads((COPY / "mutants" / "mutmut-cicd-stats.json").read_text())
    killed = stats["killed"] + stats["timeout"] + stats.get("segfault", 0)
    total = stats["total"]
    explained = EXPLAINED.read_text() if EXPLAINED.exists() else ""
    changes = [change_of(name) for name in survivors()]
    unexplained = [change for change in changes if change not in explained]
    for change in changes:
        print("survived, unexplained:" if change in unexplained else "survived, explained:", change)
    share = killed / total
    print(f"mutants of decision/: {killed} of {total} killed, {share:.1%} (at least {LEAST_KILLED:.0%})")
    return 1 if share < LEAST_KILLED or unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
