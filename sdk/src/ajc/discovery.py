"""Who serves which types: NATS services (ADR-32) that say so in their endpoints' metadata, asked on `$SRV`.

Anybody may answer there, so nothing in an answer is taken on trust: what is none is passed over, numbers that are none
count as absent, texts are cut. A responder that is a plain subscriber is no service, and cannot be found at all: the
only other way to learn of it would be a request, and that is a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from ajc.answers import NO_RESPONDERS
from ajc.connection import Connection, Message
from ajc.subjects import EXEC_PREFIX, GO_EXEC_PREFIX, is_type

FIRST_SECONDS: Final = 0.6
"""How long a first answer is waited for."""
QUIET_SECONDS: Final = 0.2
"""After so long without a further answer all are taken to have come."""
LONGEST_SECONDS: Final = 1.2
"""However many answers come, and whoever goes on answering."""
MOST_ENDPOINTS: Final = 20_000
_LONGEST_ANSWER: Final = 1 << 16
_LONGEST_TEXT: Final = 200
_LARGEST: Final = 2**63

_Key = tuple[str, str, str]
"""An instance's id, an endpoint's name and its subject."""
_T = TypeVar("_T")


class FoundEndpoint(msgspec.Struct, frozen=True):
    """One instance of a responder, as far as it serves one type.

    `capacity` (attempts at a time) and `protocol` are as its metadata says, None and "" when it does not. `requests`,
    `errors` and `processing_ns` (all requests together) are since it started; None for all when it gave no statistics.
    `answered` is how long its answer took, in seconds.
    """

    type: str
    service: str
    id: str
    name: str
    version: str
    subject: str
    queue_group: str
    capacity: int | None
    protocol: str
    answered: float
    requests: int | None = None
    errors: int | None = None
    processing_ns: int | None = None


async def find_endpoints(
    connection: Connection, *, statistics: bool = True, longest: float = LONGEST_SECONDS
) -> list[FoundEndpoint]:
    """Ask all services what they serve, and return the endpoints that serve a type, by type, service and id.

    Takes `longest` seconds at most. A service that does not answer in that time is not found; one endpoint of one
    instance is there once, however often it answered. Raises `Unavailable` and `Closed`.
    """
    found: dict[_Key, FoundEndpoint] = {}
    counts: dict[_Key, dict[str, int]] = {}

    def informed(service: dict[str, Any], answered: float) -> int:
        return _add(found, {(one.id, one.name, one.subject): one for one in _endpoints(service, answered)})

    def counted(service: dict[str, Any], _answered: float) -> int:
        ends = _list(service, "endpoints")
        return _add(
            counts, {(_text(service, "id"), _text(one, "name"), _text(one, "subject")): _counts(one) for one in ends}
        )

    asking = [_ask_all(connection, "$SRV.INFO", informed, longest)]
    if statistics:
        asking.append(_ask_all(connection, "$SRV.STATS", counted, longest))
    await asyncio.gather(*asking)
    endpoints = [msgspec.structs.replace(one, **counts.get(key, {})) for key, one in found.items()]
    return sorted(endpoints, key=lambda one: (one.type, one.service, one.id))


def _add(to: dict[_Key, _T], more: dict[_Key, _T]) -> int:
    """Add what is not there yet, as far as there is room; return how much that was."""
    before = len(to)
    for key, value in more.items():
        if len(to) < MOST_ENDPOINTS:
            to.setdefault(key, value)
    return len(to) - before


async def _ask_all(
    connection: Connection, subject: str, take: Callable[[dict[str, Any], float], int], longest: float
) -> None:
    """Send a request that everybody answers, and hand each answer on, until no more come.

    `take` says how much was new in an answer: one that only repeats itself keeps nobody waiting.
    """
    loop = asyncio.get_running_loop()
    inbox = f"{connection.inbox_prefix}.{secrets.token_hex(8)}"
    began = loop.time()
    quiet_at = began + min(FIRST_SECONDS, longest)
    nobody = asyncio.Event()

    def received(message: Message) -> None:
        nonlocal quiet_at
        if message.headers is not None and message.headers.startswith(NO_RESPONDERS):
            nobody.set()
            return
        service = _decoded(message.body)
        if service is not None and take(service, loop.time() - began):
            quiet_at = loop.time() + QUIET_SECONDS

    subscription = await connection.subscribe(inbox, received)
    try:
        connection.publish(subject, b"", reply=inbox)
        await connection.flush()
        while (left := min(quiet_at, began + longest) - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(nobody.wait(), left)
                return
    finally:
        if not connection.closed:
            await subscription.unsubscribe()


def _decoded(body: bytes) -> dict[str, Any] | None:
    if len(body) > _LONGEST_ANSWER:
        return None
    try:
        service = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return service if isinstance(service, dict) and _text(service, "id") else None


def _endpoints(service: dict[str, Any], answered: float) -> Iterator[FoundEndpoint]:
    for endpoint in _list(service, "endpoints"):
        metadata = endpoint.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        subject = _text(endpoint, "subject")
        type_ = _text(metadata, "ajc.type") or _type_of(subject)
        if is_type(type_):
            capacity = _text(metadata, "ajc.concurrency")
            yield FoundEndpoint(
                type=type_,
                service=_text(service, "name"),
                id=_text(service, "id"),
                name=_text(endpoint, "name"),
                version=_text(service, "version"),
                subject=subject,
                queue_group=_text(endpoint, "queue_group"),
                capacity=int(capacity) if capacity.isdecimal() and capacity.isascii() and len(capacity) < 10 else None,  # noqa: PLR2004
                protocol=_text(metadata, "ajc.protocol"),
                answered=answered,
            )


def _type_of(subject: str) -> str:
    """Return the type that requests on this subject have, "" when they have none: a service may have no metadata."""
    prefix, _, type_ = subject.rpartition(".")
    return type_ if prefix in (EXEC_PREFIX, GO_EXEC_PREFIX) else ""


def _list(of: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = of.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(of: dict[str, Any], name: str) -> str:
    found = of.get(name)
    return found[:_LONGEST_TEXT] if isinstance(found, str) else ""


def _count(of: dict[str, Any], name: str) -> int:
    found = of.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return 0
    return int(found) if 0 <= found < _LARGEST else 0


def _counts(endpoint: dict[str, Any]) -> dict[str, int]:
    return {
        "requests": _count(endpoint, "num_requests"),
        "errors": _count(endpoint, "num_errors"),
        "processing_ns": _count(endpoint, "processing_time"),
    }
