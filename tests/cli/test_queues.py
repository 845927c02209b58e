"""`queue ...`: made, looked at, emptied, removed."""

from __future__ import annotations

import asyncio
import re

import pytest
from command_line import CommandLine

from ajc.client import connect
from ajc.headers import encode_headers
from ajc.subjects import delay_fire_subject, delay_schedule_subject


def test_a_queue_is_made_with_its_settings(cli: CommandLine, kind: str) -> None:
    settings = {
        "--priority": 20,
        "--max-tries": 5,
        "--max-run-time": "10m",
        "--lease": "20s",
        "--max-concurrent": 7,
        "--max-entries": 1000,
        "--when-full": "discard_old",
        "--max-age": "7d",
        "--backoff": "1m",
        "--storage": "memory",
    }
    arguments = [part for pair in settings.items() for part in pair]
    made = cli.ok("queue", "add", kind, *arguments, "--json").json
    assert made == cli.ok("queue", "view", kind, "--json").json
    wanted = {
        "name": kind,
        "priority": 20,
        "max_tries": 5,
        "max_run_time_ns": 600_000_000_000,
        "lease_ns": 20_000_000_000,
        "max_concurrent": 7,
        "max_entries": 1000,
        "when_full": "discard_old",
        "max_age_ns": 604_800_000_000_000,
        "backoff": "1m",
        "storage": "memory",
        "replicas": 1,
        "messages": 0,
        "stranded": 0,
    }
    assert {key: made[key] for key in wanted} == wanted
    cli.ok("queue", "add", kind, *arguments)  # the same again is fine
    shown = cli.ok("queue", "view", kind).out
    assert all(text in shown for text in ("10m", "20s", "1000, then discard_old", "1m", "memory, 1 copy"))


def test_items_that_wait_for_their_time_are_counted(cli: CommandLine, queue: str, kind: str) -> None:
    async def put_off() -> None:
        async with connect(cli.url) as client:
            for number in range(3):
                headers = {
                    "Nats-Schedule": "@at 2090-01-01T00:00:00Z",
                    "Nats-Schedule-Target": delay_fire_subject(queue, f"{kind}{number}"),
                }
                subject = delay_schedule_subject(queue, f"{kind}{number}")
                await client.connection.stored(subject, b"{}", headers=encode_headers(headers))

    asyncio.run(put_off())
    assert cli.ok("queue", "view", queue, "--json").json["delayed"] == 3
    assert re.search(r"^delayed +3$", cli.ok("queue", "view", queue).out, re.MULTILINE)
    (listed,) = [one for one in cli.ok("queue", "ls", "--json").json if one["name"] == queue]
    assert listed["delayed"] == 3
    header, *rows = cli.ok("queue", "ls").out.splitlines()
    (row,) = [line.split() for line in rows if line.startswith(queue)]
    assert row[header.split().index("DELAYED")] == "3"


def test_a_policy_that_nobody_here_knows_is_told_of(cli: CommandLine, kind: str) -> None:
    added = cli.ok("queue", "add", kind, "--backoff", "7m")
    assert "warning: backoff policy '7m' is not built in (default, 1m, 10m, 1h): a bridge whose file" in added.err
    findings = [one for one in cli("doctor", "--json").json["findings"] if one["subject"] == f"queue {kind}"]
    (found,) = [one for one in findings if "'7m'" in one["text"]]
    assert (found["verdict"], "[backoff.7m]" in found["mend"]) == ("note", True)
    (cli.folder / "ajc-bridge.toml").write_text('[backoff.7m]\nsteps = ["7m"]\n')
    assert "warning" not in cli.ok("queue", "add", kind, "--backoff", "7m").err
    assert "'7m'" not in cli("doctor").out


def test_a_queue_with_other_settings_is_left_alone_and_told_of(cli: CommandLine, queue: str) -> None:
    done = cli("queue", "add", queue, "--max-tries", 9, "--priority", 3)
    assert done.code == 4
    assert "its max_tries is 0, not 9" in done.err
    assert "its priority is 10, not 3" in done.err
    assert cli.ok("queue", "view", queue, "--json").json["max_tries"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("a b",),
        ("A:B",),
        ("Q", "--priority", "101"),
        ("Q", "--max-run-time", "soon"),
        ("Q", "--lease", "2h", "--max-run-time", "1h"),
        ("Q", "--when-full", "wait"),
        ("Q", "--max-concurrent", "0"),
        ("Q", "--replicas", "6"),
    ],
)
def test_what_cannot_be_made_ends_with_2(cli: CommandLine, arguments) -> None:
    done = cli("queue", "add", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ajc-bridge: ")


def test_queues_are_listed(cli: CommandLine, queue: str, kind: str) -> None:
    cli.ok("task", "add", kind, "-q", queue)
    mine = [one for one in cli.ok("queue", "ls", "--json").json if one["name"] == queue]
    assert [one["pending"] for one in mine] == [1]
    row = next(line for line in cli.ok("queue", "ls").out.splitlines() if line.startswith(queue))
    assert row.split()[1:4] == ["1", "0", "0"]


def test_purge_and_rm_ask_and_say_what_they_did(cli: CommandLine, queue: str, kind: str) -> None:
    task_id = cli.ok("task", "add", kind, "-q", queue).out.strip()
    for command in ("purge", "rm"):
        refused = cli("queue", command, queue)
        assert refused.code == 2
        assert "--yes" in refused.err
    assert cli.ok("queue", "purge", queue, "--yes", "--json").json == {"queue": queue, "purged": 1}
    cli.ok("task", "view", task_id)  # the record stays
    assert cli.ok("queue", "rm", queue, "--yes", "--json").json == {"queue": queue, "removed": True}
    for command in (("view",), ("purge", "--yes"), ("rm", "--yes")):
        assert cli("queue", command[0], queue, *command[1:]).code == 3
