"""What is said of a task whose queue is missing, to who may not look whether it is."""

from __future__ import annotations

from typing import Any

import pytest

import ajc
from ajc import untaken
from ajc.task_records import save_task
from ajc_bridge.cli.exits import CliError
from ajc_bridge.cli.task_adding import add_task

CONFIG = """
authorization {
  users = [
    { user: admin, password: a }
    {
      user: looker, password: l
      permissions { publish = ["CHORIA_AJ.T.*", "CHORIA_AJ.E.>", "CHORIA_AJ.Q.*.*", "$JS.API.STREAM.MSG.GET.*"] }
    }
    { user: blind, password: b, permissions { publish = ["CHORIA_AJ.T.*", "CHORIA_AJ.E.>", "CHORIA_AJ.Q.*.*"] } }
  ]
}
"""


@pytest.mark.parametrize(
    ("who", "id", "kept", "mend"),
    [
        ("looker:l", "fresh", "task fresh is kept as queue_error", "task retry fresh"),
        ("looker:l", "before", "task before is kept as new", "repeat the command"),
        ("blind:b", "fresh", "task fresh is kept as queue_error, unless it was stored before", "task retry fresh"),
    ],
)
async def test_a_queue_that_seems_to_be_missing(
    make_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    id: str,  # noqa: A002
    kept: str,
    mend: str,
) -> None:
    monkeypatch.setattr(untaken, "LEADERLESS_SECONDS", 0.3)
    url = make_server(CONFIG).url
    async with ajc.connect(url.replace("nats://", "nats://admin:a@")) as admin:
        await admin.ensure_queue(ajc.Queue("OTHER"))
        before = ajc.new_task("email:new", id="before", queue="LATE")
        await save_task(admin.connection, before, 0)
        async with ajc.connect(url.replace("nats://", f"nats://{who}@")) as client:
            with pytest.raises(CliError) as raised:
                await add_task(
                    client,
                    "email:new",
                    None,
                    queue="LATE",
                    task_id=id,
                    deadline=None,
                    max_tries=10,
                    traceparent=None,
                    waits=False,
                )
        assert str(raised.value) == f"queue LATE does not exist; {kept}"
        assert raised.value.hint.startswith("make the queue: ajc-bridge queue add LATE; then ")
        assert raised.value.hint.endswith(mend)
        state = (await admin.load(id)).state
        assert state == ("new" if id == "before" else "queue_error")
