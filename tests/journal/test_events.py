"""Every save is told on core NATS."""

from __future__ import annotations

from ajc.errors import Unavailable
from ajc.events import TaskStateChanged, decode_event
from ajc.instant import Instant
from ajc.task import Task
from ajc_bridge.happenings import TaskSaved
from ajc_bridge.journal.events import Events
from ajc_bridge.journal.journal import Journal

NOW = Instant.parse("2026-02-07T10:16:42Z")


def test_a_save_is_an_event_with_the_items_queue() -> None:
    sent: list[tuple[str, bytes]] = []
    task = Task.create("email:new", queue="FIELD", created=NOW).replace(state="active", tries=2, last_err="boom")
    Journal([Events(lambda subject, body: sent.append((subject, body)), lambda: NOW)]).note(TaskSaved(task, "ITEM", 3))
    ((subject, body),) = sent
    event = decode_event(body)
    assert subject == f"CHORIA_AJ.E.task_state.{task.id}"
    assert isinstance(event, TaskStateChanged)
    assert (event.task_id, event.state, event.tries, event.task_type, event.last_error) == (
        task.id,
        "active",
        2,
        "email:new",
        "boom",
    )


def test_an_event_that_cannot_be_sent_is_lost_and_counted() -> None:
    def publish(_subject: str, _body: bytes) -> None:
        raise Unavailable("full")

    events = Events(publish, lambda: NOW)
    journal = Journal([events])
    journal.note(TaskSaved(Task.create("t"), "Q", 1))
    journal.note(TaskSaved(Task.create("t").replace(id="no token.*"), "Q", 1))
    assert events.lost == 2
