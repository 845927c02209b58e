"""A right that is missing is told as one: a server is there."""

from __future__ import annotations

from typing import Any

from command_line import CommandLine

CONFIG = """
authorization {
  users = [
    { user: admin, password: a }
    { user: none, password: n, permissions { publish = ["x"], subscribe = ["_INBOX.>", "_INBOX_*.>"] } }
    { user: some, password: s, permissions {
      publish = { deny: ["CHORIA_AJ.Q.B.>", "$JS.API.STREAM.INFO.CHORIA_AJ_Q_B"] }
    } }
    {
      user: enqueuer, password: e
      permissions {
        publish = ["CHORIA_AJ.T.*", "CHORIA_AJ.Q.*.*", "CHORIA_AJ.E.>", "$JS.API.STREAM.INFO.>"]
        subscribe = ["_INBOX.>"]
      }
    }
  ]
}
"""


def test_what_the_user_may_not_do_is_told_at_once(cli: CommandLine, make_server: Any) -> None:
    url = make_server(CONFIG).url.replace("nats://", "nats://none:n@")
    done = cli("task", "add", "email:new", "1", "--server", url)
    assert done.code == 1
    assert "no permission to publish on CHORIA_AJ.T." in done.err
    assert "--context" in done.err
    assert "nats-server running" not in done.err


def test_a_queue_that_is_missing_is_told_to_who_may_not_ask_about_the_account(
    cli: CommandLine, make_server: Any
) -> None:
    server = make_server(CONFIG).url
    cli.ok("queue", "add", "EMAIL", "--server", server.replace("nats://", "nats://admin:a@"))
    url = server.replace("nats://", "nats://enqueuer:e@")
    done = cli("task", "add", "email:new", "1", "--queue", "EMIAL", "--id", "one", "--server", url)
    assert done.code == 3
    assert "queue EMIAL does not exist; task one is kept as queue_error" in done.err
    assert "ajc-bridge queue add EMIAL" in done.err


def test_a_right_that_is_missing_for_one_queue_keeps_nobody_from_the_others(cli: CommandLine, make_server: Any) -> None:
    server = make_server(CONFIG).url
    admin, some = (server.replace("nats://", f"nats://{who}@") for who in ("admin:a", "some:s"))
    for name in ("A", "B"):
        cli.ok("queue", "add", name, "--server", admin)
        cli.ok("task", "add", "email:new", "--queue", name, "--id", name.lower(), "--server", admin)
        cli.ok("task", "cancel", name.lower(), "--yes", "--server", admin)
    done = cli("task", "retry", "b", "a", "--server", some)
    assert done.code == 1
    assert "no permission to publish on $JS.API.STREAM.INFO.CHORIA_AJ_Q_B" in done.err
    assert "task a: " in done.err
    assert cli.ok("task", "view", "a", "--server", admin, "--json").json["state"] == "retry"
    listed = cli("queue", "ls", "--server", some)
    assert listed.out.splitlines()[1].split()[0] == "A"
    assert "queue B: no permission" in listed.err
