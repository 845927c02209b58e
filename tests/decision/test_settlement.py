"""semantics: "Outcomes", "Counting", retry-after and texts, row by row. Each expectation is the whole answer."""

from __future__ import annotations

from typing import Any

import pytest
from decision_cases import (
    EARLIER,
    MILLISECOND,
    MINUTE,
    NOW,
    SECOND,
    STEP,
    Answer,
    Letter,
    after,
    make_policy,
    make_task,
    running,
)
from msgspec import Struct

from ajc.instant import Instant
from ajc.task import Result, Task
from ajc_bridge.decision.outcome import (
    Abandoned,
    Busy,
    Failed,
    Interrupted,
    Malformed,
    NoHeartbeat,
    NoResponder,
    Outcome,
    ResultTooLarge,
    Succeeded,
    TaskTooLarge,
    Terminated,
    TimedOut,
)
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.settlement import Attempt, decide
from ajc_bridge.decision.transition import ItemVerdict

DAY = 24 * 60 * MINUTE
EARLIEST = EARLIER.plus(-MINUTE)
ABANDONED = "attempt abandoned: its lease ended without a reply"


class Row(Struct, frozen=True):
    attempt: Attempt
    outcome: Outcome
    answer: Answer
    policy: QueuePolicy = make_policy()


def row(name: str, outcome: Outcome, answer: Answer, before: Task | None = None, *, waits: int = 0, **more: Any) -> Any:
    attempt = Attempt(*running(before if before is not None else make_task()), waits)
    return pytest.param(Row(attempt, outcome, answer, **more), id=name)


def retried(text: str, delay: int = STEP) -> Answer:
    saved = {"state": "retry", "last_err": text, "next_try_at": after(delay)}
    return Answer(reason="retry", saved=saved, after=(delay, 0), counted=True)


def expired(reason: str, text: str, tries: int = 5, **more: Any) -> Answer:
    return Answer(
        reason=reason,
        saved={"state": "expired", "last_err": text, "dead_letter": reason},
        letter=Letter(reason, text, tries),
        counted=True,
        **more,
    )


def terminated(reason: str, text: str, **more: Any) -> Answer:
    return Answer(
        reason=reason,
        saved={"state": "terminated", "last_err": text, "dead_letter": reason},
        letter=Letter(reason, text, 1),
        counted=True,
        **more,
    )


def completed(body: bytes, **more: Any) -> Answer:
    saved = {"state": "complete", "result": Result.of_bytes(body, NOW)}
    return Answer(reason="complete", saved=saved, counted=True, **more)


def parked(word: str, text: str, delay: int = SECOND, waits: int = 1, state: str = "new", **saved: Any) -> Answer:
    """Back as it was: against the active save, the state, the try, its instant, and why."""
    back = {"state": state, "tries": 0, "tried": None, "last_err": text, "next_try_at": after(delay)}
    return Answer(reason=word, saved=back | saved, after=(delay, waits))


