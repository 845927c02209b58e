"""`task ...` and `dlq ...`: what is added is seen, tried again and removed; exit codes and JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
import socket
import subprocess
import threading
from signal import SIGINT

import pytest
from command_line import PROGRAM, CommandLine, Done, told, until

from ajc.client import connect
from ajc.entry import announce
from ajc.errors import TaskFailed
from ajc.instant import Instant
from ajc.progress import Progress, TaskProgressed
from ajc.result import Result
from ajc.subjects import dlq_subject, progress_subject
from ajc.task import Task
from ajc.task_records import read_task, save_task


def settle(cli: CommandLine, task_id: str, **changes) -> None:
    """Save the task as a bridge would have left it."""

    async def save() -> None:
        async with connect(cli.url) as client:
            record = await read_task(client.connection, task_id)
            await save_task(client.connection, record.task.replace(**changes), record.revision)

    asyncio.run(save())


def test_a_task_is_added_and_viewed(cli: CommandLine, queue: str, kind: str) -> None:
    added = cli.ok("task", "add", kind, '{"to": 1.10}', "--queue", queue, "--deadline", "1h", "--max-tries", 3)
    task_id = added.out.strip()
    task = cli.ok("task", "view", task_id, "--json").json
    assert (task["id"], task["type"], task["queue"], task["state"], task["max_tries"]) == (
        task_id,
        kind,
        queue,
        "new",
        3,
    )
    assert base64.b64decode(task["payload"]) == b'{"to": 1.10}'  # as it was typed
    shown = cli.ok("task", "view", task_id).out
    for text in (task_id, kind, queue, "0 of 3", '{"to": 1.10}', "deadline"):
        assert text in shown
    assert cli.ok("task", "view", task_id, "--payload").raw == b'{"to": 1.10}'


def test_json_of_an_added_task_is_the_record(cli: CommandLine, queue: str, kind: str) -> None:
    document = cli.ok("task", "add", kind, "-q", queue, "--json").raw
    assert Task.decode(document).payload is None
    assert document.count(b"\n") == 1


def test_a_payload_may_be_any_bytes_of_a_file_or_of_stdin(cli: CommandLine, queue: str, kind: str) -> None:
    task_id = cli.ok("task", "add", kind, "-q", queue, "--file", "-", stdin=b"\x00\xff").out.strip()
    assert cli.ok("task", "view", task_id, "--payload").raw == b"\x00\xff"
    (cli.folder / "f").write_bytes(b"\xfe")
    task_id = cli.ok("task", "add", kind, "-q", queue, "--file", "f").out.strip()
    assert cli.ok("task", "view", task_id, "--payload").raw == b"\xfe"
    assert "1 bytes" in cli.ok("task", "view", task_id).out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("t", "{to: 1}"), """an object is written '{"to": "ada@example.net"}'; --file takes any bytes"""),
        (("t", "it's"), """a text is written '"it'"'"'s"'; --file takes any bytes"""),
        (("t", "[1, NaN]"), "the payload is no JSON: NaN is no number"),
        (("t", '"\\ud800"'), "the payload is no JSON: 'utf-8' codec can't encode character '\\ud800'"),
        (("t", "1", "--file", "x"), "exclude each other"),
        (("t", "--file", "/nowhere/x"), "cannot be read: No such file"),
        (("a b",), "task type 'a b' is not a legal name"),
        (("catchall",), "catchall"),
        (("t", "--id", "a.b"), "task id 'a.b' is not a legal name"),
        (("t", "--queue", "a.b"), "queue 'a.b' is not a legal name"),
        (
            ("t", "--deadline", "soon"),
            "--deadline 'soon': write how long from now, like 1h or 30m, or a time by RFC 3339",
        ),
        (("t", "--deadline", "2020-01-01T00:00:00Z"), "is not in the future"),
        (("t", "--deadline", "-1h"), "is not in the future"),
        (("t", "--wait", "5"), "--wait '5': has no unit: write it like 5s"),
        (("t", "--deadline", "2026-13-01T00:00:00Z"), "--deadline '2026-13-01T00:00:00Z'"),
        (("t", "--max-tries", "-1"), "max-tries"),
    ],
)
def test_what_cannot_be_added_ends_with_2_and_says_why(cli: CommandLine, arguments, text) -> None:
    done = cli("task", "add", *arguments)
    assert (done.code, done.out) == (2, "")
    assert text in done.err


def test_an_id_of_ones_own_is_added_once(cli: CommandLine, queue: str, kind: str) -> None:
    cli.ok("task", "add", kind, "-q", queue, "--id", kind)
    again = cli("task", "add", kind, "1", "-q", queue, "--id", kind)
    assert again.code == 4
    assert again.err.splitlines() == [
        f"ajc-bridge: a task with the id {kind} is stored already, and nothing was added",
        f"  look at it with `ajc-bridge task view {kind}`",
    ]
    document = cli("task", "add", kind, "-q", queue, "--id", kind, "--json").json
    assert (document["task_id"], "nothing was added" in document["error"]) == (kind, True)
    assert cli.ok("task", "view", kind, "--json").json["payload"] is None


def test_a_wait_for_an_id_that_is_stored_waits_for_that_task(cli: CommandLine, queue: str, kind: str) -> None:
    command = ("task", "add", kind, "-q", queue, "--id", kind, "--wait", "20s")
    first = cli.start(*command)
    told(first, f"task {kind} added; waiting for its end")
    again = cli.start(*command, "--json")
    told(again, f"task {kind} is stored already, and nothing was added; waiting for its end")
    settle(cli, kind, state="complete", tries=1)
    assert (first.wait(20), again.wait(20)) == (0, 0)
    assert again.stdout is not None
    assert Task.decode(again.stdout.read()).state == "complete"
    for other in (("other", "-q", queue), (kind, "-q", "ANOTHER")):
        done = cli("task", "add", *other, "--id", kind, "--wait", "20s")
        assert done.code == 4
        assert f"nothing was added: it is of the type {kind}, in the queue {queue}\n" in done.err


@pytest.mark.usefixtures("queue")  # a first queue makes the task store
def test_a_queue_that_is_not_there_ends_with_3_and_the_mend(cli: CommandLine, kind: str) -> None:
    done = cli("task", "add", kind, "-q", "NOWHERE")
    assert done.code == 3
    again = re.search(r"make the queue: ajc-bridge queue add NOWHERE; then ajc-bridge task retry (\w+)", done.err)
    assert again is not None
    assert f"task {again[1]} is kept as queue_error" in done.err
    assert cli.ok("task", "view", again[1], "--json").json["state"] == "queue_error"


def test_each_kind_of_missing_thing_has_a_mend_of_its_own(tmp_path, make_server) -> None:
    empty = CommandLine(make_server().url, tmp_path)
    listed = empty.ok("task", "ls", "--json")
    assert (listed.json, "no tasks yet: start a bridge" in listed.err) == ([], True)
    done = empty("task", "add", "t")
    assert done.code == 3
    assert "start a bridge (`ajc-bridge run`), or make the queue: ajc-bridge queue add DEFAULT" in done.err
    for command, mend in (
        (("task", "view", "x"), "`ajc-bridge task ls` shows"),
        (("queue", "view", "X"), "`queue add` makes one"),
        (("dlq", "view", "x"), "`ajc-bridge dlq ls` shows"),
    ):
        done = empty(*command)
        assert (done.code, mend in done.err) == (3, True), done.err
    off = make_server("accounts { A { users: [{user: a, password: b}] } }\nno_auth_user: a")
    without = CommandLine(off.url, tmp_path)
    for command in (("task", "add", "t"), ("task", "ls"), ("queue", "ls"), ("queue", "add", "Q")):
        done = without(*command)
        assert (done.code, "enable it: `jetstream {}`" in done.err) == (5, True), done.err
        assert "queue add" not in done.err


def test_a_full_queue_ends_with_4(cli: CommandLine, kind: str) -> None:
    cli.ok("queue", "add", kind, "--max-entries", 1)
    cli.ok("task", "add", kind, "-q", kind)
    done = cli("task", "add", kind, "-q", kind)
    assert done.code == 4
    assert f"queue {kind} is full; task " in done.err
    (kept,) = cli.ok("task", "ls", "-q", kind, "--state", "queue_error", "--json").json
    assert f"ajc-bridge task retry {kept['id']}" in done.err


def test_tasks_are_listed_by_state_queue_and_type(cli: CommandLine, queue: str, kind: str) -> None:
    ids = [cli.ok("task", "add", kind, "-q", queue).out.strip() for _ in range(3)]
    settle(cli, ids[0], state="expired", last_err="boom\nsecond line")
    listed = cli.ok("task", "ls", "--queue", queue, "--json").json
    assert {task["id"] for task in listed} == set(ids)
    listed = cli.ok("task", "ls", "--queue", queue, "--state", "expired", "--type", kind, "--json").json
    assert [task["id"] for task in listed] == [ids[0]]
    table = cli.ok("task", "ls", "--queue", queue).out
    assert all(task_id in table for task_id in ids)
    assert "boom" in table
    assert "second line" not in table
    limited = cli.ok("task", "ls", "--queue", queue, "--limit", 2)
    assert len(limited.out.splitlines()) == 3
    assert "and more than these 2: --limit 0 lists all" in limited.err
    newest = [task["id"] for task in cli.ok("task", "ls", "--queue", queue, "--limit", 2, "--json").json]
    assert newest == [ids[0], ids[2]]  # the last change counts
    oldest = cli.ok("task", "ls", "--queue", queue, "--oldest-first", "--limit", 3)
    assert [line.split()[0] for line in oldest.out.splitlines()[1:]] == [ids[1], ids[2], ids[0]]
    assert "more than" not in oldest.err
    assert cli.ok("task", "ls", "--queue", "NOBODY", "--json").json == []
    assert cli("task", "ls", "--state", "nope").code == 2


def test_a_terminal_is_not_told_what_to_do_by_a_task(cli: CommandLine, queue: str, kind: str) -> None:
    task_id = cli.ok("task", "add", kind, "-q", queue, "--file", "-", stdin=b"\x1b[31mred").out.strip()
    settle(cli, task_id, last_err="\x1b]0;title\x07")
    assert "\x1b" not in cli.ok("task", "view", task_id).out
    assert "\x1b" not in cli.ok("task", "ls", "-q", queue).out


def test_a_task_that_is_not_there_ends_with_3(cli: CommandLine) -> None:
    for command in (("view",), ("retry",), ("cancel", "--yes"), ("rm", "--yes"), ("watch",)):
        done = cli("task", command[0], "nothere", *command[1:])
        assert (done.code, done.out) == (3, "")
        assert "nothere" in done.err


def test_retry_queues_again_and_says_why_not(cli: CommandLine, queue: str, kind: str) -> None:
    task_id = cli.ok("task", "add", kind, "-q", queue).out.strip()
    settle(cli, task_id, state="expired", tries=10, last_err="boom")
    again = cli.ok("task", "retry", task_id, "--json").json
    assert (again["state"], again["tries"]) == ("retry", 0)
    settle(cli, task_id, state="active")
    done = cli("task", "retry", task_id)
    assert done.code == 4
    assert "runs now" in done.err
    assert f"it is active: wait for its end, or stop it first: ajc-bridge task cancel {task_id}" in done.err
    settle(cli, task_id, state="expired", deadline=Instant.parse("2020-01-01T00:00:00Z"))
    done = cli("task", "retry", task_id)
    assert done.code == 4
    assert "it is expired, and its deadline has passed: --deadline 1h gives it a new one" in done.err
    cli.ok("task", "retry", task_id, "--deadline", "1h")
    both = cli("task", "retry", task_id, "nothere")
    assert both.code == 3
    assert "nothere" in both.err


def test_cancel_asks_and_stops_a_task_for_good(cli: CommandLine, queue: str, kind: str) -> None:
    ids = [cli.ok("task", "add", kind, "-q", queue).out.strip() for _ in range(3)]
    refused = cli("task", "cancel", ids[0])
    assert refused.code == 2
    assert "--yes" in refused.err
    assert cli.ok("task", "view", ids[0], "--json").json["state"] == "new"
    found = cli.ok("task", "cancel", ids[0], "--reason", "sent twice", "--yes", "--json").json
    assert (found["state"], found["last_err"]) == ("terminated", "cancelled: sent twice")
    assert found == cli.ok("task", "view", ids[0], "--json").json
    assert found["cancelled"].endswith("Z")
    assert cli.ok("task", "cancel", ids[0], "--yes", "--json").json == found  # again: no error, and nothing new
    assert "cancelled" in cli.ok("task", "cancel", ids[1], "--yes").err
    assert cli.ok("queue", "view", queue, "--json").json["messages"] == 1
    settle(cli, ids[2], state="complete", tries=1)
    late = cli("task", "cancel", ids[2], "--yes")
    assert late.code == 4
    assert "is complete already" in late.err
    assert f"  it is complete and stays so; ajc-bridge task rm {ids[2]} removes it\n" in late.err
    several = cli("task", "cancel", ids[2], ids[1], "--yes", "--json")
    assert several.code == 4
    assert "is complete already" in several.err
    assert "cancelled" not in cli.ok("task", "view", ids[2]).out


def test_rm_asks_and_removes(cli: CommandLine, queue: str, kind: str) -> None:
    ids = [cli.ok("task", "add", kind, "-q", queue).out.strip() for _ in range(2)]
    refused = cli("task", "rm", ids[0])
    assert refused.code == 2
    assert "--yes" in refused.err
    cli.ok("task", "view", ids[0])
    cli.ok("task", "rm", *ids, "--yes")
    assert cli.ok("task", "ls", "-q", queue, "--json").json == []
    assert cli.ok("queue", "view", queue, "--json").json["messages"] == 0


def test_rm_of_a_task_that_runs_names_its_state_and_the_ways_out(cli: CommandLine, queue: str, kind: str) -> None:
    task_id = cli.ok("task", "add", kind, "-q", queue).out.strip()
    settle(cli, task_id, state="active", tries=1)
    refused = cli("task", "rm", task_id, "--yes", "--json")
    assert refused.code == 4
    assert refused.json["task_id"] == task_id
    assert refused.json["hint"] == (
        f"it is active: wait for its end, stop it (ajc-bridge task cancel {task_id}), "
        "or remove it all the same with --force"
    )
    several = cli("task", "rm", "nothere", task_id, "--yes")
    assert several.code == 4
    assert "it is active: wait for its end" in several.err
    cli.ok("task", "rm", task_id, "--yes", "--force")


def test_a_wait_whose_server_goes_away_ends_with_5(tmp_path, make_server, kind: str) -> None:
    server = make_server()
    cli = CommandLine(server.url, tmp_path)
    cli.ok("queue", "add", kind)
    waiting = cli.start("task", "add", kind, "-q", kind, "--wait", "3s")
    told(waiting, "waiting for its end")
    server.stop()
    assert waiting.wait(30) == 5
    said = waiting.log.read_text()  # type: ignore[attr-defined]
    assert "the connection to NATS broke; trying again" in said
    assert re.search(r"ajc-bridge: task \w+ is not known to have ended within 3 s: ", said)
    cli.end()


def test_a_wait_that_is_broken_off_says_that_the_task_goes_on(cli: CommandLine, queue: str, kind: str) -> None:
    waiting = cli.start("task", "add", kind, "-q", queue, "--id", kind, "--wait", "1m")
    told(waiting, "waiting for its end")
    waiting.send_signal(SIGINT)
    assert waiting.wait(20) == 130
    assert f"task {kind} goes on; ajc-bridge task view {kind}\n" in waiting.log.read_text()  # type: ignore[attr-defined]


def test_a_list_of_a_queue_that_cannot_be_is_refused(cli: CommandLine) -> None:
    done = cli("task", "ls", "--queue", "a b")
    assert done.code == 2
    assert "queue 'a b' is not a legal name" in done.err


def test_watch_shows_events_as_they_come(cli: CommandLine, queue: str, kind: str) -> None:
    watching = cli.start("task", "watch", "--json")
    told(watching, "watching")
    task_id = cli.ok("task", "add", kind, "-q", queue).out.strip()
    assert watching.stdout is not None
    while True:
        event = json.loads(watching.stdout.readline())
        if event["task_id"] == task_id:
            break
    assert (event["type"], event["state"]) == ("io.choria.asyncjobs.v1.task_state", "new")


@pytest.mark.rule("EXEC-27")
def test_watch_shows_progress(cli: CommandLine, queue: str, kind: str) -> None:
    task_id = cli.ok("task", "add", kind, "-q", queue).out.strip()
    as_json, as_lines = cli.start("task", "watch", task_id, "--json"), cli.start("task", "watch", task_id)
    for watching in (as_json, as_lines):
        told(watching, "watching")

    async def tell() -> None:
        async with connect(cli.url) as client:
            for said in (Progress(50, "page 3\nof 6"), Progress(99.5), Progress(None, "bound")):
                event = TaskProgressed.of(task_id, said, Instant.now(), queue=queue, task_type=kind, tries=1)
                client.connection.publish(progress_subject(task_id), event.encode())
            await client.connection.flush()
            record = await read_task(client.connection, task_id)
            ended = record.task.replace(state="complete")
            await save_task(client.connection, ended, record.revision)
            announce(client.connection, ended)

    asyncio.run(tell())
    assert (as_json.wait(20), as_lines.wait(20)) == (0, 0)
    assert as_json.stdout is not None
    assert as_lines.stdout is not None
    events = [json.loads(line) for line in as_json.stdout.read().splitlines()]
    assert [(event.get("percent"), event.get("message")) for event in events[:3]] == [
        (50, "page 3\nof 6"),
        (99.5, None),
        (None, "bound"),
    ]
    assert events[3]["state"] == "complete"
    lines = as_lines.stdout.read().decode().splitlines()
    assert [re.sub(r"^\S+ +", "", line) for line in lines] == [
        f"progress    {task_id}  try 1   {kind}  50 %  page 3",
        f"progress    {task_id}  try 1   {kind}  99.5 %",
        f"progress    {task_id}  try 1   {kind}  bound",
        f"complete    {task_id}  try 0   {kind}",
    ]


def test_wait_tells_how_the_task_ended(cli: CommandLine, queue: str, kind: str) -> None:
    waiting = cli.start("task", "add", kind, "-q", queue, "--wait", "20s", "--json")
    added = told(waiting, "waiting for its end")
    settle(cli, added.split()[1], state="terminated", last_err="no address")
    assert waiting.wait(20) == 1
    assert "is terminated after 0 tries: no address" in told(waiting, "terminated")
    assert waiting.stdout is not None
    ended = Task.decode(waiting.stdout.read())
    assert (ended.id, ended.state, ended.last_err) == (added.split()[1], "terminated", "no address")
    late = cli("task", "add", kind, "-q", queue, "--wait", "100ms")
    assert (late.code, late.out) == (1, "")
    assert "has not ended" in late.err
    late = cli("task", "add", kind, "-q", queue, "--wait", "100ms", "--id", kind, "--json")
    assert late.code == 1
    assert (late.json["task_id"], "has not ended" in late.json["error"]) == (kind, True)


def test_a_wait_that_runs_out_says_how_far_the_task_is(cli: CommandLine, kind: str) -> None:
    cli.ok("queue", "add", kind, "--max-tries", 5)
    late = cli("task", "add", kind, "-q", kind, "--wait", "100ms")
    assert late.code == 1
    assert "it goes on, ask again later; its state is new, not tried yet\n" in late.err
    waiting = cli.start("task", "add", kind, "-q", kind, "--wait", "5s", "--json")
    task_id = told(waiting, "waiting for its end").split()[1]
    due = Instant.parse("2090-01-02T03:04:05Z")
    settle(cli, task_id, state="retry", tries=1, last_err="no address\x1b[31m\nmore", next_try_at=due)
    assert waiting.wait(20) == 1
    assert waiting.stdout is not None
    said = json.loads(waiting.stdout.read())
    local = due.to_datetime().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert said["task_id"] == task_id
    assert said["error"].endswith(
        f"; its state is retry, try 1 of 5, the next try is due at {local}, last error: no address\ufffd[31m"
    )
    assert "task view" in said["hint"]


@pytest.mark.rule("EXEC-40")
def test_a_wait_for_a_type_that_nobody_serves_names_it(cli: CommandLine, kind: str) -> None:
    file = cli.folder / "bridge.toml"
    file.write_text(f'[http]\nlisten = "off"\n[queues.{kind}]\n')
    told(cli.start("run", "--config", file), "queue.bound")
    task_id = cli.ok("task", "add", kind, "-q", kind).out.strip()
    until(lambda: "no responder" in cli.ok("task", "view", task_id).out, "put back")

    def waited() -> Done | None:
        """Wait once more; None where the bridge was asking just then, and the error was gone for that moment."""
        late = cli("task", "add", kind, "-q", kind, "--id", task_id, "--wait", "100ms")
        return late if "last error" in late.err else None

    late = until(waited, "told")
    assert late.code == 1
    assert f"last error: no responder on ajc.exec.{kind}" in late.err


def test_the_tries_shown_are_those_that_its_queue_allows(cli: CommandLine, kind: str) -> None:
    cli.ok("queue", "add", kind, "--max-tries", 5)
    shown = {
        limit: cli.ok("task", "view", cli.ok("task", "add", kind, "-q", kind, "--max-tries", limit).out.strip()).out
        for limit in (10, 3, 0)
    }
    assert [re.search(r"^tries +(.*)$", shown[limit], re.MULTILINE)[1] for limit in (10, 3, 0)] == [  # type: ignore[index]
        "0 of 5",
        "0 of 3",
        "0 of 5",
    ]


def test_with_json_an_error_is_one_document_too(cli: CommandLine, alone: CommandLine, queue: str, kind: str) -> None:
    done = cli("task", "view", "nothere", "--json")
    assert (done.code, set(done.json)) == (3, {"error", "hint", "task_id"})
    assert (done.json["error"], done.json["task_id"]) == ("task nothere does not exist", "nothere")
    assert done.json["error"] in done.err
    assert cli("task", "watch", "nothere", "--json").json["task_id"] == "nothere"
    assert cli("dlq", "view", "nothere", "--json").json["task_id"] == "nothere"
    assert alone("queue", "ls", "--json").json["hint"].startswith("is a nats-server running there?")
    assert cli("task", "add", kind, "{to: 1}", "--json").json["error"].startswith("the payload is no JSON")
    task_id = cli.ok("task", "add", kind, "-q", queue).out.strip()
    for command in (("cancel", "--yes"), ("retry",), ("rm", "--yes")):  # a line for each, as docs/errors.md says
        both = cli("task", command[0], "nothere", task_id, *command[1:], "--json")
        documents = [json.loads(line) for line in both.out.splitlines()]
        assert [one.get("task_id", one.get("id")) for one in documents] == ["nothere", task_id]
        assert (both.code, "error" in documents[0], documents[1]["type"]) == (3, True, kind)
        one = cli("task", command[0], "nothere", *command[1:], "--json")
        assert (one.code, one.json) == (3, documents[0])


def test_one_try_is_not_tries() -> None:
    task = Task.create("t", id="x").replace(state="expired", tries=1)
    assert str(TaskFailed(task)) == "task x is expired after 1 try"


def test_a_listener_that_is_no_nats_server_is_named_as_such(alone: CommandLine) -> None:
    def hang_up() -> None:
        while True:
            try:
                taken, _ = other.accept()
            except OSError:
                return
            taken.close()

    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=hang_up, daemon=True).start()
        url = f"nats://127.0.0.1:{other.getsockname()[1]}"
        done = alone("task", "ls", "--server", url)
    assert done.code == 5
    assert re.search(rf"no NATS server at {url}: \w", done.err)


def test_no_server_ends_with_5_and_says_what_to_do(alone: CommandLine) -> None:
    for command in (("task", "ls"), ("queue", "ls"), ("dlq", "ls"), ("doctor",)):
        done = alone(*command)
        assert (done.code, done.out) == (5, "")
        assert "ajc-bridge dev" in done.err
        assert "Traceback" not in done.err


def test_refused_credentials_are_told_as_such(tmp_path, make_server) -> None:
    server = make_server("authorization { user: right, password: right }")
    for url in (server.url, server.url.replace("//", "//right:wrong@")):
        done = CommandLine(url, tmp_path)("task", "ls")
        assert (done.code, done.out) == (5, "")
        assert "refuses the connection" in done.err
        assert "are the credentials right?" in done.err
        assert "is a nats-server running" not in done.err
        assert "right:wrong" not in done.err


def test_a_context_that_is_not_there_is_a_usage_error(cli: CommandLine) -> None:
    done = cli("task", "ls", "--context", "NOPE", env={"NATS_URL": ""})
    assert done.code == 2
    assert "NOPE" in done.err


def test_a_context_names_the_server(cli: CommandLine) -> None:
    folder = cli.folder / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "WQ.json").write_text(json.dumps({"url": cli.url}))
    without = {"NATS_URL": ""}
    assert cli("queue", "ls", "--context", "WQ", env=without).code == 0
    assert cli("queue", "ls", env={**without, "NATS_CONTEXT": "WQ"}).code == 0
    assert cli("queue", "ls", "--server", cli.url, env={"NATS_URL": "nats://127.0.0.1:1"}).code == 0


def test_dead_letters_are_listed_and_viewed(cli: CommandLine, queue: str, kind: str) -> None:
    task_id = cli.ok("task", "add", kind, "1.50", "-q", queue).out.strip()

    async def bury() -> None:
        async with connect(cli.url) as client:
            body = (await client.load(task_id)).replace(state="expired").encode()
            headers = "".join(
                f"AJ-{name}: {value}\r\n"
                for name, value in {
                    "Dlq-Reason": "tries",
                    "Dlq-Error": "boom",
                    "Dlq-Tries": "3",
                    "Dlq-Time": "2026-11-24T00:00:00Z",
                    "Task-Id": task_id,
                    "Task-Type": kind,
                    "Queue": queue,
                }.items()
            )
            await client.connection.stored(
                dlq_subject(queue, task_id), body, headers=f"NATS/1.0\r\n{headers}\r\n".encode()
            )
            await client.connection.stored(
                dlq_subject(queue, "odd"), b"\xff", headers=b"NATS/1.0\r\nAJ-Dlq-Reason: malformed_task\r\n\r\n"
            )

    asyncio.run(bury())
    letters = cli.ok("dlq", "ls", "--queue", queue, "--json").json
    assert [letter["reason"] for letter in letters] == ["tries", "malformed_task"]
    wrong = cli("dlq", "ls", "--reason", "foo")
    assert (wrong.code, "the reasons are terminated, tries, deadline" in wrong.err) == (2, True)
    assert letters[0]["task"]["id"] == task_id
    assert base64.b64decode(letters[1]["body_base64"]) == b"\xff"
    assert [one["task_id"] for one in cli.ok("dlq", "ls", "-q", queue, "--reason", "tries", "--json").json] == [task_id]
    assert "boom" in cli.ok("dlq", "ls", "-q", queue).out
    shown = cli.ok("dlq", "view", task_id).out
    assert all(text in shown for text in (task_id, "tries", "boom", "expired", "1.50"))
    assert cli.ok("dlq", "view", task_id, "--json").json["tries"] == 3
    assert cli("dlq", "view", "nothere").code == 3


def test_a_reader_that_goes_away_is_no_error(cli: CommandLine, queue: str, kind: str) -> None:
    cli.ok("task", "add", kind, "-q", queue)
    listing = cli.start("task", "ls", "--limit", "0")
    assert listing.stdout is not None
    listing.stdout.close()
    until(lambda: listing.poll() is not None, "the end of a command without a reader")
    assert "Traceback" not in listing.log.read_text()  # type: ignore[attr-defined]


@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_a_stdout_that_cannot_be_written_is_one_line_and_a_failure(
    cli: CommandLine, queue: str, kind: str, to: str
) -> None:
    task_id = cli.ok("task", "add", kind, "-q", queue).out.strip()
    settle(cli, task_id, state="complete", tries=1, result=Result(b'"%b"' % (b"x" * 100_000), Instant.now()))
    why = "No space left on device" if to == "/dev/full" else "Bad file descriptor"
    for command in (
        "--version",
        "task add --help",
        "task ls",
        "task ls --json",
        f"task view {task_id}",
        f"task view {task_id} --result",
        f"task add {kind} -q {queue}",
    ):
        shell = f"exec {shlex.join(PROGRAM)} {command} >{to}"
        done = subprocess.run(["sh", "-c", shell], env=cli.env, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, f"ajc-bridge: stdout cannot be written: {why}\n"), command
    missing = subprocess.run(
        ["sh", "-c", f"exec {shlex.join(PROGRAM)} task view nothere >{to} 2>&-"], env=cli.env, check=False
    )
    assert missing.returncode == 3  # nothing was to be written


def test_a_trace_context_is_stored_with_the_task_and_a_bad_one_refused(cli: CommandLine, queue: str) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    done = cli.ok("task", "add", "a", "--queue", queue, "--traceparent", parent, "--json")
    assert done.json["traceparent"] == parent
    refused = cli("task", "add", "a", "--queue", queue, "--traceparent", "junk")
    assert refused.code == 2
    assert "traceparent" in refused.err
    assert "traceparent" not in cli.ok("task", "add", "a", "--queue", queue, "--json").json
