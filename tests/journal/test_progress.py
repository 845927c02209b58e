"""Progress is told ten times a second a task at most, and never after the save that ends its attempt."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from ajc.errors import Unavailable
from ajc.events import TaskStateChanged, decode_event
from ajc.instant import Instant
from ajc.progress import TaskProgressed
from ajc.task import Task
from ajc_bridge.happenings import AttemptBeaten, TaskSaved
from ajc_bridge.journal.events import Events
from ajc_bridge.journal.journal import Journal
from ajc_bridge.journal.progress import WINDOW_SECONDS, ProgressEvents

NOW = Instant.parse("2026-02-07T10:16:42Z")


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A journal with both sinks of events, and a time that goes on when it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str, TaskProgressed | TaskStateChanged]] = []
        self.time = 0.0
        self.timers: list[Timer] = []
        self.full = False
        self.sink = ProgressEvents(self.publish, lambda: NOW, self.call_later)
        self.journal = Journal([self.sink, Events(self.publish, lambda: NOW)])

    def publish(self, subject: str, body: bytes) -> None:
        if self.full:
            raise Unavailable("full")
        event = decode_event(body)
        assert isinstance(event, (TaskProgressed, TaskStateChanged))
        self.sent.append((self.time, subject, event))

    def call_later(self, seconds: float, call: Callable[[str], None], task_id: str) -> Timer:
        self.timers.append(Timer(self.time + seconds, lambda: call(task_id)))
        return self.timers[-1]

    def beat(self, percent: int | None, message: str = "", task_id: str = "t1") -> None:
        self.journal.note(AttemptBeaten("Q", "kind", task_id, 2, percent, message))

    def goes_on(self, seconds: float) -> None:
        until = self.time + seconds
        while due := [one for one in self.timers if one.at <= until and not one.cancelled]:
            first = min(due, key=lambda one: one.at)
            self.timers.remove(first)
            self.time = first.at
            first.call()
        self.time = until

    @property
    def percents(self) -> list[float | None]:
        return [event.percent for _, _, event in self.sent if isinstance(event, TaskProgressed)]


def test_progress_is_an_event_at_once() -> None:
    world = World()
    world.beat(50, "rendered")
    ((at, subject, event),) = world.sent
    assert (at, subject) == (0.0, "CHORIA_AJ.E.task_progress.t1")
    assert event == TaskProgressed(
        event_id=event.event_id,
        timestamp=NOW,
        task_id="t1",
        queue="Q",
        task_type="kind",
        tries=2,
        percent=50,
        message="rendered",
    )


def test_a_mere_sign_of_life_is_no_event() -> None:
    world = World()
    world.beat(None)
    assert world.sent == []
    assert world.timers == []


def test_a_flood_is_ten_a_second_and_the_newest_of_each() -> None:
    world = World()
    for number in range(1000):
        world.beat(None, f"step {number}")
        world.goes_on(0.001)
    assert len(world.sent) <= 1 + 1 / WINDOW_SECONDS
    times = [at for at, _, _ in world.sent]
    assert all(later - earlier > WINDOW_SECONDS - 1e-9 for earlier, later in pairwise(times))
    world.goes_on(1)
    last = world.sent[-1][2]
    assert isinstance(last, TaskProgressed)
    assert last.message == "step 999"
    assert world.sink._windows == {}


def test_the_last_one_comes_before_the_event_of_the_save() -> None:
    world = World()
    world.beat(10)
    world.beat(99)
    world.beat(100)
    task = Task.create("kind", queue="Q", created=NOW).replace(id="t1", state="complete")
    world.journal.note(TaskSaved(task, "Q", 3))
    assert [event.TYPE.rpartition(".")[2] for _, _, event in world.sent] == [
        "task_progress",
        "task_progress",
        "task_state",
    ]
    assert world.percents == [10, 100]
    world.goes_on(10)
    assert world.percents == [10, 100]
    assert world.sink._windows == {}


def test_each_task_has_a_window_of_its_own() -> None:
    world = World()
    for task_id in ("a", "b", "c"):
        world.beat(1, task_id=task_id)
        world.beat(2, task_id=task_id)
    assert world.percents == [1, 1, 1]
    world.journal.note(TaskSaved(Task.create("kind", created=NOW).replace(id="other"), "Q", 3))
    world.goes_on(WINDOW_SECONDS)
    assert world.percents == [1, 1, 1, 2, 2, 2]


def test_what_cannot_be_sent_is_lost_and_counted() -> None:
    world = World()
    world.full = True
    world.beat(1)
    world.beat(2)
    world.goes_on(1)
    world.beat(3, task_id="no token.*")
    assert world.sink.lost == 3
