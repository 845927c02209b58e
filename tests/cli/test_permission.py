"""A right that is missing is told as one: a server is there."""

from __future__ import annotations

from typing import Any

from command_line import CommandLine

CONFIG = """
authorization {
  users = [
    { user: admin, password: a }
    { user: none, password: n, permissions { publish = ["x"], subscribe = ["_INBOX.>", "_INBOX_*.>"] } }
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