LAST = make_task(tries=4)
SECOND_TRY = make_task("retry", tries=1, tried=EARLIEST, last_err="before")
AGAIN = make_task("active", tries=1, tried=EARLIEST)
SOON = make_task(deadline=after(SECOND // 2))
LATE = make_task(deadline=after(-1))

ROWS = [
    row("result: complete, last_err removed, counts, ack", Succeeded(b"done"), completed(b"done")),
    row("result: an empty body is a result", Succeeded(b""), completed(b"")),
    row("result at the last try: complete", Succeeded(b"x"), completed(b"x"), LAST),
    row("result after the deadline: complete", Succeeded(b"x"), completed(b"x"), LATE),
    row(
        "result: kept for so long",
        Succeeded(b"x"),
        completed(b"x", ttl=MINUTE),
        policy=make_policy(retention={"complete": MINUTE}),
    ),
    row(
        "result: discarded",
        Succeeded(b"x"),
        completed(b"x", discard=True),
        policy=make_policy(retention={"complete": 0, "expired": MINUTE}),
    ),
    row(
        "result: another state's retention is no matter",
        Succeeded(b"x"),
        completed(b"x"),
        policy=make_policy(retention={"expired": MINUTE}),
    ),
    row(
        "AJ-Terminate: terminated, its text, counts, ack, dead letter terminated",
        Terminated("no address"),
        terminated("terminated", "no address"),
    ),
    row(
        "AJ-Terminate: kept for so long",
        Terminated("no address"),
        terminated("terminated", "no address", ttl=MINUTE),
        policy=make_policy(retention={"terminated": MINUTE}),
    ),
    row(
        "AJ-Terminate: discarded",
        Terminated("no address"),
        terminated("terminated", "no address", discard=True),
        policy=make_policy(retention={"terminated": 0}),
    ),
    row("AJ-Error, tries left: retry, next_try_at, its text, counts, schedule, ack", Failed("500"), retried("500")),
    row(
        "AJ-Error, one try left: retry",
        Failed("500"),
        retried("500", 2 * STEP),
        make_task(tries=3),
    ),
    row(
        "AJ-Error, none left: expired, its text, counts, ack, dead letter tries",
        Failed("500"),
        expired("tries", "500"),
        LAST,
    ),
    row(
        "AJ-Error, none left of the task's own: expired",
        Failed("500"),
        expired("tries", "500", 1),
        make_task(max_tries=1),
    ),
    row(
        "AJ-Error, without a cap: retry",
        Failed("500"),
        retried("500", 2 * STEP),
        make_task(max_tries=0, tries=10**6),
        policy=make_policy(max_tries=0),
    ),
    row(
        "AJ-Error, none left: discarded where expired tasks are",
        Failed("500", 1),
        expired("tries", "500", discard=True),
        LAST,
        policy=make_policy(retention={"expired": 0}),
    ),
    row("retry-after takes the place of the backoff", Failed("x", 1_234), retried("x", 1_234 * MILLISECOND)),
    row("retry-after 0: at once", Failed("x", 0), retried("x", 0)),
    row("retry-after at most 30 days", Failed("x", 30 * 86_400_000), retried("x", 30 * DAY)),
    row("retry-after beyond 30 days is clamped", Failed("x", 30 * 86_400_000 + 1), retried("x", 30 * DAY)),
    row("retry-after below 0 is ignored", Failed("x", -1), retried("x")),
    row(
        "the schedule is never later than the task's deadline",
        Failed("x"),
        retried("x", SECOND // 2),
        SOON,
    ),
    row(
        "the schedule is never later than the task's deadline, whatever was asked",
        Failed("x", 86_400_000),
        retried("x", SECOND // 2),
        SOON,
    ),
    row("a schedule at the deadline stays", Failed("x", 500), retried("x", SECOND // 2), SOON),
    row("a schedule 1 ms before the deadline stays", Failed("x", 499), retried("x", 499 * MILLISECOND), SOON),
    row("past the deadline the schedule is now", Failed("x"), retried("x", 0), LATE),
    row(
        "backoff index: counted tries so far, from 1",
        Failed("x"),
        retried("x", 2 * STEP),
        SECOND_TRY,
    ),
    row("timed out: as an error, 'no reply within 28s'", TimedOut(28 * SECOND), retried("no reply within 28s")),
    row(
        "timed out: the text is cut to milliseconds",
        TimedOut(1_500_999_999),
        retried("no reply within 1.5s"),
    ),
    row(
        "timed out, none left: expired, dead letter tries",
        TimedOut(SECOND),
        expired("tries", "no reply within 1s"),
        LAST,
    ),
    row(
        "timed out at the task's deadline: expired at once, reason deadline",
        TimedOut(SECOND, at_deadline=True),
        expired("deadline", "no reply within 1s", 1),
    ),
    row(
        "timed out at the task's deadline with no tries left: reason deadline",
        TimedOut(SECOND, at_deadline=True),
        expired("deadline", "no reply within 1s"),
        LAST,
    ),
    row(
        "EXEC-28: three missed beats: as an error, 'no heartbeat for 30s'",
        NoHeartbeat(30 * SECOND),
        retried("no heartbeat for 30s"),
    ),
    row(
        "EXEC-28: three missed beats: the text is cut to milliseconds",
        NoHeartbeat(9_999_999_999),
        retried("no heartbeat for 9.999s"),
    ),
    row(
        "EXEC-28: three missed beats, none left: expired, dead letter tries",
        NoHeartbeat(3 * SECOND),
        expired("tries", "no heartbeat for 3s"),
        LAST,
    ),
    row(
        "reply that cannot be parsed: as an error, 'malformed reply: …'",
        Malformed("status 404"),
        retried("malformed reply: status 404"),
    ),
    row(
        "reply that cannot be parsed, none left: expired, dead letter tries",
        Malformed("no header block"),
        expired("tries", "malformed reply: no header block"),
        LAST,
    ),
    row(
        "result does not fit: terminated, counts, ack, dead letter result_too_large",
        ResultTooLarge(2_000_000, 1_048_576),
        terminated("result_too_large", "result of 2000000 bytes exceeds 1048576"),
    ),
    *(
        row(
            f"nobody there (503): as before, not counted, schedule 1 s doubling to 10 s, ack ({waits} before)",
            NoResponder("ajc.exec.email:new"),
            parked("no_responder", "no responder on ajc.exec.email:new", seconds * SECOND, waits + 1),
            waits=waits,
        )
        for waits, seconds in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 10), (5, 10), (10**6, 10)]
    ),
    row(
        "nobody could be asked: as nobody there, with the reason",
        NoResponder("s", "no permission"),
        parked("no_responder", "no permission", 4 * SECOND, 3),
        waits=2,
    ),
    row(
        "AJ-Busy: after what was asked",
        Busy("full", 90_000),
        parked("busy", "full", 90 * SECOND, 4),
        waits=3,
    ),
    row("AJ-Busy: 30 days at most", Busy("full", 10**12), parked("busy", "full", 30 * DAY)),
    row("AJ-Busy: 0 is a retry-after", Busy("full", 0), parked("busy", "full", 0)),
    row(
        "parked: never later than the deadline",
        NoResponder("s"),
        parked("no_responder", "no responder on s", SECOND // 2),
        SOON,
    ),
    row("AJ-Busy: never later than the deadline", Busy("full", 60_000), parked("busy", "full", SECOND // 2), SOON),
    row("parked past the deadline: now", NoResponder("s"), parked("no_responder", "no responder on s", 0), LATE),
    row(
        "not counted: a retry is a retry again, with the tries and the instant it had",
        NoResponder("s"),
        parked("no_responder", "no responder on s", state="retry", tries=1, tried=EARLIEST),
        SECOND_TRY,
    ),
    row(
        "not counted: the empty state is the empty state again",
        NoResponder("s"),
        parked("no_responder", "no responder on s", state=""),
        make_task(""),
    ),
    row(
        "not counted: an abandoned attempt's task goes back as retry, and the abandoned try stays counted",
        NoResponder("s"),
        parked("no_responder", "no responder on s", state="retry", tries=1, tried=EARLIEST),
        AGAIN,
    ),
    row(
        "not counted at the last try: as before",
        Busy("full", 1_000),
        parked("busy", "full", tries=4),
        LAST,
    ),
    row(
        "interrupted (drain limit passed): as before, not counted, NAK, no delay",
        Interrupted(),
        Answer(
            reason="interrupted",
            saved={"state": "new", "tries": 0, "tried": None, "last_err": "interrupted"},
            item="nak",
        ),
        waits=3,
    ),
    row(
        "interrupted where the server counts deliveries: a fresh item at once, which has all of them",
        Interrupted(),
        Answer(
            reason="interrupted",
            saved={"state": "new", "tries": 0, "tried": None, "last_err": "interrupted"},
            after=(0, 3),
        ),
        waits=3,
        policy=make_policy(max_deliver=1),
    ),
    row(
        "interrupted: a retry is due at once",
        Interrupted(),
        Answer(
            reason="interrupted",
            saved={"state": "retry", "tries": 1, "tried": EARLIEST, "last_err": "interrupted"},
            item="nak",
        ),
        SECOND_TRY.replace(next_try_at=after(-1)),
    ),
    row(
        "abandoned, tries left: retry, due at once, counted",
        Abandoned(),
        retried(ABANDONED, 0),
    ),
    row("abandoned, none left: expired, dead letter tries", Abandoned(), expired("tries", ABANDONED), LAST),
]


@pytest.mark.parametrize("case", ROWS)
def test_outcome(case: Row) -> None:
    transition = decide(case.attempt, case.outcome, case.policy, NOW)
    assert Answer.of(transition, case.attempt.active) == case.answer


def test_a_result_is_stored_as_bytes_and_nothing_else_is_touched() -> None:
    before, active = running(make_task(last_err="before", extra={"x": b"1"}))
    saved = decide(Attempt(before, active), Succeeded(b"done"), make_policy(), NOW).task
    assert saved is not None
    assert saved == active.replace(state="complete", result=Result.of_bytes(b"done", NOW))
    assert saved.result is not None
    assert bytes(saved.result.payload) == b'"ZG9uZQ=="'
    assert saved.result.completed == NOW


def test_a_counted_outcome_of_a_legacy_active_save_loses_what_a_run_removes() -> None:
    """Go knows no next_try_at and clears last_err itself; a record that carries them still ends clean."""
    active = make_task("active", tries=1, last_err="old", next_try_at=after(9))
    attempt = Attempt(active, active)
    for outcome in (Succeeded(b""), Terminated("x"), TimedOut(1, at_deadline=True)):
        task = decide(attempt, outcome, make_policy(), NOW).task
        assert task is not None
        assert task.next_try_at is None
        assert task.last_err != "old"


TASK = make_task(last_err="before", tries=1, tried=EARLIEST)
TEXT = "task of 5000 bytes exceeds {}"


def too_large(limit: int) -> tuple[Answer, Task]:
    transition = decide(Attempt(*running(TASK)), TaskTooLarge(5_000, limit), make_policy(), NOW)
    saved = TASK.replace(state="terminated", last_err=TEXT.format(limit), dead_letter="task_too_large")
    return Answer.of(transition, TASK), saved


def stored_size(limit: int) -> int:
    return len(too_large(limit)[1].encode())


SIZE = stored_size(1_000)  # the limit's digits are part of the text


@pytest.mark.parametrize(
    ("limit", "saves", "body"),
    [
        pytest.param(SIZE + 1_024, True, "task", id="terminated where that fits, dead letter with it"),
        pytest.param(SIZE + 1_023, True, b"", id="terminated where that fits, dead letter with an empty body"),
        pytest.param(SIZE + 256, True, b"", id="the save just fits"),
        pytest.param(SIZE - 1, False, b"", id="else the record stays as it is and the dead letter is its end"),
    ],
)
def test_active_save_or_request_does_not_fit(limit: int, saves: bool, body: bytes | str) -> None:
    # a limit of three digits makes a shorter text than one of four: compare with the size that this limit leads to
    limit += stored_size(limit) - SIZE
    answer, saved = too_large(limit)
    text = TEXT.format(limit)
    assert answer == Answer(
        reason="task_too_large",
        saved={"state": "terminated", "last_err": text, "dead_letter": "task_too_large"} if saves else None,
        letter=Letter("task_too_large", text, 1, body),
    )
    assert saved.tries == TASK.tries


def test_the_save_must_fit_with_its_headers() -> None:
    for limit in range(SIZE + 200, SIZE + 300):
        saves = stored_size(limit) + 256 <= limit
        assert (too_large(limit)[0].saved is not None) is saves


def test_a_task_that_fits_into_the_store_alone_is_terminated_there() -> None:
    size = stored_size(100)
    for store_limit, body in ((size + 1_024, None), (size + 1_023, b"")):
        too_large_to_ask = TaskTooLarge(5_000, 100, store_limit)
        transition = decide(Attempt(*running(TASK)), too_large_to_ask, make_policy(), NOW)
        assert transition.task is not None
        assert (transition.task.state, transition.task.tries) == ("terminated", TASK.tries)
        assert transition.dead_letter is not None
        assert transition.dead_letter.body == body


def test_a_task_that_is_too_large_is_kept_as_long_as_a_terminated_one() -> None:
    policy = make_policy(retention={"terminated": MINUTE})
    for limit in (10**6, SIZE + 300):
        transition = decide(Attempt(*running(TASK)), TaskTooLarge(5_000, limit), policy, NOW)
        assert transition.ttl_ns == MINUTE
        assert not transition.counted


def test_a_decision_made_again_is_the_same_decision() -> None:
    policy = make_policy(backoff=QueuePolicy("Q").backoff)
    attempt = Attempt(*running())
    assert decide(attempt, Failed("x"), policy, NOW) == decide(attempt, Failed("x"), policy, Instant(NOW))


@pytest.mark.parametrize(
    ("waits", "most"),
    [
        pytest.param(waits, most, id=f"AJ-Busy: as before, not counted, its text, 1 s to 30 s ({waits} before)")
        for waits, most in [(0, 2), (1, 3), (2, 5), (3, 9), (4, 17), (5, 30), (6, 30), (10**6, 30)]
    ],
)
def test_busy_comes_back_apart(waits: int, most: int) -> None:
    """What was refused in one moment must not come back in one moment, or most of it is refused again."""
    delays = []
    for number in range(400):
        attempt = Attempt(*running(make_task(id=f"task{number}")), waits)
        transition = decide(attempt, Busy("full"), make_policy(), NOW)
        assert transition.schedule is not None
        assert transition.task is not None
        assert (transition.reason, transition.counted, transition.item) == ("busy", False, ItemVerdict.ACK)
        assert (transition.task.state, transition.task.tries, transition.task.last_err) == ("new", 0, "full")
        assert transition.schedule.waits == waits + 1
        assert decide(attempt, Busy("full"), make_policy(), NOW) == transition
        assert decide(attempt, Busy("full", -5), make_policy(), NOW) == transition, "a negative retry-after is none"
        delays.append(transition.schedule.at - NOW)
    assert min(delays) >= SECOND
    assert max(delays) <= most * SECOND
    assert max(delays) - min(delays) > (most - 1) * SECOND * 0.9


def test_no_task_is_busy_with_the_shortest_wait_every_time() -> None:
    """The try stays the same as long as it is refused: a draw by it would be the same for ever."""
    for number in range(50):
        delays = [
            transition.schedule.at - NOW
            for waits in range(6, 106)
            if (
                transition := decide(
                    Attempt(*running(make_task(id=f"task{number}")), waits), Busy("full"), make_policy(), NOW
                )
            ).schedule
        ]
        assert len(set(delays)) == 100
        assert 10 * SECOND < sum(delays) / len(delays) < 21 * SECOND
