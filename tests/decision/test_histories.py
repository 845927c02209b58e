"""Arbitrary histories of one task, with bridges killed, stopped and overtaken between any two steps."""

from __future__ import annotations

from typing import Any

from decision_cases import ID, NOW, make_policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tiny_world import World, make_world

from ajc.cancel_by_hand import cancel_text, cancelled
from ajc.duration import DAY, MINUTE, SECOND
from ajc.retry_by_hand import retried
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Arrival, Discard, Record, Resettle, Run, admit
from ajc_bridge.decision.backoff import NAMED_BACKOFFS, Backoff
from ajc_bridge.decision.lifecycle import FINAL
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
from ajc_bridge.decision.policy import QueuePolicy, cap
from ajc_bridge.decision.settlement import Attempt, decide

UNCOUNTED = (NoResponder, Busy, Interrupted)
texts = st.text(max_size=20)
delays = st.none() | st.integers(-5, 40 * 86_400_000)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, st.binary(max_size=9)),
    st.builds(Failed, texts, delays),
    st.builds(Terminated, texts),
    st.builds(NoHeartbeat, st.integers(0, DAY)),
    st.builds(TimedOut, st.integers(0, DAY), st.booleans()),
    st.builds(NoResponder, st.just("ajc.exec.email:new")),
    st.builds(Busy, texts, delays),
    st.builds(Malformed, texts),
    st.just(Interrupted()),
    st.builds(ResultTooLarge, st.just(9), st.just(8)),
)
tries = st.sampled_from([0, 1, 2, 3, 5, 9])
backoffs = st.sampled_from([*NAMED_BACKOFFS.values(), Backoff("own", (SECOND, MINUTE), 0.5)])
policies = st.builds(
    QueuePolicy,
    queue=st.just("EMAIL"),
    lease_ns=st.just(30 * SECOND),
    max_run_time_ns=st.sampled_from([10 * SECOND, 10 * MINUTE]),
    max_tries=tries,
    backoff=backoffs,
    retention=st.sampled_from([{}, {}, {"complete": 0}, {"complete": MINUTE, "expired": MINUTE}]),
)
bridges = st.integers(0, 1)
steps = st.sampled_from([9, 9, 9, 1, 2, 3, 4, 5])
ends = st.sampled_from(["left", "left", "left", "killed", "stopped"])


class Histories(RuleBasedStateMachine):
    world: World

    @initialize(
        policy=policies,
        max_deliver=st.sampled_from([-1, -1, 2, 3]),
        max_tries=tries,
        deadline=st.none() | st.none() | st.integers(-MINUTE, 9 * DAY).map(NOW.plus),
        state=st.sampled_from(["new", "new", "new", "new", "", "retry", "blocked"]),
        item_written=st.sampled_from([True, True, True, False]),
    )
    def enqueue(self, policy: QueuePolicy, max_deliver: int, *, item_written: bool, **fields: Any) -> None:
        self.world = make_world(policy, NOW, max_deliver, **fields)
        self.world.by_hand = not item_written  # the producer died between its two writes
        if item_written:
            self.world.publish(0)

    @rule(bridge=bridges, outcome=outcomes, steps=steps)
    def work(self, bridge: int, outcome: Outcome, steps: int) -> None:
        world, one = self.world, self.world.bridges[bridge]
        for _ in range(steps):
            if one.stage != "idle":
                world.step(one, outcome)
            elif world.exhausted:
                world.take_exhausted(one)
            elif world.deliverable():
                world.pull(one)

    @rule(rounds=st.lists(st.tuples(bridges, outcomes, steps, ends), min_size=1, max_size=9))
    def rounds(self, rounds: list[tuple[int, Outcome, int, str]]) -> None:
        """Delivery after delivery, each attempt with an outcome of its own, most of them left at some step."""
        world = self.world
        for bridge, outcome, count, end in rounds:
            if world.schedule is not None and world.item is None:
                world.advance(max(world.schedule[0] - world.now, 0))
            self.work(bridge, outcome, count)
            if end == "killed":
                world.let_go(world.bridges[bridge])
            elif end == "stopped":
                world.stop(world.bridges[bridge])

    @rule(bridge=bridges)
    def kill(self, bridge: int) -> None:
        self.world.let_go(self.world.bridges[bridge])

    @rule(bridge=bridges)
    def stop(self, bridge: int) -> None:
        if self.world.bridges[bridge].stage != "idle":
            self.world.stop(self.world.bridges[bridge])

    @rule(ns=st.sampled_from([1, SECOND, 10 * SECOND, 5 * MINUTE]))
    def time_passes(self, ns: int) -> None:
        self.world.advance(ns)

    @rule(purged=st.booleans())
    @precondition(lambda self: not self.world.ended)
    def cancel(self, purged: bool) -> None:
        world = self.world
        world.save_by_hand(cancelled(world.task, cancel_text("mistake"), world.now))
        if purged:
            world.item = world.schedule = None

    @rule(published=st.booleans())
    @precondition(lambda self: self.world.ended and not self.world.removed)
    def retry_by_id(self, published: bool) -> None:
        world = self.world
        again = retried(world.task, "EMAIL", world.policy.max_tries, world.now.plus(MINUTE), world.now)
        world.given_back += world.task.tries - again.tries
        world.save_by_hand(again)
        world.by_hand = True  # until its item is written
        if published:
            world.publish(0)

    @rule(evicting=st.booleans())
    def sweep(self, evicting: bool) -> None:
        self.world.sweep(evicting=evicting)

    @rule()
    @precondition(lambda self: not self.world.ended and self.world.item and not self.world.item.holder)
    def evict(self) -> None:
        self.world.item = None
        self.world.by_hand = True

    @invariant()
    def tries_are_the_attempts_that_counted(self) -> None:
        if self.world.record is not None:
            assert self.world.task.tries == self.world.started - self.world.given_back

    @invariant()
    def tries_never_exceed_the_cap(self) -> None:
        if self.world.record is not None:
            most = cap(self.world.task, self.world.policy)
            assert most == 0 or self.world.task.tries <= most

    @invariant()
    def a_task_that_is_not_final_has_a_way_on(self) -> None:
        world = self.world
        assert world.ended or world.item is not None or world.schedule is not None or world.by_hand

    def teardown(self) -> None:
        """Left alone with one healthy bridge, every task ends, and nothing of it is left under way."""
        if not hasattr(self, "world"):
            return
        world = self.world
        if world.record is not None and world.task.state == "blocked":
            world.save_by_hand(cancelled(world.task, cancel_text("nobody builds it"), world.now))
        for bridge in world.bridges:
            world.let_go(bridge)
        for _ in range(60):
            self.one_healthy_round()
        assert world.ended
        assert world.item is None
        assert world.schedule is None
        if world.record is not None:
            belongs = world.task.state != "complete" and world.task.cancelled is None
            if belongs:
                assert world.letter is not None
            if belongs and not world.overtaken:
                assert world.letter is not None
                assert world.letter[1] == world.record.data
                assert world.letter[0].reason == world.task.dead_letter
                assert world.letter[0].error == world.task.last_err
                assert world.letter[0].tries == world.task.tries

    def one_healthy_round(self) -> None:
        world = self.world
        bridge = world.bridges[0]
        if world.exhausted:
            world.take_exhausted(bridge)
        elif world.deliverable():
            world.pull(bridge)
        while bridge.stage != "idle":
            world.step(bridge, Succeeded(b"done"))
        world.sweep(evicting=False)
        world.advance(DAY)


