"""Transitions are values with named constructors."""

from __future__ import annotations

from decision_cases import MINUTE, NOW, make_policy, make_task

from ajc_bridge.decision.transition import DeadLetter, ItemVerdict, Schedule, Transition

TASK = make_task("expired", last_err="late", tries=2)


def letter(**fields: object) -> DeadLetter:
    given: dict[str, object] = {
        "queue": "EMAIL",
        "task_id": TASK.id,
        "type": TASK.type,
        "reason": "deadline",
        "error": "late",
        "tries": 2,
        "time": NOW,
    }
    return DeadLetter(**given | fields)  # type: ignore[arg-type]


def test_acked_does_nothing_else() -> None:
    assert Transition.acked("why") == Transition(
        reason="why",
        task=None,
        dead_letter=None,
        schedule=None,
        item=ItemVerdict.ACK,
        ttl_ns=None,
        discard=False,
        counted=False,
    )


def test_ended_has_a_dead_letter_of_the_queue_that_held_the_item() -> None:
    assert Transition.ended("deadline", TASK, make_policy(), NOW) == Transition(
        reason="deadline", task=TASK, dead_letter=letter()
    )


def test_ended_is_kept_or_discarded_by_its_state() -> None:
    kept = Transition.ended("deadline", TASK, make_policy(retention={"expired": MINUTE}), NOW, counted=True)
    assert (kept.ttl_ns, kept.discard, kept.counted) == (MINUTE, False, True)
    gone = Transition.ended("deadline", TASK, make_policy(retention={"expired": 0}), NOW)
    assert (gone.ttl_ns, gone.discard, gone.counted) == (None, True, False)


def test_later_makes_a_fresh_item() -> None:
    assert Transition.later("why", None, NOW) == Transition(reason="why", schedule=Schedule(NOW, 0))
    assert Transition.later("why", TASK, NOW, waits=2, counted=True) == Transition(
        reason="why", task=TASK, schedule=Schedule(NOW, 2), counted=True
    )


def test_put_back_hands_the_item_back() -> None:
    assert Transition.put_back("why", TASK) == Transition(reason="why", task=TASK, item=ItemVerdict.NAK)


def test_verdicts_are_words() -> None:
    assert [str(verdict) for verdict in ItemVerdict] == ["ack", "nak"]


def test_a_letter_without_its_body() -> None:
    assert letter(body=b"x").emptied() == letter(body=b"")


def test_shortened_leaves_a_few_words_of_the_error() -> None:
    long = Transition.ended("deadline", TASK.replace(last_err="x" * 81), make_policy(), NOW)
    short = long.shortened()
    assert short.task == TASK.replace(last_err="x" * 79 + "…")
    assert short.dead_letter == long.dead_letter
    enough = Transition.ended("deadline", TASK.replace(last_err="x" * 80), make_policy(), NOW)
    assert enough.shortened() is enough
    nothing = Transition.acked("why")
    assert nothing.shortened() is nothing
