"""A responder as a NATS service (ADR-32): it answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`.

Each subject has three forms: bare, with the name of the service, with its name and the id of the instance. nats-py has
`nats.micro`, which does not fit: it takes its own client and subscribes to the endpoints itself, with one task and one
request at a time for each, answers errors in its own way, and cannot leave the queue group before what runs has ended.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from ajc.attempt import Attempt
from ajc.connection import Connection, Subscription
from ajc.errors import AjcError, InvalidValue
from ajc.exchange import PROTOCOL
from ajc.handlers import CallNext, Handler
from ajc.instant import Instant
from ajc.transport import drain_all

DEFAULT_VERSION: Final = "0.0.0"
_PREFIX: Final = "$SRV"
_TYPE: Final = "io.nats.micro.v1.{}_response"
_not_in_a_name: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_semver: Final = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
).fullmatch
_NANOSECONDS: Final = 1e9
_LEAVE_SECONDS: Final = 2.0
_logger: Final = logging.getLogger("ajc.responder")
_encode: Final = msgspec.json.Encoder().encode


class ProgressTaker(Protocol):
    """What takes the progress that is said: a responder's clock, or a test."""

    def say(self, attempt: Attempt, said: dict[str, Any]) -> None: ...  # noqa: D102


class Endpoint:
    """One type that is served: how (`call`: its handler within the middleware), and what was counted of it.

    Requests are all that came; errors those that failed or were terminated, or got no reply for want of time. A busy
    reply is no error. `processing` is in seconds.
    """

    def __init__(self, handler: Handler, subject: str, group: str) -> None:
        self.handler = handler
        self.subject = subject
        self.group = group
        self.call: CallNext = handler.direct_call()
        self.clock: ProgressTaker | None = None
        self.requests = 0
        self.errors = 0
        self.busy = 0
        self.last_error = ""
        self.processing = 0.0

    def failed(self, text: str) -> None:
        """Count an error; `text` as it went out."""
        self.errors += 1
        self.last_error = text


class Service:
    """What is told of one responder process. Raises `InvalidValue` for a version that is not semantic."""

    def __init__(self, name: str, version: str, description: str, endpoints: Sequence[Endpoint]) -> None:
        self.name = service_name(name)
        self.version = check_version(version)
        self.id = secrets.token_hex(11)
        self._description = description
        self._endpoints = [*zip(_names([endpoint.handler.type for endpoint in endpoints]), endpoints, strict=True)]
        self._started = Instant.now().to_datetime()
        self._subscriptions: list[Subscription] = []
        self._connection: Connection | None = None

    async def start(self, connection: Connection) -> None:
        """Answer from now on."""
        self._connection = connection
        for verb, tell in (("PING", self.ping), ("INFO", self.info), ("STATS", self.stats)):
            for place in (verb, f"{verb}.{self.name}", f"{verb}.{self.name}.{self.id}"):
                callback = partial(self._asked, tell)
                self._subscriptions.append(await connection.subscribe_raw(f"{_PREFIX}.{place}", callback))

    async def stop(self) -> None:
        """Be found no more; who asked before is answered."""
        if not await drain_all(self._subscriptions, _LEAVE_SECONDS):
            _logger.debug("the server did not answer while the service left")
        self._subscriptions.clear()

    def ping(self) -> dict[str, Any]:
        """Return the answer to a ping: who is there."""
        return self._identity("ping")

    def info(self) -> dict[str, Any]:
        """Return which types are served, and how many attempts of each at a time."""
        return self._identity("info") | {
            "description": self._description,
            "endpoints": [
                {
                    "name": name,
                    "subject": endpoint.subject,
                    "queue_group": endpoint.group,
                    "metadata": _metadata(endpoint),
                }
                for name, endpoint in self._endpoints
            ],
        }

    def stats(self) -> dict[str, Any]:
        """Return what was counted since the start."""
        return self._identity("stats") | {
            "started": self._started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),  # the form that all clients read
            "endpoints": [
                {
                    "name": name,
                    "subject": endpoint.subject,
                    "queue_group": endpoint.group,
                    "num_requests": endpoint.requests,
                    "num_errors": endpoint.errors,
                    "last_error": endpoint.last_error,
                    "processing_time": int(endpoint.processing * _NANOSECONDS),
                    "average_processing_time": int(endpoint.processing * _NANOSECONDS / max(endpoint.requests, 1)),
                    "data": {"busy": endpoint.busy, "running": endpoint.handler.running},
                }
                for name, endpoint in self._endpoints
            ],
        }

    def _identity(self, verb: str) -> dict[str, Any]:
        return {
            "type": _TYPE.format(verb),
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": {},
        }

    def _asked(self, tell: Any, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        del subject, body, headers
        if reply and self._connection is not None:
            try:
                self._connection.publish(reply.decode(), _encode(tell()))
            except (AjcError, UnicodeDecodeError):
                return  # who asked asks again


def service_name(name: str) -> str:
    """Make a service's name of any name: letters, digits, `_` and `-`."""
    return _not_in_a_name.sub("-", name).strip("-") or "ajc-responder"


def check_version(version: str) -> str:
    """Give the version back, or raise `InvalidValue`."""
    if _semver(version) is None:
        raise InvalidValue("version", version, "write it like 1.2.3: services have semantic versions")
    return version


def _metadata(endpoint: Endpoint) -> Mapping[str, str]:
    handler = endpoint.handler
    return {"ajc.type": handler.type, "ajc.concurrency": str(handler.concurrency), "ajc.protocol": PROTOCOL}


def _names(types: Sequence[str]) -> list[str]:
    """Name the endpoints after their types, whose colons no name may have; each name once."""
    names: list[str] = []
    for kind in types:
        name = plain = _not_in_a_name.sub("-", kind)
        number = 2
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names
