"""One queue: a free slot first, then a pull; each item then goes through the four stages in a row."""

from __future__ import annotations

import asyncio
from typing import Final

import anyio

from ajc.errors import NotPermitted, Unavailable
from ajc.failpoint import ARMED, reach
from ajc.task import Task
from ajc_bridge.decision.admission import hand_back
from ajc_bridge.decision.outcome import Busy, Interrupted, Outcome, ResultTooLarge, Succeeded
from ajc_bridge.decision.policy import QueuePolicy
from ajc_bridge.decision.settlement import Attempt, decide
from ajc_bridge.decision.transition import Transition
from ajc_bridge.happenings import AttemptCancelled, Pulled, PullFailed, RevisionConflict, Trouble
from ajc_bridge.pipeline.admit import Admitted, Settled, admit_item, make_arrival
from ajc_bridge.pipeline.cancellations import Cancellations, found_cancelled
from ajc_bridge.pipeline.dispatch import ExecPolicy, dispatch
from ajc_bridge.pipeline.fair_share import FairShare, Grant
from ajc_bridge.pipeline.keepalive import Keepalive
from ajc_bridge.pipeline.room import Room
from ajc_bridge.pipeline.settle import settle
from ajc_bridge.pipeline.workers import Workers
from ajc_bridge.ports import Lease, Ports, WorkQueue

_LOOK_IN_SECONDS: Final = 0.1
_SHORTEST_GATHER: Final = 0.001
_LONGEST_GATHER: Final = 0.016
_ENOUGH: Final = 8
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
_TROUBLE_SECONDS: Final = 10.0
"""Pulls that fail for so long are a trouble: one may be lost, its server restarted, a new leader chosen."""