Histories.TestCase.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase


states = st.sampled_from(["", "new", "retry", "active"])
tasks = st.builds(
    Task,
    id=st.just(ID),
    type=st.just("email:new"),
    state=states,
    max_tries=tries,
    tries=st.integers(0, 4),
    last_err=texts,
    deadline=st.none() | st.integers(-MINUTE, DAY).map(NOW.plus),
    next_try_at=st.none() | st.integers(-DAY, 0).map(NOW.plus),
)
any_outcome = outcomes | st.just(Abandoned()) | st.builds(TaskTooLarge, st.just(9), st.integers(0, 4_000))


@settings(max_examples=400, deadline=None)
@given(tasks, policies, any_outcome, st.integers(0, 9))
def test_playing_the_tail_of_a_settlement_again_changes_nothing(
    before: Task, policy: QueuePolicy, outcome: Outcome, waits: int
) -> None:
    before = Task.decode(before.encode())
    arrival = Arrival("EMAIL", ID, WorkItem(ID, waits=waits), b"", deliveries=2)
    admission = admit(Record(ID, before.encode(), 1, NOW, before), arrival, policy, NOW)
    if isinstance(admission, Run):
        transition = decide(Attempt(before, admission.active, waits), outcome, policy, NOW)
    else:
        transition = admission.transition
    saved = transition.task
    if saved is None:
        return
    assert Task.decode(saved.encode()) == saved
    record = Record(ID, saved.encode(), 2, NOW, saved)
    again = admit(record, arrival, policy, NOW)
    assert again.word != "refuse"
    if saved.state in FINAL:
        assert isinstance(again, Resettle | Discard)
        assert again.transition.task is None
        letter, told = transition.dead_letter, again.transition.dead_letter
        assert (letter is None) == (told is None)
        if letter is not None and told is not None:
            assert (letter.queue, letter.task_id, letter.type) == (told.queue, told.task_id, told.type)
            assert (letter.reason, letter.error, letter.tries) == (told.reason, told.error, told.tries)
            assert told.time == NOW
            assert letter.body in (None, b"") or letter.body == told.body
            assert told.body == saved.encode()
    elif transition.schedule is not None and transition.schedule.at - NOW > 250_000_000:
        assert isinstance(again, Resettle)
        assert again.transition.task is None
        assert again.transition.schedule is not None
        assert again.transition.schedule.at == transition.schedule.at
    else:
        assert again.word in ("run", "expire")


@settings(max_examples=400, deadline=None)
@given(tasks, policies, st.sampled_from([NoResponder("s"), Busy(""), Busy("x", 5), Interrupted()]), st.integers(0, 9))
def test_an_attempt_that_did_not_count_leaves_tries_as_it_was(
    before: Task, policy: QueuePolicy, outcome: Outcome, waits: int
) -> None:
    admission = admit(
        Record(ID, b"", 1, NOW, before), Arrival("EMAIL", ID, WorkItem(ID), b"", deliveries=2), policy, NOW
    )
    if not isinstance(admission, Run):
        return
    transition = decide(Attempt(before, admission.active, waits), outcome, policy, NOW)
    assert transition.task is not None
    assert not transition.counted
    assert transition.task.tries == before.tries
    assert transition.task.state == ("retry" if before.state == "active" else before.state)
    kept = ("tried", "result", "payload", "deadline", "created", "cancelled", "dead_letter", "extra")
    assert all(getattr(transition.task, field) == getattr(before, field) for field in kept)


def test_the_discarding_policy_is_one_of_those_tried() -> None:
    assert make_policy(retention={"complete": 0}).ttl_ns("complete") == 0
