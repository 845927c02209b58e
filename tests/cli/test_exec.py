"""`exec`: commands answer tasks, each exit code as promised."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys

import psutil
import pytest
from command_line import CommandLine, told, until

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection, Message
from ajc.exchange import ExecReply, ExecRequest, read_reply
from ajc.instant import Instant
from ajc.task import Task
from ajc_bridge.cli.refusals import REFUSED_SECONDS, Refusals

SCRIPT = 'read code; echo "$AJ_TASK_ID $AJ_TASK_TYPE $AJ_QUEUE $AJ_TRY $AJ_MAX_TRIES"; echo oops >&2; exit $code'


async def ask(
    where: str | Connection, kind: str, payload: bytes, seconds: float = 10.0, task: Task | None = None
) -> tuple[Task, ExecReply]:
    """Send a request as a bridge does, over a connection of its own to a URL, and return its reply."""
    task = task or Task.create(kind, payload, queue="Q").replace(state="active", tries=2)
    request = ExecRequest(
        task_id=task.id,
        type=kind,
        queue="Q",
        try_number=2,
        max_tries=5,
        deadline=Instant.now().plus(int(seconds * 1e9)),
        timeout_ms=int(seconds * 1000),
        body=task.encode(),
    )
    connection = await Connection.open(ConnectOptions(servers=(where,))) if isinstance(where, str) else where
    try:
        reply: Message = await connection.request(
            f"ajc.exec.{kind}", request.body, headers=request.headers(), timeout=20
        )
        return task, read_reply(reply.headers, reply.body)
    finally:
        if connection is not where:
            await connection.close()


async def test_exit_codes_become_replies(cli: CommandLine, kind: str) -> None:
    told(cli.start("exec", kind, "--", "sh", "-c", SCRIPT), f"serving {kind}")
    task, reply = await ask(cli.url, kind, b"0\n")
    assert (reply.kind, reply.body) == ("success", f"{task.id} {kind} Q 2 5\n".encode())
    for code, word in ((75, "error"), (69, "busy"), (65, "terminate"), (3, "error")):
        _, reply = await ask(cli.url, kind, b"%d\n" % code)
        assert (reply.kind, reply.text) == (word, "oops")


async def test_a_task_that_was_refused_is_not_run_again_for_a_second_and_others_are(
    cli: CommandLine, kind: str
) -> None:
    """A bridge asks many times a second for room: each time a process would be too much."""
    runs = cli.folder / "runs"
    script = f"echo $AJ_TASK_ID $(date +%s.%N) >> {runs}; echo full >&2; exit 69"
    told(cli.start("exec", kind, "--", "sh", "-c", script), "serving")
    task, reply = await ask(cli.url, kind, b"")
    other, _ = await ask(cli.url, kind, b"")
    connection = await Connection.open(ConnectOptions(servers=(cli.url,)))
    while len(begun := [line.split() for line in runs.read_text().splitlines()]) < 3:
        _, again = await ask(connection, kind, b"", task=task)
        assert (again.kind, again.text) == (reply.kind, reply.text) == ("busy", "full")
    await connection.close()
    assert [one for one, _ in begun] == [task.id, other.id, task.id]
    first, second = (float(at) for one, at in begun if one == task.id)
    assert second - first >= REFUSED_SECONDS


def test_a_refusal_stands_for_a_second_for_its_own_task() -> None:
    now = 100.0
    refusals = Refusals(lambda: now)
    assert refusals.said("a") is None
    refusals.note("a", "full")
    now += REFUSED_SECONDS / 2
    refusals.note("b", "fuller")
    assert (refusals.said("a"), refusals.said("b"), refusals.said("c")) == ("full", "fuller", None)
    now += REFUSED_SECONDS / 2
    assert (refusals.said("a"), refusals.said("b")) == (None, "fuller")
    refusals.note("a", "again")
    now += REFUSED_SECONDS / 2
    assert (refusals.said("a"), refusals.said("b")) == ("again", None)


async def test_without_a_file_to_open_it_is_busy_and_no_try_is_used(cli: CommandLine, kind: str) -> None:
    responder = cli.start("exec", kind, "--concurrency", 50, "--", "sleep", "2")
    told(responder, "serving")
    psutil.Process(responder.pid).rlimit(psutil.RLIMIT_NOFILE, (40, 40))
    replies = await asyncio.gather(*(ask(cli.url, kind, b"") for _ in range(40)))
    assert {reply.kind for _, reply in replies} == {"success", "busy"}
    refused = next(reply for _, reply in replies if reply.kind == "busy")
    assert refused.text == "sleep cannot be started now: Too many open files"


async def test_beyond_its_concurrency_it_is_busy(cli: CommandLine, kind: str) -> None:
    told(cli.start("exec", kind, "--concurrency", 1, "--", "sleep", "2"), "serving")
    replies = await asyncio.gather(*(ask(cli.url, kind, b"") for _ in range(3)))
    assert sorted(reply.kind for _, reply in replies) == ["busy", "busy", "success"]


async def test_a_command_that_outlives_its_deadline_is_ended(cli: CommandLine, kind: str) -> None:
    script = f"trap 'echo ended > {cli.folder}/trace; exit 1' TERM; sleep 100 & wait"
    responder = cli.start("exec", kind, "--concurrency", 1, "--kill-after", "5s", "--", "sh", "-c", script)
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b"", seconds=2))  # it must have set its trap by then
    while not (cli.folder / "trace").exists():
        await asyncio.sleep(0.02)
    asking.cancel()
    responder.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(responder.wait, 20) == 0


@pytest.mark.parametrize(
    ("trap", "kill_after", "signals"), [("true", "60s", "TERM"), ("trap '' TERM", "300ms", "TERM and KILL")]
)
async def test_what_outlives_its_deadline_is_told(cli: CommandLine, kind: str, trap, kill_after, signals) -> None:
    responder = cli.start("exec", kind, "--kill-after", kill_after, "--", "sh", "-c", f"{trap}; sleep 100 & wait; wait")
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b"", seconds=2))
    said = await asyncio.to_thread(told, responder, f"got {signals}\n")
    assert re.search(rf"task \w+ \({kind}\), try 2: not done within its 2 s; its process group got {signals}\n", said)
    said = await asyncio.to_thread(told, responder, "no reply is sent")
    assert re.search(rf"task \w+ \({kind}\), try 2: the deadline passed after 2 s; no reply is sent", said)
    asking.cancel()


def bridge_with_a_run_time_of_two_seconds(cli: CommandLine, queue: str) -> None:
    """Two seconds are the shortest run time for which a bridge acts on heartbeats."""
    (cli.folder / "bridge.toml").write_text(
        f'[http]\nlisten = "off"\n[queues.{queue}]\nmax_tries = 1\nmax_run_time = "2s"\nlease = "2s"\n'
    )
    told(cli.start("run", "--config", "bridge.toml"), "queue.bound")


@pytest.mark.parametrize("limit", ["60s", "2500ms"])
def test_a_command_may_take_longer_than_the_run_time_where_that_is_said(cli: CommandLine, kind: str, limit) -> None:
    queue = f"Q{kind}"
    bridge_with_a_run_time_of_two_seconds(cli, queue)
    responder = cli.start("exec", kind, "--max-runtime", limit, "--", "sh", "-c", "sleep 6; echo $AJ_TIMEOUT_MS")
    told(responder, "serving")
    task = cli("task", "add", kind, "--queue", queue, "--wait", "25s", "--json").json
    if limit == "60s":
        assert (task["state"], task["tries"]) == ("complete", 1)
        assert 59_000 < int(cli.ok("task", "view", task["id"], "--result").out) <= 60_000
    else:
        assert (task["state"], task["last_err"]) == ("expired", "the command did not end within its 2.5 s")
        assert "not done within its 2.5 s; its process group got TERM\n" in told(responder, "got TERM")


def test_without_that_it_is_ended_at_the_run_time(cli: CommandLine, kind: str) -> None:
    queue = f"Q{kind}"
    bridge_with_a_run_time_of_two_seconds(cli, queue)
    told(cli.start("exec", kind, "--", "sleep", "20"), "serving")
    task = cli("task", "add", kind, "--queue", queue, "--wait", "25s", "--json").json
    assert (task["state"], task["last_err"]) == ("expired", "the command did not end within its 1.8 s")


def test_no_limit_reaches_past_the_tasks_own_deadline(cli: CommandLine, kind: str) -> None:
    queue = f"Q{kind}"
    bridge_with_a_run_time_of_two_seconds(cli, queue)
    script = f"echo $AJ_TIMEOUT_MS > {cli.folder}/told; sleep 100"
    responder = cli.start("exec", kind, "--max-runtime", "60s", "--", "sh", "-c", script)
    told(responder, "serving")
    task = cli("task", "add", kind, "--queue", queue, "--deadline", "5s", "--wait", "25s", "--json").json
    assert task["state"] == "expired"
    told(responder, "got TERM")
    assert 2_000 < int((cli.folder / "told").read_text()) <= 5_000


async def test_without_heartbeats_no_limit_reaches_past_the_run_time(cli: CommandLine, kind: str) -> None:
    """A request that names no subject for them: of a queue that Go made, or with a shorter run time."""
    responder = cli.start("exec", kind, "--max-runtime", "60s", "--", "sleep", "100")
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b"", seconds=0.5))
    await asyncio.to_thread(told, responder, "not done within its 0.5 s; its process group got TERM\n")
    asking.cancel()


def test_a_task_that_is_cancelled_ends_its_command_and_is_told_as_that(cli: CommandLine, kind: str) -> None:
    queue = f"Q{kind}"
    bridge_with_a_run_time_of_two_seconds(cli, queue)
    script = f"touch {cli.folder}/began; sleep 100"
    responder = cli.start("exec", kind, "--max-runtime", "60s", "--", "sh", "-c", script)
    told(responder, "serving")
    task_id = cli.ok("task", "add", kind, "--queue", queue).out.strip()
    until((cli.folder / "began").exists, "the command began")
    cli.ok("task", "cancel", task_id, "--reason", "enough", "--yes")
    told(responder, f"task {task_id} ({kind}), try 1: cancelled: enough; its process group got TERM\n")


linux = pytest.mark.skipif(sys.platform != "linux", reason="a system without subreapers")
AWAY = "setsid sh -c 'trap \"\" TERM; echo $$ > child; exec sleep 100' & "
TWICE = f"({AWAY}) ; "


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@linux
@pytest.mark.parametrize("began", [AWAY, TWICE])
@pytest.mark.parametrize("end", ["echo done", "wait; sleep 100"])
async def test_what_left_its_process_group_ends_with_its_command(cli: CommandLine, kind: str, began, end) -> None:
    script = f"{began} while [ ! -s child ]; do :; done; {end}"
    responder = cli.start("exec", kind, "--kill-after", "200ms", "--", "sh", "-c", script)
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b"", seconds=1.5))
    child = cli.folder / "child"
    await asyncio.to_thread(until, lambda: child.exists() and child.read_text().strip(), "the child began")
    if end == "echo done":
        _, reply = await asking
        assert (reply.kind, reply.body) == ("success", b"done\n")
        assert not lives(int(child.read_text()))  # gone before the reply
    await asyncio.to_thread(until, lambda: not lives(int(child.read_text())), "the child ended")
    # and nothing is left of it, not even an exit code that nobody asks for
    await asyncio.to_thread(until, lambda: psutil.Process(responder.pid).children() == [], "no child is left")
    asking.cancel()


@linux
async def test_what_is_meant_to_stay_is_started_without_the_mark(cli: CommandLine, kind: str) -> None:
    script = f"env -u AJ_RUN {AWAY} while [ ! -s child ]; do :; done"
    told(cli.start("exec", kind, "--", "sh", "-c", f"exec > /dev/null; {script}"), "serving")
    for _ in range(2):
        _, reply = await ask(cli.url, kind, b"")
        assert reply.kind == "success"
    pid = int((cli.folder / "child").read_text())
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)


@linux
async def test_a_command_that_ends_ends_nothing_of_another(cli: CommandLine, kind: str) -> None:
    script = f"read n; if [ $n = 1 ]; then {AWAY} sleep 2; kill -0 $(cat child) && echo lives; fi"
    told(cli.start("exec", kind, "--", "sh", "-c", script), "serving")
    long = asyncio.create_task(ask(cli.url, kind, b"1\n"))
    await asyncio.to_thread(until, (cli.folder / "child").exists, "the child began")
    for _ in range(3):
        _, reply = await ask(cli.url, kind, b"2\n")
        assert reply.kind == "success"
    _, reply = await long
    assert reply.body == b"lives\n"


async def test_term_lets_commands_finish(cli: CommandLine, kind: str) -> None:
    script = f"touch {cli.folder}/began; sleep 1; echo done"
    responder = cli.start("exec", kind, "--", "sh", "-c", script)
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b""))
    while not (cli.folder / "began").exists():
        await asyncio.sleep(0.02)
    responder.send_signal(signal.SIGTERM)
    _, reply = await asking
    assert (reply.kind, reply.body) == ("success", b"done\n")
    assert await asyncio.to_thread(responder.wait, 20) == 0


async def test_a_second_signal_ends_at_once_with_its_commands(cli: CommandLine, kind: str) -> None:
    script = f"trap 'echo ended > {cli.folder}/trace; exit 1' TERM; echo $$ > {cli.folder}/pid; sleep 100 & wait"
    responder = cli.start("exec", kind, "--", "sh", "-c", script)
    told(responder, "serving")
    asking = asyncio.create_task(ask(cli.url, kind, b""))
    while not (cli.folder / "pid").exists():
        await asyncio.sleep(0.02)
    responder.send_signal(signal.SIGTERM)
    told(responder, "ending")
    responder.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(responder.wait, 20) == 1
    assert (cli.folder / "trace").exists()
    asking.cancel()


def test_a_prefix_serves_bridges_that_use_it(cli: CommandLine, kind: str) -> None:
    told(cli.start("exec", kind, "--prefix", "my.prefix", "--", "cat"), f"serving {kind}")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("t", "--", "/no/such/command"), 2, "there is no command /no/such/command"),
        (("a.b", "--", "cat"), 2, "'a.b' is not a legal name"),
        (("t",), 2, "CMD"),
        (("t", "--kill-after", "soon", "--", "cat"), 2, "--kill-after 'soon'"),
        (("t", "--max-runtime", "300", "--", "cat"), 2, "--max-runtime '300': has no unit: write it like 300s"),
        (("t", "--max-runtime", "0s", "--", "cat"), 2, "--max-runtime 0s leaves no time"),
    ],
)
def test_what_cannot_be_served_ends_with_2(cli: CommandLine, arguments, code, text) -> None:
    done = cli("exec", *arguments)
    assert done.code == code
    assert text in done.err


def test_a_command_beside_the_caller_is_told_to_be_named_by_its_path(cli: CommandLine) -> None:
    script = cli.folder / "count"
    script.write_text("#!/bin/sh\nwc -w\n")
    assert "count\n  is it executable?" in cli("exec", "t", "--", "count").err
    script.chmod(0o755)
    assert "count\n  it is not on PATH: write ./count" in cli("exec", "t", "--", "count").err


async def test_thousands_of_commands_leak_nothing(cli: CommandLine, kind: str) -> None:
    """A thousand here, to keep the suite short; none of its processes or descriptors is left."""
    responder = cli.start("exec", kind, "--concurrency", "8", "--", "true")
    told(responder, "serving")
    process = psutil.Process(responder.pid)
    connection = await Connection.open(ConnectOptions(servers=(cli.url,)))
    try:
        await ask(cli.url, kind, b"")
        before = process.num_fds()
        task = Task.create(kind, b"", queue="Q")
        headers = ExecRequest(
            task_id=task.id,
            type=kind,
            queue="Q",
            try_number=1,
            max_tries=1,
            deadline=Instant.now().plus(60_000_000_000),
            timeout_ms=60_000,
            body=b"",
        ).headers()

        async def worker(count: int) -> None:
            for _ in range(count):
                reply = await connection.request(f"ajc.exec.{kind}", task.encode(), headers=headers, timeout=20)
                assert read_reply(reply.headers, reply.body).kind == "success"

        await asyncio.gather(*(worker(125) for _ in range(8)))
        end = asyncio.get_running_loop().time() + 10
        while process.num_fds() > before or process.children():
            assert asyncio.get_running_loop().time() < end, (process.num_fds(), before, process.children())
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


@pytest.mark.parametrize("prefix", ["a b", "", "a.*"])
def test_a_prefix_that_no_bridge_could_have_is_refused(alone: CommandLine, prefix: str) -> None:
    done = alone("exec", "a:b", "--prefix", prefix, "--", "cat")
    assert done.code == 2
    assert f"ajc-bridge: --prefix {prefix!r}: must be dot-separated tokens" in done.err
