"""Tables: nothing that people copy is broken, however narrow the terminal is."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
from command_line import PROGRAM, SECONDS, CommandLine

from ajc.client import connect
from ajc.subjects import dlq_subject
from ajc.task_records import read_task, save_task

ERROR = "smtp: the mailbox of the recipient is full, and the server said that it will be for days"


def on_a_terminal(cli: CommandLine, columns: int, *arguments: str) -> list[str]:
    """Run a command whose stdout is a terminal of so many columns; return its lines, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in cli.env.items() if name not in {"COLUMNS", "LINES"}} | {"TERM": "xterm"}
    done = subprocess.run(
        [*PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=env,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        written += part
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", written.decode())
    return [line.rstrip() for line in text.splitlines()]


@pytest.fixture
def failed(cli: CommandLine) -> str:
    """A task with a long error, and its dead letter."""
    cli.ok("queue", "add", "NEWSLETTER")
    task_id = cli.ok("task", "add", "newsletter:send", "-q", "NEWSLETTER").out.strip()

    async def fail() -> None:
        async with connect(cli.url) as client:
            record = await read_task(client.connection, task_id)
            task = record.task.replace(state="terminated", tries=3, last_err=ERROR)
            await save_task(client.connection, task, record.revision)
            told = {
                "Reason": "result_too_large",
                "Error": f"{ERROR}\nmore",
                "Tries": "3",
                "Time": "2026-11-24T00:00:00Z",
            }
            headers = "".join(f"AJ-Dlq-{name}: {value!r}\r\n" for name, value in told.items()).replace("'", "")
            headers += f"AJ-Task-Id: {task_id}\r\nAJ-Task-Type: newsletter:send\r\nAJ-Queue: NEWSLETTER\r\n"
            subject = dlq_subject("NEWSLETTER", task_id)
            await client.connection.stored(subject, task.encode(), headers=f"NATS/1.0\r\n{headers}\r\n".encode())

    asyncio.run(fail())
    return task_id


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_a_task_and_a_dead_letter_are_one_line_each(cli: CommandLine, failed: str, columns: int) -> None:
    head, *tasks = on_a_terminal(cli, columns, "task", "ls", "--queue", "NEWSLETTER", "--limit", "1")
    (task,) = tasks
    for whole in (failed, "newsletter:send", "terminated"):
        assert whole in task.split()
    assert len(task) <= columns
    assert ("CREATED" in head) == (columns == 200)
    assert (ERROR in task) == (columns == 200)
    assert ("smtp: the" in task and task.endswith("…")) == (columns in {80, 100})
    head, *letters = on_a_terminal(cli, columns, "dlq", "ls", "--queue", "NEWSLETTER", "--limit", "1")
    assert len(letters) == 1
    (letter,) = letters
    for whole in ("newsletter:send", "result_too_large"):
        assert whole in letter.split()
    assert re.fullmatch(r"\w{27}", letter.split()[0])


def test_the_columns_that_a_narrow_terminal_has_no_room_for_are_left_out(own_server, tmp_path) -> None:
    cli = CommandLine(own_server.url, tmp_path)
    cli.ok("queue", "add", "NEWSLETTER")
    cli.ok("task", "add", "newsletter:unsubscribe:all", "-q", "NEWSLETTER")
    head, *rows = on_a_terminal(cli, 80, "handlers", "ls")
    assert head.split() == ["TYPE", "SERVED", "WAITING", "INSTANCES", "CAPACITY", "REQUESTS"]
    assert [row.split()[:3] for row in rows] == [["newsletter:unsubscribe:all", "unknown", "1"]]
    assert max(map(len, (head, *rows))) <= 80
    head, *rows = on_a_terminal(cli, 80, "queue", "ls")
    assert "PRIORITY" not in head.split()
    assert "NEWSLETTER" in {row.split()[0] for row in rows}


def test_what_must_be_there_is_whole_where_there_is_no_room_at_all(cli: CommandLine, failed: str) -> None:
    _, *tasks = on_a_terminal(cli, 20, "task", "ls", "--queue", "NEWSLETTER", "--limit", "1")
    assert len(tasks) == 1  # the terminal itself goes on below
    assert failed in tasks[0].split()
