"""semantics: "On arrival of an item", row by row: each id quotes the table, each expectation is the whole answer."""

from __future__ import annotations

from typing import Any

import pytest
from decision_cases import (
    CREATED,
    EARLIER,
    ID,
    MILLISECOND,
    MINUTE,
    NOW,
    SECOND,
    Answer,
    Letter,
    after,
    make_arrival,
    make_policy,
    make_record,
    make_task,
)
from msgspec import Struct

from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Arrival, Record, Run, admit, hand_back
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.transition import ItemVerdict, Schedule, Transition

RUN_TIME = 10 * MINUTE
LEASE = 30 * SECOND
ABANDONED = "attempt abandoned: its lease ended without a reply"


class Row(Struct, frozen=True):
    """What is found, and the answer: its word, and the transition (None for a run)."""

    found: Record | None
    word: str
    answer: Answer
    arrival: Arrival = make_arrival()
    policy: QueuePolicy = make_policy()


def row(name: str, found: Record | Task | None, word: str, answer: Answer, **more: Any) -> Any:
    record = make_record(found) if isinstance(found, Task) else found
    return pytest.param(Row(record, word, answer, **more), id=name)


def expired(reason: str, error: str, tries: int = 0, **more: Any) -> Answer:
    saved = {"state": "expired", "dead_letter": reason} | more.pop("saved", {})
    return Answer(reason=reason, saved=saved, letter=Letter(reason, error, tries), **more)


def again(found: Task, reason: str, *, discard: bool = False, **more: Any) -> Answer:
    letter = Letter(reason, found.last_err, found.tries, found.encode(), NOW.plus(-MINUTE), **more)
    return Answer(reason="resettled", letter=letter, discard=discard)


def last(**fields: Any) -> Arrival:
    return make_arrival(exhausted=True, deliveries=5, **fields)


ENDED = {"tries": 2, "last_err": "no such mailbox", "tried": EARLIER}
TERMINATED = make_task("terminated", dead_letter="result_too_large", **ENDED)
EXPIRED = make_task("expired", dead_letter="deadline", **ENDED)
REFUSED = make_task("queue_error", dead_letter="queue_error", last_err="evicted by discard_old")
UNREACHABLE = make_task("unreachable", dead_letter="unreachable", last_err="task dependencies failed: x")
GO_TERMINATED = make_task("terminated", **ENDED)
GO_REFUSED = make_task("queue_error", last_err="maximum messages exceeded")
GO_UNREACHABLE = make_task("unreachable")
GO_TRIES = make_task("expired", max_tries=2, **ENDED)
GO_DEADLINE = make_task("expired", deadline=NOW.plus(-MINUTE), **ENDED)
GO_BOTH = make_task("expired", deadline=NOW.plus(-MINUTE), max_tries=2, **ENDED)
GO_LATER_DEADLINE = make_task("expired", deadline=NOW.plus(-MINUTE + 1), **ENDED)
NEWER = make_task("terminated", dead_letter="p" * 64, **ENDED)
NO_WORDS = {text: make_task("terminated", dead_letter=text, **ENDED) for text in ("x" * 65, "a b", "Tries", "\u00e9")}
CANCELLED = make_task("terminated", cancelled=EARLIER, last_err="cancelled: mistake")
ACTIVE = make_task("active", tries=1, tried=EARLIER)
LAST_TRY = make_task("active", tries=5, tried=EARLIER)
RETRY = make_task("retry", tries=1, tried=EARLIER, last_err="try later")


def retry_in(ns: int, **fields: Any) -> Task:
    return RETRY.replace(next_try_at=after(ns), **fields)


