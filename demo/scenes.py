"""What the demonstration does, and what must come of it: one scene per kind of end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import msgspec

from ajc.making_tasks import new_task
from ajc.task import Task

QUEUES: Final = ("LETTERS", "REPORTS")

CONFIGURATION: Final = """\
[nats]
url = "{url}"

[bridge]
name = "demo"
drain = "5s"

[http]
listen = "127.0.0.1:0"

[log]
format = "json"

[queues.LETTERS]
priority = 20
max_run_time = "20s"
backoff = "soon"

[queues.REPORTS]
max_run_time = "20s"

[backoff.soon]
steps = ["500ms", "1s"]
jitter = 0.5
"""


class Ending(msgspec.Struct, frozen=True, order=True):
    """How a task ended: its state, its tries, the reason of its dead letter ("" for none)."""

    state: str
    tries: int
    dead_letter: str = ""

    def __str__(self) -> str:
        times = f"{self.tries} {'try' if self.tries == 1 else 'tries'}"
        return f"{self.state}, {times}" + (f", dead letter: {self.dead_letter}" if self.dead_letter else "")


class Scene(msgspec.Struct, frozen=True):
    """Some tasks of one type, and the one ending that all of them must have."""

    title: str
    by: str
    type: str
    count: int
    ending: Ending
    payload: Callable[[int], Any]
    result: Callable[[int], bytes | None] = lambda _: None
    queue: str = "LETTERS"
    max_tries: int = 5
    deadline: timedelta | None = None
    late: bool = False

    def tasks(self) -> Iterator[Task]:
        """Make the tasks, one by one."""
        for number in range(self.count):
            yield new_task(
                self.type,
                self.payload(number),
                queue=self.queue,
                max_tries=self.max_tries,
                deadline=self.deadline,
            )


SCENES: Final = (
    Scene(
        title="succeed",
        by="SDK",
        type="email:new",
        count=150,
        payload=lambda n: {"to": f"reader{n}@example.net"},
        result=lambda n: b'{"sent":"reader%d@example.net"}' % n,
        ending=Ending("complete", 1),
    ),
    Scene(
        title="fail twice, then recover",
        by="SDK",
        type="email:new",
        count=40,
        payload=lambda n: {"to": f"patient{n}@example.net", "works_on_try": 3},
        result=lambda n: b'{"sent":"patient%d@example.net"}' % n,
        ending=Ending("complete", 3),
    ),
    Scene(
        title="are told to stop: no address",
        by="SDK",
        type="email:new",
        count=25,
        payload=lambda _: {"to": "nobody"},
        ending=Ending("terminated", 1, "terminated"),
    ),
    Scene(
        title="miss their deadline",
        by="SDK",
        type="report:render",
        queue="REPORTS",
        count=15,
        payload=lambda _: {"seconds": 60},
        deadline=timedelta(seconds=3),
        ending=Ending("expired", 1, "deadline"),
    ),
    Scene(
        title="succeed",
        by="shell script",
        type="words:count",
        count=40,
        payload=lambda n: b"word " * (n + 1),
        result=lambda n: b"%d\n" % (n + 1),
        ending=Ending("complete", 1),
    ),
    Scene(
        title="are told to try again, once",
        by="shell script",
        type="words:count",
        count=10,
        payload=lambda _: b"busy at first",
        result=lambda _: b"3\n",
        ending=Ending("complete", 2),
    ),
    Scene(
        title="succeed",
        by="plain nats-py",
        type="numbers:sum",
        count=100,
        payload=lambda n: list(range(n + 1)),
        result=lambda n: b"%d" % (n * (n + 1) // 2),
        ending=Ending("complete", 1),
    ),
    Scene(
        title="use up their tries",
        by="plain nats-py",
        type="numbers:sum",
        count=20,
        payload=lambda _: [1, "two", 3],
        max_tries=3,
        ending=Ending("expired", 3, "tries"),
    ),
    Scene(
        title="wait for a responder that comes later",
        by="tr a-z A-Z",
        type="label:print",
        count=30,
        payload=lambda n: b"parcel %d" % n,
        result=lambda n: b"PARCEL %d" % n,
        ending=Ending("complete", 1),
        late=True,
    ),
)
