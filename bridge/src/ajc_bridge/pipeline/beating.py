"""The heartbeats of one attempt: each gives it a full run time from then on, and may tell how far the work is."""

from __future__ import annotations

import msgspec

from ajc.progress import NOTHING_SAID, read_beat
from ajc.task import Task
from ajc_bridge.decision.outcome import NoHeartbeat, TimedOut
from ajc_bridge.decision.policy import QueuePolicy, TimeBudget, time_after_beat, time_budget
from ajc_bridge.happenings import AttemptBeaten, BeatIgnored
from ajc_bridge.ports import Lease, Ports


class Beating(msgspec.Struct, gc=False):
    """An attempt as its beats see it, called with the body of each: `ports.Beaten`.

    `until` (monotonic seconds) is when the wait for the reply ends, by the times of `budget`, which began at `began`.
    Made for every attempt, most of which never beat, so it is nothing but these values.
    """

    ports: Ports
    policy: QueuePolicy
    lease: Lease
    task: Task
    budget: TimeBudget
    started: float
    began: float
    until: float
    beaten: bool = False

    def __call__(self, body: bytes) -> float | None:
        """Take a beat; None when it changes nothing, since the lease is lost: somebody else may have begun."""
        lease, task, ports = self.lease, self.task, self.ports
        if lease.lost:
            return None
        said = read_beat(body)
        if said is None:
            ports.journal.note(BeatIgnored("malformed", task.type, task.id))
            said = NOTHING_SAID
        else:
            ports.journal.note(AttemptBeaten(lease.queue, task.type, task.id, task.tries, said.percent, said.message))
        self.beaten = True
        self.began = ports.clock.monotonic()
        self.budget = time_after_beat(task, self.policy, ports.clock.now())
        self.until = self.began + self.budget.wait_ns / 1e9
        return self.until

    def silent(self) -> TimedOut | NoHeartbeat:
        """Return the outcome of an attempt whose time is over without a reply."""
        budget = self.budget
        if self.beaten and not budget.at_deadline:
            return NoHeartbeat(budget.wait_ns)
        return TimedOut(int((self.began - self.started) * 1e9) + budget.handler_ns, budget.at_deadline)


def begin(ports: Ports, policy: QueuePolicy, lease: Lease, task: Task) -> Beating:
    """Return the times of an attempt at this task that begins now."""
    started = ports.clock.monotonic()
    budget = time_budget(task, policy, ports.clock.now())
    return Beating(ports, policy, lease, task, budget, started, started, started + budget.wait_ns / 1e9)
