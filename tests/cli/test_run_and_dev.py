"""`run` and `dev` from outside: exit codes, the probes, and that everything ends together."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import termios
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from command_line import CommandLine, told, until


def ids_gone(*pids: int) -> bool:
    def lives(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(map(lives, pids))


def started(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.log.read_text()  # type: ignore[attr-defined]
    document: dict[str, Any] = json.loads(line)
    return document


def test_a_wrong_configuration_is_told_line_by_line_and_ends_with_2(alone: CommandLine) -> None:
    (alone.folder / "c.toml").write_text("[queues.A]\npriority = 500\nlease = 3\n")
    done = alone("run", "--config", "c.toml", "--log-level", "loud")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "queues.A.priority: must be 1 to 100, not 500",
        'queues.A.lease: must be a duration like "30s", "1h30m" or "7d", not 3',
        'log.level: must be "debug", "info", "warn" or "error", not "loud"',
    ]


def test_files_of_the_connection_that_cannot_be_read_name_their_key(alone: CommandLine) -> None:
    (alone.folder / "c.toml").write_text('[nats]\ncreds = "no.creds"\n[nats.tls]\nca = "no.pem"\n')
    done = alone("run", "--config", "c.toml", env={"NATS_NKEY": "no.nk"})
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "nats.creds: no.creds: cannot be read: No such file or directory",
        "nats.nkey: no.nk: cannot be read: No such file or directory (from the context or the environment)",
        "nats.tls.ca: no.pem: cannot be read: No such file or directory",
    ]


def test_a_command_names_credentials_that_cannot_be_read(cli: CommandLine) -> None:
    done = cli("task", "ls", env={"NATS_CREDS": "no.creds"})
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ajc-bridge: creds no.creds: cannot be read: No such file or directory\n")
    assert "$NATS_CREDS" in done.err


def test_an_address_that_is_taken_names_its_key(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("run", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.code in {1, 2}
    assert "http.listen" in done.err
    assert "Address already in use" in done.err


def test_a_default_file_that_is_gone_is_no_wish_for_the_defaults(cli: CommandLine, kind: str) -> None:
    file = cli.folder / "ajc-bridge.toml"
    file.write_text(f'[queues.{kind}]\nmax_tries = 3\n[log]\nformat = "json"\n[http]\nlisten = "off"\n')
    running = cli.start("run")
    told(running, "queue.bound")
    file.unlink()
    running.send_signal(signal.SIGHUP)
    assert "ajc-bridge.toml: cannot be read" in told(running, "config.refused")
    running.terminate()
    assert running.wait(20) == 0


def test_run_serves_probes_and_drains(cli: CommandLine, kind: str) -> None:
    (cli.folder / "ajc-bridge.toml").write_text(f'[queues.{kind}]\nmax_tries = 3\n[log]\nformat = "json"\n')
    running = cli.start("run", "--listen", "127.0.0.1:0", env={"AJC_BRIDGE__CONCURENCY": "7"})
    lines = told(running, "queue.bound")
    assert "warning: AJC_BRIDGE__CONCURENCY: no such setting; did you mean AJC_BRIDGE__CONCURRENCY?" in lines
    url = next(json.loads(line)["url"] for line in lines.splitlines() if '"http.listening"' in line)
    with httpx.Client(base_url=url) as http:
        until(lambda: http.get("/readyz").status_code == 200, "ready")
        assert http.get("/readyz").json() == {"ready": True, "missing": [], "connected": True, "queues": {kind: True}}
        assert http.get("/healthz").json() == {"status": "ok"}
        page = http.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "ajc_bridge_connected 1.0" in page.text
        assert http.get("/").status_code == 404
    assert cli.ok("queue", "view", kind, "--json").json["max_tries"] == 3
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0
    assert '"bridge.stopped"' in told(running, "bridge.stopped")


def test_without_a_server_it_lives_and_is_not_ready(alone: CommandLine) -> None:
    running = alone.start("run", "--listen", "127.0.0.1:0")
    url = re.search(r"url=(\S+)", told(running, "http.listening"))
    assert url is not None
    with httpx.Client(base_url=url[1]) as http:
        assert http.get("/healthz").status_code == 200
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert "not connected to NATS" in answer.json()["missing"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0


@pytest.fixture
def dev(alone: CommandLine) -> CommandLine:
    (alone.folder / "ajc-bridge.toml").write_text("[queues.DEFAULT]\n")
    return alone


def test_dev_starts_both_and_ctrl_c_ends_both(dev: CommandLine) -> None:
    running = dev.start("dev", "--port", 0, "--listen", "off", "--json")
    both = started(running)
    told(running, "queue.bound")
    assert Path(dev.folder / ".ajc" / "jetstream").exists()
    assert Path(both["data"]) == Path(".ajc")
    dev.env["NATS_URL"] = both["server"]
    task_id = dev.ok("task", "add", "hello").out.strip()
    told(running, "bridge.started")
    again = dev("dev", "--port", 0)
    assert again.code == 1
    assert "another `ajc-bridge dev` uses .ajc" in again.err
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 0
    assert ids_gone(both["server_pid"], both["bridge_pid"])
    # the data is kept
    running = dev.start("dev", "--port", 0, "--listen", "off", "--json")
    dev.env["NATS_URL"] = started(running)["server"]
    assert dev.ok("task", "view", task_id, "--json").json["type"] == "hello"
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0


def test_what_dev_says_to_try_works(dev: CommandLine) -> None:
    running = dev.start("dev", "--port", 0, "--listen", "off", "--ephemeral")
    lines = told(running, "task add hello").splitlines()
    answering, adding = (
        shlex.split(next(line for line in lines if line.startswith(f"  ajc-bridge {command}")))[1:]
        for command in ("exec hello", "task add hello")
    )
    dev.start(*answering)
    assert '{"name": "you"}' in dev.ok(*adding).out
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0


def test_dev_names_its_configuration_and_a_queue_that_is_served(alone: CommandLine) -> None:
    (alone.folder / "mine.toml").write_text("[queues.EMAIL]\n[queues.SMS]\n")
    running = alone.start("dev", "--port", 0, "--listen", "off", "--ephemeral", "--config", "mine.toml")
    lines = told(running, "task add hello").splitlines()
    assert any(line.startswith("nats-server at ") and line.endswith(", configuration: mine.toml") for line in lines)
    answering, adding = (
        shlex.split(next(line for line in lines if line.startswith(f"  ajc-bridge {command}")))[1:]
        for command in ("exec hello", "task add hello")
    )
    assert adding[adding.index("--queue") + 1] == "EMAIL"
    alone.start(*answering)
    assert '{"name": "you"}' in alone.ok(*adding).out
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0


def test_dev_says_nothing_below_the_reason_of_a_bridge_that_did_not_start(alone: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = alone("dev", "--port", 0, "--ephemeral", "--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--json")
    assert done.code in {1, 2}
    assert "the bridge ended with" in done.json["error"]
    assert "try it" not in done.err
    assert "Address already in use" in "".join(done.err.splitlines()[-4:])
    (alone.folder / "ajc-bridge.toml").write_text("[queues.A]\npriority = 500\nlease = 3\n")
    done = alone("dev", "--port", 0, "--ephemeral")
    assert done.code == 2
    assert done.err.splitlines() == [
        "ajc-bridge: queues.A.priority: must be 1 to 100, not 500",
        'queues.A.lease: must be a duration like "30s", "1h30m" or "7d", not 3',
        "  the configuration is ajc-bridge.toml, the environment, and these options",
    ]


def test_dev_hands_sighup_on_to_the_bridge(dev: CommandLine) -> None:
    running = dev.start("dev", "--port", 0, "--listen", "off", "--ephemeral", "--json")
    both = started(running)
    assert both["config"] == "ajc-bridge.toml"
    (dev.folder / "ajc-bridge.toml").write_text("[bridge]\nconcurrency = 7\n[queues.DEFAULT]\n")
    running.send_signal(signal.SIGHUP)
    assert "bridge.concurrency" in told(running, "config.applied")
    assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0
    assert ids_gone(both["server_pid"], both["bridge_pid"])


def test_dev_ends_with_its_terminal(dev: CommandLine) -> None:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    running = dev.start("dev", "--port", 0, "--listen", "off", "--ephemeral", "--json", preexec_fn=take_terminal)
    os.close(theirs)
    both = started(running)
    os.close(ours)  # the window is closed
    assert running.wait(20) == 0
    assert ids_gone(both["server_pid"], both["bridge_pid"])


@pytest.mark.parametrize("victim", ["server_pid", "bridge_pid", "dev"])
def test_when_one_dies_all_end(dev: CommandLine, victim: str) -> None:
    running = dev.start("dev", "--port", 0, "--listen", "off", "--ephemeral", "--json")
    both = started(running)
    told(running, "queue.bound")
    os.kill(running.pid if victim == "dev" else both[victim], signal.SIGKILL)
    assert running.wait(20) != 0
    until(lambda: ids_gone(both["server_pid"], both["bridge_pid"]), "the end of both")
    if victim != "dev":
        assert not Path(both["data"]).exists()


def test_dev_says_why_the_server_did_not_start(dev: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = dev("dev", "--port", taken.getsockname()[1], "--ephemeral")
    assert done.code == 1
    assert "address already in use" in done.err
    assert "--port 0" in done.err
