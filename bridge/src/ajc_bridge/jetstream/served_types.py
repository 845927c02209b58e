"""Which types are served, by how many, and which have tasks that wait: discovery beside a look at tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from ajc.connection import Connection
from ajc.discovery import FoundEndpoint, find_endpoints
from ajc.errors import AjcError, Closed
from ajc.subjects import RESPONDER_GROUP
from ajc_bridge.jetstream.waiting import Waiting, waiting_types

WAITING_SECONDS: Final = 1.0
"""How long the look at tasks may take."""

Served = Literal["yes", "no", "unknown"]


class ServedType(msgspec.Struct, frozen=True):
    """One type. `served` is `no` when a bridge asked lately and nobody was there, `unknown` without any service.

    `capacity` sums up what instances say; None when none says it. `average_ms` is over all requests, None without any.
    `waiting` counts tasks among those that were looked at. `other_groups` are queue groups beside the one that all
    responders must use: with those a task would be run twice.
    """

    type: str
    served: Served
    instances: int
    capacity: int | None
    versions: tuple[str, ...]
    requests: int
    errors: int
    average_ms: float | None
    waiting: int
    other_groups: tuple[str, ...] = ()


class Overview(msgspec.Struct, frozen=True):
    """All types, those first that wait and that nobody is known to serve; and how much of the tasks was looked at.

    `unseen` says why no tasks were looked at, "" when they were.
    """

    types: list[ServedType]
    looked_at: int
    whole: bool
    unseen: str = ""


async def served_types(connection: Connection) -> Overview:
    """Look at services and at tasks, both at once, for little more than a second. Raises `Unavailable` and `Closed`."""
    endpoints, waiting = await asyncio.gather(find_endpoints(connection), _waiting(connection))
    if isinstance(waiting, str):
        return Overview(_joined(endpoints, Waiting({}, 0, whole=False)), 0, whole=False, unseen=waiting)
    return Overview(_joined(endpoints, waiting), waiting.looked_at, whole=waiting.whole)


async def _waiting(connection: Connection) -> Waiting | str:
    try:
        async with asyncio.timeout(WAITING_SECONDS):
            return await waiting_types(connection)
    except TimeoutError:
        return "the server took too long to tell"
    except Closed:
        raise
    except AjcError as error:  # no JetStream, no right to look: services are shown all the same
        return str(error)


def _joined(endpoints: Iterable[FoundEndpoint], waiting: Waiting) -> list[ServedType]:
    by_type: dict[str, list[FoundEndpoint]] = {name: [] for name in waiting.types}
    for endpoint in endpoints:
        by_type.setdefault(endpoint.type, []).append(endpoint)
    types = [_summary(name, found, waiting) for name, found in by_type.items()]
    return sorted(types, key=lambda one: (one.served == "yes", one.served == "unknown", one.type))


def _summary(name: str, endpoints: list[FoundEndpoint], waiting: Waiting) -> ServedType:
    found = waiting.types.get(name)
    capacities = [one.capacity for one in endpoints if one.capacity is not None]
    requests = sum(one.requests or 0 for one in endpoints)
    nanoseconds = sum(one.processing_ns or 0 for one in endpoints)
    served: Served = "yes" if endpoints else "no" if found is not None and found.nobody else "unknown"
    return ServedType(
        type=name,
        served=served,
        instances=len({one.id for one in endpoints}),
        capacity=sum(capacities) if capacities else None,
        versions=tuple(sorted({one.version for one in endpoints if one.version})),
        requests=requests,
        errors=sum(one.errors or 0 for one in endpoints),
        average_ms=round(nanoseconds / requests / 1e6, 3) if requests else None,
        waiting=found.tasks if found is not None else 0,
        other_groups=tuple(sorted({one.queue_group for one in endpoints} - {RESPONDER_GROUP})),
    )
