"""`make polyglot`, with the examples that need nothing but Python and a shell; and with ones that are wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polyglot.examples import find
from polyglot.load import shares
from polyglot.processes import Processes

DRIVER = Path(__file__).parent / "driver.py"
HERE = {"ajc-bridge", "cat", "python", "python3", "sh"}
"""What is there wherever the tests are."""
PLAIN = [example for example in find() if set(example.settings.needs) <= HERE]


@pytest.fixture(autouse=True)
def logs_are_kept_with_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A run that finds something wrong leaves its logs in the folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("logs")))


def drive(*arguments: str, **environment: str) -> tuple[int, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AJC_", "NATS_"))}
    ended = subprocess.run(
        [sys.executable, str(DRIVER), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        env=kept | environment,
        check=False,
    )
    return ended.returncode, ended.stdout


def write(folder: Path, start: str, *, needs: str = '["sh"]', build: str = "") -> None:
    folder.mkdir(parents=True)
    text = f"language = \"Wrong\"\nlevel = \"L0\"\nneeds = {needs}\nbuild = '{build}'\nstart = '{start}'\n"
    (folder / "polyglot.toml").write_text(text)


@pytest.mark.slow
def test_all_that_need_nothing_but_python_and_a_shell_are_as_they_must_be() -> None:
    assert "shell" in {example.name for example in PLAIN}
    only = [argument for example in PLAIN for argument in ("--only", example.name)]
    code, said = drive(*only, "--tasks", "600", AJC_REQUIRE_ALL="1")
    assert code == 0, said
    for example in PLAIN:
        assert example.settings.language in said
    assert "600 tasks in" in said
    assert "no process is left" in said


@pytest.mark.slow
def test_a_wrong_result_is_told_by_the_kit_and_by_the_load(tmp_path: Path) -> None:
    write(tmp_path / "wrong", 'exec ajc-bridge exec "$AJC_FAMILY:echo" -- tr a-z A-Z')
    code, said = drive("--folder", str(tmp_path), "--tasks", "40")
    assert code == 1, said
    assert "wrong is not L0" in said
    assert "EXEC-10" in said
    assert "wrong-00000: complete b'WRONG-00000 0\\n'" in said
    assert "not everything is as it must be" in said


def test_what_is_missing_is_left_out_unless_all_are_required(tmp_path: Path) -> None:
    write(tmp_path / "absent", "exec no-such-program", needs='["no-such-program"]')
    code, said = drive("--folder", str(tmp_path))
    assert "absent: left out, there is no no-such-program" in said
    assert code == 1, "nothing was left to run"
    code, said = drive("--folder", str(tmp_path), AJC_REQUIRE_ALL="1")
    assert code == 1
    assert "absent cannot be built" in said


def test_a_build_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    write(tmp_path / "broken", "exec true", build="echo it is full of holes; exit 3")
    code, said = drive("--folder", str(tmp_path))
    assert code == 1
    assert "exit 3` ended with 3" in said
    assert "it is full of holes" in said


def test_an_unknown_example_is_a_matter_of_usage() -> None:
    code, said = drive("--only", "cobol")
    assert code == 2
    assert "shell" in said


def test_the_shares_are_all_the_tasks() -> None:
    for tasks in (10_000, 601, 7):
        divided = shares(find(), tasks)
        assert sum(len(share.results) for share in divided) == tasks
        assert all(share.results for share in divided) or tasks < len(divided)
    quick = {len(share.results) for share in shares(find(), 10_000) if share.example.settings.level != "L0"}
    assert max(quick) - min(quick) < len(find())


async def test_a_process_that_stays_is_found_and_its_group_is_not(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    await processes.start("stays", ["sh", "-c", "setsid sleep 20 & exec sleep 20"], tmp_path)
    while [one.partition(": ")[2] for one in processes._marked()] != ["sleep 20"] * 2:
        await asyncio.sleep(0.02)
    await processes.kill("stays")
    (stayed,) = await processes.left()
    assert stayed.endswith("sleep 20")
    os.kill(int(stayed.partition(":")[0]), signal.SIGKILL)
    assert await processes.left() == []
