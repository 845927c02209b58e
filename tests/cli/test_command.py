"""A command run to its end: bounded, in a session of its own, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from ajc.errors import Busy, Retry, Terminate
from ajc_bridge.cli.command import Ended, own_environment, run_command
from ajc_bridge.cli.exec import result_of


async def run(
    *command: str, stdin: bytes = b"", seconds: float = 20, max_output: int = 1 << 20, kill_after: float = 0.2
) -> Ended:
    return await run_command(
        command, stdin, own_environment(), seconds=seconds, max_output=max_output, kill_after=kill_after
    )


def alive(pid_file: Path) -> bool:
    pid = int(pid_file.read_text())
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def gone(pid_file: Path) -> None:
    end = time.monotonic() + 10
    while alive(pid_file):
        assert time.monotonic() < end, "the process lives on"
        await asyncio.sleep(0.01)


async def test_stdin_becomes_stdout() -> None:
    data = os.urandom(300_000)
    ended = await run("cat", stdin=data)
    assert (ended.code, ended.stdout) == (0, data)


async def test_a_command_that_reads_nothing_is_fine() -> None:
    ended = await run("sh", "-c", "echo hi", stdin=b"x" * 1_000_000)
    assert (ended.code, ended.stdout) == (0, b"hi\n")


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("echo one >&2; echo '  two  ' >&2; echo >&2; exit 3", "two"),
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "ended by SIGKILL"),
        ("yes line 2>&1 | head -c 1000000 >&2; echo last >&2; exit 1", "last"),
        (r"printf '\377\n' >&2; exit 1", "\ufffd"),
    ],
)
async def test_the_last_line_of_stderr_is_the_error(script, line) -> None:
    assert (await run("sh", "-c", script)).last_line == line


async def test_the_group_gets_term_at_its_deadline(tmp_path) -> None:
    script = "trap 'echo bye; exit 9' TERM; echo $$ > pid; sleep 100 & wait"
    ended = await run("sh", "-c", f"cd {tmp_path}; {script}", seconds=0.5, kill_after=10)
    assert (ended.late, ended.code, ended.stdout) == (True, 9, b"bye\n")
    await gone(tmp_path / "pid")


async def test_a_command_deaf_to_term_is_killed_with_its_children(tmp_path) -> None:
    script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > child; sleep 100' & echo $$ > pid; sleep 100"
    ended = await run("sh", "-c", f"cd {tmp_path}; {script}", seconds=0.5)
    assert (ended.late, ended.code) == (True, -9)
    await gone(tmp_path / "pid")
    await gone(tmp_path / "child")


async def test_what_a_command_leaves_in_the_background_ends_with_it(tmp_path) -> None:
    began = time.monotonic()
    ended = await run(
        "sh", "-c", f"cd {tmp_path}; sh -c 'echo $$ > child; sleep 100' & while [ ! -s child ]; do :; done; echo hi"
    )
    assert (ended.code, ended.stdout) == (0, b"hi\n")
    assert time.monotonic() - began < 10
    await gone(tmp_path / "child")


async def test_too_much_output_ends_the_command() -> None:
    ended = await run("yes", max_output=10_000)
    assert ended.too_much
    assert len(ended.stdout) <= 10_000


async def test_cancelling_ends_the_command(tmp_path) -> None:
    running = asyncio.create_task(run("sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 100"))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(tmp_path / "pid")


async def test_a_command_that_cannot_start_says_so() -> None:
    with pytest.raises(FileNotFoundError):
        await run("/no/such/command")


async def test_hundreds_of_commands_leave_no_process_and_no_descriptor() -> None:
    await run("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    limit = asyncio.Semaphore(10)

    async def one() -> int:
        async with limit:
            return (await run("sh", "-c", "sleep 100 & cat", stdin=b"x")).code

    assert set(await asyncio.gather(*(one() for _ in range(300)))) == {0}
    await asyncio.sleep(0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    left = [child for child in psutil.Process().children(recursive=True) if "sleep" in child.name()]
    assert left == []


def test_variables_of_another_task_do_not_reach_a_command(monkeypatch) -> None:
    monkeypatch.setenv("AJ_TASK_ID", "other")
    monkeypatch.setenv("MINE", "1")
    assert "AJ_TASK_ID" not in own_environment()
    assert own_environment()["MINE"] == "1"


@pytest.mark.parametrize(
    ("ended", "error", "text"),
    [
        (Ended(65, b"x", b"bad data\n"), Terminate, "bad data"),
        (Ended(69, b"x", b"full\n"), Busy, "full"),
        (Ended(75, b"x", b"later\n"), Retry, "later"),
        (Ended(1, b"x", b""), Retry, "exit code 1"),
        (Ended(-15, b"", b"", late=True), Retry, "the command did not end within its 1.5 s"),
        (Ended(-9, b"", b"", too_much=True), Terminate, "the command wrote more than 10 bytes"),
    ],
)
def test_exit_codes_mean(ended, error, text) -> None:
    with pytest.raises(error) as caught:
        result_of(ended, 10, 1.5)
    assert caught.value.text == text
    assert type(caught.value) is error


def test_exit_code_0_is_the_result() -> None:
    assert result_of(Ended(0, b"\x00out\n", b"warning\n"), 10, 1.5) == b"\x00out\n"