ROWS = [
    row("no record; asked of the leader too: Drop, ack", None, "drop", Answer(reason="no_record")),
    row(
        "item body cannot be decoded: dead letter malformed_item (id from the subject's last token), ack",
        make_record(make_task()),
        "refuse",
        Answer(
            reason="malformed_item",
            letter=Letter(
                "malformed_item", "the queue's item cannot be decoded", 0, b"\xff", type="", task_id="of.subject"
            ),
        ),
        arrival=make_arrival(subject_id="of.subject", item=None, item_bytes=b"\xff"),
    ),
    row(
        "item body names an id that is no legal token: dead letter malformed_item, ack",
        None,
        "refuse",
        Answer(
            reason="malformed_item",
            letter=Letter("malformed_item", "the queue's item names no legal task id", 0, b'{"job":"*"}', type=""),
        ),
        arrival=make_arrival(item=WorkItem("*"), item_bytes=b'{"job":"*"}'),
    ),
    row(
        "record cannot be decoded: dead letter malformed_task with the bytes as they are, ack",
        make_record(None, malformed="not JSON\x00"),
        "refuse",
        Answer(
            reason="malformed_task",
            letter=Letter("malformed_task", "the stored task cannot be decoded: not JSON", 0, b"{", type=""),
        ),
    ),
    row(
        "record holds another task's id: dead letter malformed_task with the bytes as they are, ack",
        make_record(make_task(id="CHORIA.>"), data=b"as stored"),
        "refuse",
        Answer(
            reason="malformed_task",
            letter=Letter(
                "malformed_task",
                "the stored task cannot be decoded: its id is not the one it is stored under",
                0,
                b"as stored",
                type="",
            ),
        ),
    ),
    *(
        row(
            f"readable record with an illegal type: terminated, last_err, dead letter invalid_type ({name})",
            make_task(state, type=type_, last_err="before", tries=1),
            "refuse",
            Answer(
                reason="invalid_type",
                saved={"state": "terminated", "last_err": text, "dead_letter": "invalid_type"},
                letter=Letter("invalid_type", text, 1, type=type_),
            ),
        )
        for name, state, type_, text in [
            ("a wildcard", "new", "email.>", "invalid task type 'email.>'"),
            ("a line break", "retry", "a\nb", "invalid task type 'a\\nb'"),
            ("none at all", "", "", "invalid task type ''"),
            ("too long", "blocked", "x" * 129, f"invalid task type '{'x' * 128}'"),
            ("while active", "active", "a b", "invalid task type 'a b'"),
        ]
    ),
    row("complete: ack", make_task("complete", tries=1), "discard", Answer(reason="complete")),
    row(
        "complete at its last delivery: ack",
        make_task("complete"),
        "discard",
        Answer(reason="complete"),
        arrival=last(),
    ),
    row("complete with an illegal type: ack", make_task("complete", type="*"), "discard", Answer(reason="complete")),
    row(
        "terminated: Resettle, its dead letter again as it was",
        TERMINATED,
        "resettle",
        again(TERMINATED, "result_too_large"),
    ),
    row("expired: Resettle, its dead letter again as it was", EXPIRED, "resettle", again(EXPIRED, "deadline")),
    row("queue_error: Resettle, its dead letter again as it was", REFUSED, "resettle", again(REFUSED, "queue_error")),
    row(
        "unreachable: Resettle, its dead letter again as it was",
        UNREACHABLE,
        "resettle",
        again(UNREACHABLE, "unreachable"),
    ),
    row(
        "terminated at its last delivery: Resettle",
        TERMINATED,
        "resettle",
        again(TERMINATED, "result_too_large"),
        arrival=last(),
    ),
    row(
        "terminated for its illegal type: Resettle, no second save",
        make_task("terminated", type="a b", dead_letter="invalid_type", last_err="invalid task type 'a b'"),
        "resettle",
        again(
            make_task("terminated", type="a b", dead_letter="invalid_type", last_err="invalid task type 'a b'"),
            "invalid_type",
            type="a b",
        ),
    ),
    row(
        "terminated where such records are not kept: Resettle, and the record goes",
        TERMINATED,
        "resettle",
        again(TERMINATED, "result_too_large", discard=True),
        policy=make_policy(retention={"terminated": 0, "expired": MINUTE}),
    ),
    row(
        "expired where such records are kept for a while: Resettle, and no second time to live",
        EXPIRED,
        "resettle",
        again(EXPIRED, "deadline"),
        policy=make_policy(retention={"terminated": 0, "expired": MINUTE}),
    ),
    row(
        "cancelled (terminated): Resettle, it has no dead letter",
        CANCELLED,
        "resettle",
        Answer(reason="resettled"),
    ),
    row(
        "terminated for a reason that only newer ones know: Resettle, the word is kept",
        NEWER,
        "resettle",
        again(NEWER, "p" * 64),
    ),
    *(
        row(
            f"terminated for what is no word ({text!r}): Resettle, the reason is the state",
            found,
            "resettle",
            again(found, "terminated"),
        )
        for text, found in NO_WORDS.items()
    ),
    row(
        "terminated by Go: Resettle, the reason is the state",
        GO_TERMINATED,
        "resettle",
        again(GO_TERMINATED, "terminated"),
    ),
    row(
        "queue_error by Go: Resettle, the reason is the state", GO_REFUSED, "resettle", again(GO_REFUSED, "queue_error")
    ),
    row(
        "unreachable by Go: Resettle, the reason is the state",
        GO_UNREACHABLE,
        "resettle",
        again(GO_UNREACHABLE, "unreachable"),
    ),
    row("expired by Go, tries used up: Resettle, tries", GO_TRIES, "resettle", again(GO_TRIES, "tries")),
    row("expired by Go, deadline passed: Resettle, deadline", GO_DEADLINE, "resettle", again(GO_DEADLINE, "deadline")),
    row("expired by Go, both: Resettle, tries", GO_BOTH, "resettle", again(GO_BOTH, "tries")),
    row(
        "expired by Go, deadline later than the save: Resettle, tries",
        GO_LATER_DEADLINE,
        "resettle",
        again(GO_LATER_DEADLINE, "tries"),
    ),
    row(
        "active, first delivery, younger than the run time: Wait one lease",
        make_record(ACTIVE, age=RUN_TIME - 1),
        "wait",
        Answer(reason="leased", after=(LEASE, 0)),
    ),
    row(
        "active, first delivery, younger, past its deadline and its cap: Wait all the same (somebody else has it)",
        make_record(LAST_TRY.replace(deadline=after(-1)), age=0),
        "wait",
        Answer(reason="leased", after=(LEASE, 0)),
    ),
    row(
        "active, first delivery, stored in the future by the server's clock: Wait one lease; the count of waits stays",
        make_record(ACTIVE, age=-SECOND),
        "wait",
        Answer(reason="leased", after=(LEASE, 4)),
        arrival=make_arrival(item=WorkItem(ID, waits=4)),
    ),
    row(
        "active otherwise: abandoned, no tries left: expired, dead letter tries",
        LAST_TRY,
        "expire",
        expired("tries", ABANDONED, 5, saved={"last_err": ABANDONED}),
        arrival=make_arrival(deliveries=2),
    ),
    row(
        "active otherwise: abandoned, no tries left and past the deadline: dead letter tries",
        LAST_TRY.replace(deadline=NOW),
        "expire",
        expired("tries", ABANDONED, 5, saved={"last_err": ABANDONED}),
        arrival=make_arrival(deliveries=2),
    ),
    row(
        "active otherwise: abandoned, tries left but past the deadline: expired, dead letter deadline",
        ACTIVE.replace(deadline=NOW),
        "expire",
        expired("deadline", "deadline passed", 1, saved={"last_err": "deadline passed"}),
        arrival=make_arrival(deliveries=2),
    ),
    row(
        "active, as old as the run time at a first delivery, no tries left: expired, dead letter tries",
        make_record(LAST_TRY, age=RUN_TIME),
        "expire",
        expired("tries", ABANDONED, 5, saved={"last_err": ABANDONED}),
    ),
    row(
        "active, the server will not deliver it again: expired, dead letter tries, with tries left",
        ACTIVE,
        "expire",
        expired("tries", ABANDONED, 1, saved={"last_err": ABANDONED}),
        arrival=make_arrival(exhausted=True),
    ),
    row(
        "retry with next_try_at more than 250 ms away: Resettle, its schedule again, ack",
        retry_in(250 * MILLISECOND + 1),
        "resettle",
        Answer(reason="rescheduled", after=(250 * MILLISECOND + 1, 0)),
    ),
    row(
        "retry with next_try_at far away, past its deadline and its cap: Resettle first",
        retry_in(MINUTE, deadline=NOW, max_tries=1),
        "resettle",
        Answer(reason="rescheduled", after=(MINUTE, 0)),
    ),
    row(
        "retry far away at its last delivery: Resettle (its schedule makes a fresh item), the count of waits stays",
        retry_in(MINUTE),
        "resettle",
        Answer(reason="rescheduled", after=(MINUTE, 3)),
        arrival=last(item=WorkItem(ID, waits=3)),
    ),
    row(
        "parked new with next_try_at more than 250 ms away: Resettle, its schedule again, ack",
        make_task(next_try_at=after(MINUTE)),
        "resettle",
        Answer(reason="rescheduled", after=(MINUTE, 0)),
    ),
    row(
        "past the task's deadline: expired, last_err kept, dead letter deadline",
        RETRY.replace(deadline=NOW),
        "expire",
        expired("deadline", "try later", 1),
    ),
    row(
        "past the task's deadline: expired, last_err 'deadline passed', dead letter deadline",
        make_task(deadline=after(-1)),
        "expire",
        expired("deadline", "deadline passed", saved={"last_err": "deadline passed"}),
    ),
    row(
        "past the task's deadline and its cap: dead letter deadline, next_try_at goes",
        retry_in(0, deadline=NOW, max_tries=1),
        "expire",
        expired("deadline", "try later", 1, saved={"next_try_at": None}),
    ),
    row(
        "past the task's deadline while blocked: expired, dead letter deadline",
        make_task("blocked", deadline=NOW),
        "expire",
        expired("deadline", "deadline passed", saved={"last_err": "deadline passed"}),
    ),
    row(
        "tries at the cap: expired, dead letter tries, last_err kept",
        RETRY.replace(tries=5),
        "expire",
        expired("tries", "try later", 5),
    ),
    row(
        "tries at the task's own cap: expired, dead letter tries",
        make_task(max_tries=1, tries=1),
        "expire",
        expired("tries", "tries used up", 1, saved={"last_err": "tries used up"}),
    ),
    row(
        "tries above the cap: expired, dead letter tries",
        make_task(tries=6),
        "expire",
        expired("tries", "tries used up", 6, saved={"last_err": "tries used up"}),
    ),
    row("blocked: not run, Wait 5 s", make_task("blocked"), "wait", Answer(reason="blocked", after=(5 * SECOND, 0))),
    row(
        "blocked: the wait ends at the deadline, the count of waits stays",
        make_task("blocked", deadline=after(SECOND)),
        "wait",
        Answer(reason="blocked", after=(SECOND, 7)),
        arrival=make_arrival(item=WorkItem(ID, waits=7)),
    ),
    row(
        "blocked at its last delivery: Wait (the schedule makes a fresh item)",
        make_task("blocked"),
        "wait",
        Answer(reason="blocked", after=(5 * SECOND, 0)),
        arrival=last(),
    ),
    *(
        row(
            f"a state nobody knows: not touched, Wait, growing to 5 min ({waits} before)",
            make_task("paused", type="*", deadline=NOW, tries=99),
            "wait",
            Answer(reason="unknown_state", after=(seconds * SECOND, waits + 1)),
            arrival=arrival,
        )
        for waits, seconds, arrival in [
            (0, 5, make_arrival()),
            (1, 10, make_arrival(item=WorkItem(ID, waits=1))),
            (5, 160, make_arrival(item=WorkItem(ID, waits=5))),
            (6, 300, make_arrival(item=WorkItem(ID, waits=6))),
            (10**6, 300, make_arrival(item=WorkItem(ID, waits=10**6))),
            (2, 20, last(item=WorkItem(ID, waits=2))),
        ]
    ),
    *(
        row(
            f"{state or 'the empty state'}, the server will not deliver it again: expired, dead letter tries",
            make_task(state, last_err=text, tries=1),
            "expire",
            expired("tries", text or "tries used up", 1, saved=saved),
            arrival=last(),
        )
        for state, text, saved in [
            ("new", "", {"last_err": "tries used up"}),
            ("", "", {"last_err": "tries used up"}),
            ("retry", "try later", {}),
        ]
    ),
    row(
        "retention: an expired task is kept for so long",
        RETRY.replace(deadline=NOW),
        "expire",
        expired("deadline", "try later", 1, ttl=MINUTE),
        policy=make_policy(retention={"expired": MINUTE}),
    ),
    row(
        "retention: an expired task is discarded",
        RETRY.replace(deadline=NOW),
        "expire",
        expired("deadline", "try later", 1, discard=True),
        policy=make_policy(retention={"expired": 0}),
    ),
    row(
        "the item's queue counts everywhere: a dead letter goes to it, and the task's field is kept",
        RETRY.replace(deadline=NOW, queue="OTHER"),
        "expire",
        expired("deadline", "try later", 1),
    ),
]