class Lane:
    """Serves one queue. `policy` and `exec_policy` may be replaced while it runs; the next item sees the new ones."""

    def __init__(
        self,
        ports: Ports,
        queue: WorkQueue,
        policy: QueuePolicy,
        exec_policy: ExecPolicy,
        share: FairShare,
        *,
        room: Room | None = None,
        cancellations: Cancellations | None = None,
    ) -> None:
        self.policy = policy
        self.exec_policy = exec_policy
        self._ports = ports
        self._queue = queue
        self._share = share
        self._room = room or Room()
        self._cancellations = cancellations or Cancellations(ports)
        self._keepalive = Keepalive(queue, ports.clock, ports.journal, policy)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._workers = Workers(self._work)
        self._dispatching: set[int] = set()
        self._interrupting = False
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._backlog = 0
        self._reserved = 0
        self.pull_trouble = ""  # why nothing comes in, once pulls have failed for a while
        self._failing_since: float | None = None
        self._intake: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Items that are being worked on."""
        return len(self._tasks)

    async def run(self) -> None:
        """Take items in until `stop`, then return; what runs goes on."""
        keeping = asyncio.create_task(self._keepalive.run())
        self._intake = asyncio.create_task(self._take_in())
        try:
            ended, _ = await asyncio.wait({self._intake, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping:
                for task in ended:  # neither ends by itself but by a fault
                    task.result()
            await self._idle.wait()
        finally:
            self._intake.cancel()
            keeping.cancel()
            self._workers.stop()

    def follow(self, policy: QueuePolicy) -> None:
        """Take up another policy: the next item sees it, and leases are kept by it from now on."""
        self.policy = policy
        self._keepalive.policy = policy

    async def shorten(self, policy: QueuePolicy) -> None:
        """Take up a policy with a shorter lease, which the server does not know yet. Raises `Unavailable`."""
        self.policy = policy
        await self._keepalive.shorten(policy)

    def stop(self) -> None:
        """Take no further item in. What a pull under way still brings is given back at once."""
        self._stopping = True
        if self._intake is not None:
            self._intake.cancel()

    def interrupt(self) -> None:
        """End every attempt that still waits for its reply: its task is put back uncounted and its item given back."""
        self._interrupting = True
        # one turn later: a reply that came in this one is taken
        asyncio.get_running_loop().call_soon(self._cancel_dispatching)

    def _cancel_dispatching(self) -> None:
        for key in self._dispatching:
            self._tasks[key].cancel()

    def abandon(self) -> None:
        """Drop what still runs, unsettled: the leases end by themselves and the items come again."""
        # one turn later: a task that is cancelled before its first step would never give back its slot
        asyncio.get_running_loop().call_soon(self._cancel_all)

    def _cancel_all(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    async def _take_in(self) -> None:
        name = self._queue.queue
        hungry = True
        pause = _FIRST_PAUSE
        gather = 0.0
        while not self._stopping:
            if hungry and gather:
                await asyncio.sleep(gather)
            grant = await self._share.acquire(name, hungry=hungry)
            gather = _next_gather(gather, grant)
            self._reserved = grant.slots
            came = 0
            self._ports.journal.note(Pulled(name, grant.slots))
            try:
                came = await self._queue.pull(grant.slots, grant.wait, self.take)
                self.pulls_anew()
            except Unavailable as error:
                self._pull_failed(error)
                self._ports.journal.note(PullFailed(name, str(error)))
            finally:
                self._share.release(name, self._reserved)
                self._reserved = 0
            if self._failing_since is not None:
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            looked_in = not hungry and grant.wait == 0
            hungry = came > 0 and self._backlog > 0
            if came == 0 and looked_in:
                await anyio.sleep(_LOOK_IN_SECONDS)

    def pulls_anew(self) -> None:
        """Take note that pulls work, or that there is a new connection: what made them fail says nothing any more."""
        self._failing_since, self.pull_trouble = None, ""

    def _pull_failed(self, error: Unavailable) -> None:
        now = self._ports.clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, NotPermitted) or now - self._failing_since >= _TROUBLE_SECONDS:
            self.pull_trouble = str(error)

    def take(self, lease: Lease) -> None:
        """Start on a leased item. One that comes after its pull was given up takes a slot beyond those reserved."""
        self._backlog = lease.backlog
        if self._stopping:
            self._hand_back(lease)
            return
        if lease.deliveries > 1 and self._keepalive.take_over(lease):
            return
        reserved = self._reserved > 0
        if reserved:
            self._reserved -= 1
        if ARMED:
            reach("lease.pulled")
        self._share.start(self._queue.queue, reserved=reserved)
        self._keepalive.hold(lease)
        self._idle.clear()
        self._tasks[id(lease)] = self._workers.start(lease)

    def _hand_back(self, lease: Lease) -> None:
        """Give an item back that came too late to be begun."""
        arrival = make_arrival(lease)
        transition = hand_back(arrival, self.policy, self._ports.clock.now())
        if transition.schedule is None or arrival.item is None:
            self._queue.nak(lease)
            return
        self._idle.clear()
        self._tasks[id(lease)] = asyncio.create_task(self._put_back(lease, arrival.item.task_id, transition))

    async def _put_back(self, lease: Lease, task_id: str, transition: Transition) -> None:
        try:
            await settle(self._ports, self._queue, lease, task_id, transition, revision=0)
        finally:
            del self._tasks[id(lease)]
            if not self._tasks:
                self._idle.set()

    async def _work(self, lease: Lease) -> None:
        """Take one item through the four stages."""
        ports, policy, key = self._ports, self.policy, id(lease)
        try:
            admitted = await admit_item(ports, policy, lease)
            body = None
            if isinstance(admitted, Settled):
                task_id, transition = admitted.task_id, admitted.transition
            elif admitted is None or self._is_over(lease):
                return  # the item comes again, here or elsewhere: to begin now would be to do it twice
            else:
                task_id, attempt = admitted.attempt.active.id, self._tasks[key]
                try:
                    self._dispatching.add(key)
                    self._cancellations.begin(task_id, attempt)
                    if self._keepalive.short(lease):
                        await self._keepalive.renew(lease)
                        if self._is_over(lease):
                            return
                    if self._interrupting:
                        outcome: Outcome = Interrupted()
                    else:
                        outcome = await dispatch(ports, policy, self.exec_policy, lease, admitted, room=self._room)
                except asyncio.CancelledError:
                    cancelled = self._cancellations.ended(attempt)
                    if not cancelled and not self._interrupting:
                        raise
                    attempt.uncancel()
                    if cancelled:
                        self._drop_cancelled(lease, admitted.attempt.active)
                        return
                    outcome = Interrupted()
                finally:
                    self._dispatching.discard(key)
                    self._cancellations.leave(task_id, attempt)
                transition, body = self._decide(admitted, outcome, policy)
            settled = await settle(
                ports, self._queue, lease, task_id, transition, revision=admitted.revision, body=body
            )
            if not settled:
                if transition.task is not None and await found_cancelled(ports, task_id):
                    self._drop_cancelled(lease, transition.task)
                else:
                    ports.journal.note(RevisionConflict(lease.queue, task_id))
        except Exception as error:  # noqa: BLE001  (one task's fault must not end the daemon; its item comes again)
            ports.journal.note(Trouble(f"item {lease.subject_id}", f"{type(error).__name__}: {error}"))
        finally:
            self._keepalive.release(lease)
            del self._tasks[key]
            self._share.finish(self._queue.queue)
            if not self._tasks:
                self._idle.set()

    def _drop_cancelled(self, lease: Lease, task: Task) -> None:
        """Let the item go of a task that the store says is cancelled: what came of the attempt is not saved."""
        if ARMED:
            reach("cancel.found")
        self._queue.ack(lease)
        self._ports.journal.note(AttemptCancelled(lease.queue, task.type, task.id, task.tries))

    def _is_over(self, lease: Lease) -> bool:
        return lease.lost or self._ports.clock.monotonic() >= lease.until

    def _decide(self, admitted: Admitted, outcome: Outcome, policy: QueuePolicy) -> tuple[Transition, bytes | None]:
        """Return the decision, and of a success its record as it is to be stored."""
        now, limit = self._ports.clock.now(), self._ports.store.limit
        attempt = admitted.attempt
        if isinstance(outcome, Busy) and self._room.in_use(attempt.active.type):
            # others of its type are worked on, so it is not for long: the waits grow only while nothing moves
            attempt = Attempt(attempt.before, attempt.active)
        transition = decide(attempt, outcome, policy, now)
        if not isinstance(outcome, Succeeded):
            return transition, None
        assert transition.task is not None  # a success is saved
        body = transition.task.encode_completed(attempt.active, admitted.body)
        if len(body) > limit:
            return decide(attempt, ResultTooLarge(len(outcome.body), limit), policy, now), None
        return transition, body


def _next_gather(gather: float, grant: Grant) -> float:
    """Return how long (seconds) slots are gathered before the next pull, with items known to wait.

    A pull for many items costs server and bridge hardly more than one for a single item. So a queue that is granted few
    slots at a time, beside many others, asks less often; one that is granted its share or a handful asks at once.
    """
    if grant.slots >= min(_ENOUGH, max(1, grant.due // 2)):
        return gather / 2 if gather > _SHORTEST_GATHER else 0.0
    return min(max(2 * gather, _SHORTEST_GATHER), _LONGEST_GATHER)
