"""What a queue prescribes, and what follows from it for one task: its cap of tries and the time of one attempt.

All durations are integer nanoseconds. The lease is short and renewed while the attempt runs; the run time is long.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from ajc.duration import MINUTE, SECOND
from ajc.instant import Instant
from ajc.task import Task
from ajc_bridge.decision.backoff import NAMED_BACKOFFS, Backoff, go_bounds

__all__ = [
    "NAMED_BACKOFFS",
    "Backoff",
    "QueuePolicy",
    "TimeBudget",
    "beat_ns",
    "cap",
    "go_bounds",
    "margin_ns",
    "renewal_due",
    "renewal_ns",
    "run_time_ns",
    "time_after_beat",
    "time_budget",
]

MAX_MARGIN_NS = 2 * SECOND
BEATS_PER_RUN = 3
"""So three missed beats are one run time: to beat never ends an attempt sooner than not to."""
MIN_BEAT_NS = SECOND
MIN_TTL_NS = SECOND
"""The server refuses a shorter `Nats-TTL`."""


class QueuePolicy(Struct, frozen=True):
    """One queue's rules, as the server's configuration and its stream's metadata give them.

    `max_tries` 0 or less: the queue has no limit of its own. `renews` False: Go's queue, run time = lease, nothing is
    renewed. `max_deliver` above 0: the server itself gives an item up after so many deliveries (Go's queue), so none is
    handed back for nothing. `evicts`: a full queue lets its oldest items go. `max_age_ns` above 0: so it does with
    those that are older. `retention`: state -> how long a record in that state is kept, 0: not at all, absent: as the
    store does.
    """

    queue: str
    lease_ns: int = 30 * SECOND
    max_run_time_ns: int = MINUTE
    max_tries: int = 0
    backoff: Backoff = NAMED_BACKOFFS["default"]
    renews: bool = True
    retention: Mapping[str, int] = {}
    max_deliver: int = 0
    evicts: bool = False
    max_age_ns: int = 0

    def ttl_ns(self, state: str) -> int | None:
        """Give how long a record in this state is kept; None when the store decides, 0 for not at all."""
        kept = self.retention.get(state)
        return max(kept, MIN_TTL_NS) if kept else kept


class TimeBudget(Struct, frozen=True):
    """The times of one attempt, from the instant its request goes out."""

    run_ns: int
    """The effective run time: the queue's, or what is left until the task's deadline when that is less."""
    handler_ns: int
    """What the handler is told (`AJ-Timeout-Ms`): the run time without the margin."""
    wait_ns: int
    """When the bridge stops waiting: half a margin after the handler's end."""
    handler_deadline: Instant
    """`AJ-Handler-Deadline`, the same as `handler_ns` on the clock."""
    at_deadline: bool
    """The task's own deadline ends the attempt: running out of time then is final."""


def cap(task: Task, policy: QueuePolicy) -> int:
    """Give the smaller of the task's and the queue's max tries, each counting only when above 0; 0 for no cap."""
    own, queue = task.max_tries, policy.max_tries
    if own > 0 and queue > 0:
        return min(own, queue)
    return max(own, queue, 0)


def run_time_ns(task: Task, policy: QueuePolicy, now: Instant) -> int:
    """Give the effective run time of an attempt that starts (or beats) now; 0 when the deadline is past."""
    if task.deadline is None:
        return policy.max_run_time_ns
    return min(policy.max_run_time_ns, max(task.deadline - now, 0))


def margin_ns(run_ns: int) -> int:
    """Give what is kept back from the handler, so that its reply is in by the end: a tenth, 2 s at most."""
    return min(MAX_MARGIN_NS, run_ns // 10)


def time_budget(task: Task, policy: QueuePolicy, now: Instant) -> TimeBudget:
    """Give the times of an attempt that starts (or beats) now."""
    if task.deadline is None:
        run, at_deadline = policy.max_run_time_ns, False
    else:
        run, at_deadline = run_time_ns(task, policy, now), task.deadline - now <= policy.max_run_time_ns
    margin = margin_ns(run)
    handler = run - margin
    return TimeBudget(run, handler, handler + margin // 2, now.plus(handler), at_deadline)


def beat_ns(policy: QueuePolicy) -> int:
    """Give how often a responder is asked to beat: a third of the run time, 1 s at least; 0 for not at all.

    Not where nothing is renewed beyond the run time (Go's queue), since more time would outlast the lease; nor where a
    first beat, a second after the start, would come too late.
    """
    if not policy.renews or policy.max_run_time_ns < 2 * MIN_BEAT_NS:
        return 0
    return max(policy.max_run_time_ns // BEATS_PER_RUN, MIN_BEAT_NS)


def time_after_beat(task: Task, policy: QueuePolicy, now: Instant) -> TimeBudget:
    """Give the times of an attempt that beats now: a full run time, in which three beats may be missed.

    The task's own deadline ends it as it ends every attempt.
    """
    budget = time_budget(task, policy, now)
    return budget if budget.at_deadline else replace(budget, wait_ns=budget.run_ns)


def renewal_ns(policy: QueuePolicy) -> int:
    """Give how often a running attempt's lease is renewed: every third of it."""
    return policy.lease_ns // 3


def renewal_due(policy: QueuePolicy, held_ns: int) -> bool:
    """Say whether a lease held for so long is renewed before the request goes out: under half of it is left."""
    return policy.renews and held_ns * 2 > policy.lease_ns