@pytest.mark.parametrize("case", ROWS)
def test_arrival(case: Row) -> None:
    admission = admit(case.found, case.arrival, case.policy, NOW)
    assert not isinstance(admission, Run)
    assert admission.word == case.word
    found = case.found.task if case.found else None
    assert Answer.of(admission.transition, found) == case.answer


RUNS = [
    pytest.param(make_record(make_task()), make_arrival(), id="new: Run"),
    pytest.param(make_record(make_task(""), age=0), make_arrival(), id="the empty state: Run"),
    pytest.param(make_record(RETRY), make_arrival(), id="retry without an instant is due: Run"),
    pytest.param(make_record(retry_in(0)), make_arrival(), id="retry that is due: Run"),
    pytest.param(make_record(retry_in(250 * MILLISECOND)), make_arrival(), id="retry 250 ms away is due: Run"),
    pytest.param(make_record(make_task(), age=0), make_arrival(deliveries=3), id="new, redelivered: Run"),
    pytest.param(make_record(make_task(deadline=after(1))), make_arrival(), id="the deadline has not come: Run"),
    pytest.param(make_record(make_task(tries=4)), make_arrival(), id="one try left: Run"),
    pytest.param(make_record(make_task(max_tries=0, tries=4)), make_arrival(), id="one try left of the queue's: Run"),
    pytest.param(make_record(ACTIVE, age=0), make_arrival(deliveries=2), id="active, redelivered, tries left: Run"),
    pytest.param(
        make_record(ACTIVE, age=RUN_TIME), make_arrival(), id="active, first delivery, as old as the run time: Run"
    ),
    pytest.param(
        make_record(ACTIVE.replace(deadline=after(1), tries=4), age=0),
        make_arrival(deliveries=2),
        id="active, redelivered, one try left, the deadline has not come: Run",
    ),
    pytest.param(
        make_record(make_task(queue="OTHER")), make_arrival(), id="another queue's item: Run, the field is kept"
    ),
]


