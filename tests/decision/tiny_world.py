"""A store, a queue, a delay stream and bridges in a few lines, with JetStream's rules, played one step at a time.

Everything that a bridge does is cut into the steps between which it can be killed, stopped or overtaken.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ajc.duration import SECOND
from ajc.instant import Instant
from ajc.task import Task
from ajc.work_item import WorkItem
from ajc_bridge.decision.admission import Arrival, Record, Run, admit
from ajc_bridge.decision.lifecycle import FINAL, LEGAL
from ajc_bridge.decision.outcome import Outcome
from ajc_bridge.decision.policy import QueuePolicy, cap
from ajc_bridge.decision.rescue import rescue
from ajc_bridge.decision.settlement import Attempt, decide
from ajc_bridge.decision.transition import DeadLetter, ItemVerdict, Transition

LEASE = 30 * SECOND
EDGES = {(before, after) for rows in LEGAL.values() for before, afters in rows.items() for after in afters}


class Item:
    """One message of the queue's stream; a fresh one on the same subject replaces it."""

    def __init__(self, body: bytes, number: int) -> None:
        self.body = body
        self.number = number
        self.deliveries = 0
        self.holder: Bridge | None = None


class Bridge:
    """One process's hold on the task. `lost`: its lease ran out while it was stopped, and it knows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.drop()

    def drop(self) -> None:
        self.stage = "idle"
        self.item = 0
        self.waits = 0
        self.revision = 0
        self.lost = False
        self.arrival: Arrival | None = None
        self.run: Run | None = None
        self.transition: Transition | None = None
        self.left: list[str] = []


class World:
    """One task's world. It checks what must hold at every write.

    `by_hand`: somebody else left the task without an item (a producer that died, an eviction); a sweep has to find it.
    `overtaken`: a bridge went on after its lease; the letter of a task's earlier life may then come late.
    """

    def __init__(self, policy: QueuePolicy, now: Instant, max_deliver: int) -> None:
        self.policy = replace(policy, max_deliver=max(0, max_deliver))
        self.now = now
        self.max_deliver = max_deliver
        self.record: Record | None = None
        self.item: Item | None = None
        self.schedule: tuple[Instant, int] | None = None
        self.letter: tuple[DeadLetter, bytes] | None = None
        self.numbers = 0
        self.started = 0
        self.given_back = 0
        self.removed = False
        self.by_hand = False
        self.overtaken = False
        self.bridges = [Bridge("a"), Bridge("b")]

    # the store

    @property
    def task(self) -> Task:
        assert self.record is not None
        assert self.record.task is not None
        return self.record.task

    @property
    def ended(self) -> bool:
        return self.record is None or self.task.state in FINAL

    def save(self, task: Task, revision: int) -> bool:
        """By revision; every save is legal, readable, and true about its tries."""
        if revision != (self.record.revision if self.record else 0):
            return False
        if self.record is not None:
            assert (self.task.state, task.state) in EDGES
        self.numbers += 1
        data = task.encode()
        read = Task.decode(data)
        assert read == task
        self.record = Record(task.id, data, self.numbers, self.now, read)
        most = cap(read, self.policy)
        assert most == 0 or read.tries <= most
        return True

    # the queue and the delay stream

    def publish(self, waits: int) -> None:
        self.numbers += 1
        self.item = Item(WorkItem(task_id=self.task_id, waits=waits).encode(), self.numbers)
        self.by_hand = False

    task_id = "24ErgVol4ZjpoQ8FAima9R2jEHB"

    @property
    def exhausted(self) -> bool:
        item = self.item
        return item is not None and item.holder is None and 0 < self.max_deliver <= item.deliveries

    def deliverable(self) -> bool:
        return self.item is not None and self.item.holder is None and not self.exhausted

    def fire(self) -> None:
        """The server moves what is due into the queue."""
        if self.schedule is not None and self.schedule[0] <= self.now:
            _, waits = self.schedule
            self.schedule = None
            self.publish(waits)

    # a bridge's steps

    def pull(self, bridge: Bridge) -> None:
        assert self.item is not None
        bridge.drop()
        self.item.deliveries += 1
        self.item.holder = bridge
        bridge.item = self.item.number
        bridge.stage = "pulled"
        item = WorkItem.decode(self.item.body)
        bridge.waits = item.waits
        bridge.arrival = Arrival("EMAIL", self.task_id, item, self.item.body, self.item.deliveries)

    def take_exhausted(self, bridge: Bridge) -> None:
        """The sweep found it: the same decision, and the item is deleted by its number instead of acked."""
        assert self.item is not None
        bridge.drop()
        bridge.item = self.item.number
        self.item.holder = bridge
        item = WorkItem.decode(self.item.body)
        bridge.waits = item.waits
        bridge.stage = "pulled"
        bridge.arrival = Arrival("EMAIL", self.task_id, item, self.item.body, self.item.deliveries, exhausted=True)

    def step(self, bridge: Bridge, outcome: Outcome | None = None) -> None:
        if bridge.stage == "pulled":
            self._admit(bridge)
        elif bridge.stage == "starting":
            self._start(bridge)
        elif bridge.stage == "running":
            if outcome is not None:
                assert bridge.run is not None
                attempt = Attempt(bridge.run.before, bridge.run.active, bridge.waits)
                self.settling(bridge, decide(attempt, outcome, self.policy, self.now))
        elif bridge.stage == "settling":
            self._settle(bridge, bridge.left.pop(0))

    def _admit(self, bridge: Bridge) -> None:
        assert bridge.arrival is not None
        admission = admit(self.record, bridge.arrival, self.policy, self.now)
        assert admission.word != "refuse"
        bridge.revision = self.record.revision if self.record else 0
        if isinstance(admission, Run):
            bridge.run = admission
            bridge.stage = "starting"
        else:
            self.settling(bridge, admission.transition)

    def _start(self, bridge: Bridge) -> None:
        assert bridge.run is not None
        if bridge.lost or not self.save(bridge.run.active, bridge.revision):
            self.let_go(bridge)
            return
        self.started += 1
        bridge.revision = self.numbers
        bridge.stage = "running"

    def settling(self, bridge: Bridge, transition: Transition) -> None:
        bridge.transition = transition
        letter = transition.dead_letter is not None
        steps = [
            ("discard", transition.discard and not letter),
            ("save", transition.task is not None and (letter or not transition.discard)),
            ("letter", letter),
            ("removal", transition.discard and letter),
            ("schedule", transition.schedule is not None),
            ("item", True),
        ]
        bridge.left = [name for name, wanted in steps if wanted]
        bridge.stage = "settling"

    def _settle(self, bridge: Bridge, step: str) -> None:
        transition = bridge.transition
        assert transition is not None
        if step in ("save", "discard"):
            if bridge.revision != (self.record.revision if self.record else 0):
                self.let_go(bridge)
                return
            self._save(bridge, transition, step)
        elif step == "letter":
            self._write_letter(transition)
        elif step == "removal":
            if self.record is not None and bridge.revision != self.record.revision:
                self.let_go(bridge)
                return
            self.record, self.removed = None, True
        elif step == "schedule":
            assert transition.schedule is not None
            self.schedule = (transition.schedule.at, transition.schedule.waits)
        else:
            self._answer(bridge, transition)

    def _save(self, bridge: Bridge, transition: Transition, step: str) -> None:
        task = transition.task
        assert task is not None
        back = self.task.state == "active" and task.tries < self.task.tries
        assert back == (not transition.counted and self.task.state == "active" and task.state not in FINAL)
        self.given_back += back
        if step == "discard":
            self.record, self.removed = None, True
            return
        assert self.save(task, bridge.revision)
        bridge.revision = self.numbers

    def _write_letter(self, transition: Transition) -> None:
        letter = transition.dead_letter
        assert letter is not None
        body = letter.body if letter.body is not None else transition.task and transition.task.encode()
        assert body is not None
        if self.record is not None and self.record.data == body and self.letter is not None and self.letter[1] == body:
            told = self.letter[0]
            assert (told.reason, told.error, told.tries, told.type) == (
                letter.reason,
                letter.error,
                letter.tries,
                letter.type,
            )
        self.letter = (letter, body)

    def _answer(self, bridge: Bridge, transition: Transition) -> None:
        item = self.item
        if not bridge.lost and item is not None and item.number == bridge.item:
            if transition.item is ItemVerdict.ACK:
                # nothing may be left without a way on
                assert self.ended or self.schedule is not None or self.by_hand
                self.item = None
            elif transition.item is ItemVerdict.NAK:
                item.holder = None
        self.let_go(bridge)

    def let_go(self, bridge: Bridge) -> None:
        """What a bridge does not answer comes again once its lease is over."""
        item = self.item
        if item is not None and item.holder is bridge:
            item.holder = None
            self.now = self.now.plus(LEASE)
        bridge.drop()

    def stop(self, bridge: Bridge) -> None:
        """Stopped beyond its lease, and awake again: it goes on, but knows that the lease is over."""
        item = self.item
        if bridge.stage == "idle":
            return
        if item is not None and item.holder is bridge:
            item.holder = None
        self.now = self.now.plus(LEASE)
        bridge.lost = self.overtaken = True

    # people

    def save_by_hand(self, task: Task) -> None:
        assert self.record is not None
        assert self.save(task, self.record.revision)

    def sweep(self, *, evicting: bool) -> None:
        """The rescue of a task without an item."""
        if self.record is None or self.item is not None or self.schedule is not None:
            return
        transition = rescue(self.record, replace(self.policy, evicts=evicting), self.now)
        if transition is None:
            return
        bridge = Bridge("sweep")
        bridge.revision = self.record.revision
        self.settling(bridge, transition)
        while bridge.stage == "settling":
            self.step(bridge)

    def advance(self, ns: int) -> None:
        self.now = self.now.plus(ns)
        self.fire()


def make_world(policy: QueuePolicy, now: Instant, max_deliver: int, **fields: Any) -> World:
    world = World(policy, now, max_deliver)
    assert world.save(Task(id=World.task_id, type="email:new", queue="EMAIL", created=now, **fields), 0)
    return world
