"""Leases of running attempts: renewed in time, and given up when they ran out here.

That happens to a process that was stopped for a while, and when the server is away. A lease may also be over sooner
than is known here: somebody has shortened it on the server, or a server that was killed has forgotten a renewal.
"""

from __future__ import annotations

import asyncio
from typing import Final

import anyio

from ajc.errors import AjcError, Unavailable
from ajc_bridge.decision.policy import QueuePolicy, renewal_due, renewal_ns
from ajc_bridge.happenings import ItemCameAgain, LeaseLost
from ajc_bridge.ports import Clock, Journal, Lease, WorkQueue

_LOOKS_PER_LEASE: Final = 12
_SHORTEST_LOOK: Final = 0.02
_LONGEST_LOOK: Final = 1.0
_AT_ITS_END: Final = 0.01
"""A lease with less left is over here as well."""


class Keepalive:
    """Watches the leases of one queue, by its `policy`, which may be replaced at any time."""

    def __init__(self, queue: WorkQueue, clock: Clock, journal: Journal, policy: QueuePolicy) -> None:
        self._policy = policy
        self._changed = asyncio.Event()
        self._queue = queue
        self._clock = clock
        self._journal = journal
        self._leases: dict[int, Lease] = {}
        self._renewing: set[int] = set()
        self._hurry = False

    @property
    def policy(self) -> QueuePolicy:
        """The rules that the leases are kept by."""
        return self._policy

    @policy.setter
    def policy(self, policy: QueuePolicy) -> None:
        if policy.lease_ns < self._policy.lease_ns:
            # the server counts by it already, from the last renewal, which may be longer ago
            until = self._clock.monotonic() + policy.lease_ns / 1e9
            for lease in self._leases.values():
                lease.until = min(lease.until, until)
            self._hurry = True
        self._policy = policy
        self._changed.set()  # the next look may be due before the one that was planned

    def hold(self, lease: Lease) -> None:
        """Watch this lease from now on."""
        self._leases[id(lease)] = lease

    def release(self, lease: Lease) -> None:
        """Watch it no longer: its item is answered."""
        self._leases.pop(id(lease), None)

    def take_over(self, lease: Lease) -> bool:
        """Tell whether the item of this delivery is still being worked on here: then that goes on, with this delivery.

        To begin a second time beside the first would be of no use to anybody.
        """
        if not self.policy.renews:
            return False
        soon = self._clock.monotonic() + _AT_ITS_END
        for held in self._leases.values():
            if held.subject_id == lease.subject_id and held.body == lease.body and not held.lost and soon < held.until:
                held.token, held.until = lease.token, lease.until
                self._hurry = True
                self._changed.set()
                self._journal.note(ItemCameAgain(lease.queue, lease.subject_id, lease.deliveries))
                return True
        return False

    async def run(self) -> None:
        """Look at all leases again and again, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                pause = self.policy.lease_ns / 1e9 / _LOOKS_PER_LEASE
                with anyio.move_on_after(min(max(pause, _SHORTEST_LOOK), _LONGEST_LOOK)):
                    await self._changed.wait()
                self._changed.clear()
                policy = self.policy
                hurry, self._hurry = self._hurry, False
                every = renewal_ns(policy)
                for lease in list(self._leases.values()):
                    held = self._held_ns(lease)
                    if held >= policy.lease_ns:
                        self._lost(lease)
                    elif policy.renews and (hurry or held > every) and id(lease) not in self._renewing:
                        self._renewing.add(id(lease))
                        group.start_soon(self._renew, lease)

    async def shorten(self, policy: QueuePolicy) -> None:
        """Keep by a shorter lease, before the server does: every lease that is held is renewed for it at once.

        The server counts a shorter lease from the last renewal, so what was renewed longer ago would be delivered a
        second time. Raises `Unavailable` when a renewal failed.
        """
        self.policy = policy
        self._hurry = False  # done here, where a failure is noticed
        if not policy.renews:
            return
        held = list(self._leases.values())
        renewed = await asyncio.gather(*(self.renew(lease) for lease in held))
        for lease, done in zip(held, renewed, strict=True):
            if not done and id(lease) in self._leases:
                raise Unavailable(f"the lease of {lease.subject_id} could not be renewed")

    def short(self, lease: Lease) -> bool:
        """Tell whether under half of a lease that can be renewed is left: then that comes before a request goes out."""
        return renewal_due(self._policy, self._held_ns(lease))

    def _held_ns(self, lease: Lease) -> int:
        return self._policy.lease_ns - int((lease.until - self._clock.monotonic()) * 1e9)

    async def renew(self, lease: Lease) -> bool:
        """Renew now, and tell whether that was done."""
        self._renewing.add(id(lease))
        return await self._renew(lease)

    async def _renew(self, lease: Lease) -> bool:
        try:
            if not lease.lost:
                await self._queue.renew(lease)
        except AjcError:
            return False  # looked at again in a moment, until it is over
        finally:
            self._renewing.discard(id(lease))
        return True

    def _lost(self, lease: Lease) -> None:
        if not lease.lost:
            lease.lost = True
            self._journal.note(LeaseLost(lease.queue, lease.subject_id))
        self._leases.pop(id(lease), None)
