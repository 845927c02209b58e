"""`queue ...`: made, looked at, emptied, removed."""

from __future__ import annotations

import pytest
from command_line import CommandLine


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
