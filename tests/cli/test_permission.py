"""A right that is missing is told as one: a server is there."""

from __future__ import annotations

from typing import Any

from command_line import CommandLine

CONFIG = """
authorization {
  users = [
    { user: admin, password: a }
    { user: none, password: n, permissions { publish = ["x"], subscribe = ["_INBOX.>", "_INBOX_*.>"] } }
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