@pytest.mark.parametrize(("found", "arrival"), RUNS)
def test_run_counts_the_try_in_the_active_save(found: Record, arrival: Arrival) -> None:
    admission = admit(found, arrival, make_policy(), NOW)
    assert isinstance(admission, Run)
    assert admission.word == "run"
    assert admission.before is found.task
    assert admission.active == found.task.replace(
        state="active", tries=found.task.tries + 1, tried=NOW, last_err="", next_try_at=None
    )


def test_without_any_cap_a_task_always_runs() -> None:
    task = make_task(max_tries=0, tries=2**63 - 1)
    admission = admit(make_record(task), make_arrival(), make_policy(max_tries=0), NOW)
    assert isinstance(admission, Run)
    assert admission.active.tries == 2**63 - 1  # what a record can hold


def test_an_arrival_is_a_first_delivery_that_is_not_the_last_unless_it_says_so() -> None:
    assert Arrival("Q", "id", None, b"") == Arrival("Q", "id", None, b"", deliveries=1, exhausted=False)
    assert Record("id", b"", 1, CREATED) == Record("id", b"", 1, CREATED, task=None, malformed="")


def test_an_item_that_is_not_begun_is_handed_back() -> None:
    arrival = make_arrival(item=WorkItem(ID, waits=3))
    back = Transition(reason="handed_back", item=ItemVerdict.NAK)
    assert hand_back(arrival, make_policy(), NOW) == back


def test_where_the_server_counts_deliveries_it_comes_as_a_fresh_item() -> None:
    arrival = make_arrival(item=WorkItem(ID, waits=3))
    fresh = Transition(reason="handed_back", schedule=Schedule(NOW, 3))
    assert hand_back(arrival, make_policy(max_deliver=1), NOW) == fresh


@pytest.mark.parametrize("item", [None, WorkItem("a.b")])
def test_an_item_that_names_no_task_makes_no_fresh_one(item: WorkItem | None) -> None:
    back = Transition(reason="handed_back", item=ItemVerdict.NAK)
    assert hand_back(make_arrival(item=item), make_policy(max_deliver=1), NOW) == back
