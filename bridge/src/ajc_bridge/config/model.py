"""Every key there is: its type, its bounds, its default and its one-line description (docs/configuration.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ajc.queue import MIN_DURATION
from ajc_bridge.config.values import (
    SECOND,
    BridgeName,
    Count,
    Duration,
    Limit,
    Listen,
    PolicyName,
    QueueName,
    SubjectPrefix,
    TaskType,
    at_least,
    between,
    nothing_or_at_least,
    shown,
)

FinalState = Literal["complete", "expired", "terminated", "unreachable", "queue_error"]
GO_POLICIES = ("default", "1m", "10m", "1h")


def setting(default: Any, description: str, *, reload: bool = False, example: str = "", secret: bool = False) -> Any:
    """One key. `reload`: it can change while running. `example`: shown in the table where the default says little."""
    extra: dict[str, Any] = {"reload": reload, "example": example}
    if callable(default):
        return Field(default_factory=default, description=description, json_schema_extra=extra)
    return Field(default=default, description=description, json_schema_extra=extra, repr=not secret)


class Section(BaseModel):
    """A table of the file: frozen, and no key that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class TlsConfig(Section):
    """TLS files, where the context or the operating system does not provide them."""

    ca: str = setting("", "file with the certificate authority of the server", example='"/etc/nats/ca.pem"')
    cert: str = setting("", "file with the client certificate", example='"/etc/nats/bridge.pem"')
    key: str = setting("", "file with the key of the client certificate", example='"/etc/nats/bridge.key"')

    def faults(self) -> Iterator[str]:
        """Tell what does not go together."""
        if bool(self.cert) != bool(self.key):
            yield "cert and key belong together: set both or none"


class NatsConfig(Section):
    """Where the server is, and who we are to it."""

    url: str = setting("", "server URL, several with commas; else the context", example='"nats://127.0.0.1:4222"')
    context: str = setting(
        "", "name of a NATS context; not together with url. Else $NATS_CONTEXT, the selected one, localhost"
    )
    creds: str = setting("", "file with a JWT and its seed", example='"/etc/nats/bridge.creds"')
    nkey: str = setting("", "file with an nkey seed")
    user: str = setting("", "user name")
    password: str = setting("", "password of the user", secret=True)
    token: str = setting("", "token, where the server wants one", secret=True)
    inbox_prefix: str = setting(
        "", "prefix of the bridge's inboxes, where permissions name one; else a random one of its own"
    )
    jetstream_domain: str = setting("", "JetStream domain, when not the server's own")
    tls: TlsConfig = setting(TlsConfig, "TLS files")

    def faults(self) -> Iterator[str]:
        """Tell what does not go together."""
        if self.url and self.context:
            yield "set url or context, not both"
        if self.password and not self.user:
            yield "password needs user"


class ExecConfig(Section):
    """How handlers are reached."""

    prefix: SubjectPrefix = setting(
        "ajc.exec", "subject prefix of requests; CHORIA_AJ.H.T serves responders written for Go"
    )
    catchall: bool = setting(default=False, description="ask <prefix>.catchall when a type has no responder of its own")
    routes: dict[TaskType, SubjectPrefix] = setting(
        dict,
        "task types whose requests have another prefix, for the catch-all too",
        example='{ "legacy:job" = "CHORIA_AJ.H.T" }',
    )


class BridgeConfig(Section):
    """The process."""

    name: BridgeName = setting(
        "", "name of this bridge in subjects and logs; the host's name and a random end by default"
    )
    concurrency: Annotated[int, between(1, 100_000)] = setting(
        200, "attempts under way at once, all queues together", reload=True
    )
    drain: Annotated[Duration, at_least(0)] = setting(
        30 * SECOND, "how long running attempts may go on after SIGTERM", reload=True
    )
    create: bool = setting(default=True, description="create streams and consumers that are missing")
    replicas: Annotated[int, between(1, 5)] = setting(
        1, "replicas of the streams that the bridge creates; production: 3"
    )


class QueueConfig(Section):
    """A queue; keys that are not set leave what the server has."""

    priority: Annotated[int, between(1, 100)] | None = setting(
        None,
        "share of the slots beside the other queues, 1 to 100; 10 when the queue has none",
        reload=True,
        example="10",
    )
    max_tries: Count | None = setting(None, "tries a task has at most; 0: as the task says", reload=True, example="5")
    max_run_time: Annotated[Duration, at_least(MIN_DURATION)] | None = setting(
        None, "time an attempt may take", reload=True, example='"10m"'
    )
    lease: Annotated[Duration, at_least(MIN_DURATION)] | None = setting(
        None,
        "after this long without a sign of its bridge a task runs elsewhere; 30s or the run time",
        reload=True,
        example='"30s"',
    )
    max_concurrent: Limit | None = setting(
        None, "attempts at once over all bridges; -1: no limit of its own", reload=True, example="100"
    )
    max_entries: Count | None = setting(None, "items the queue holds; 0: no limit", reload=True, example="10000")
    when_full: Literal["reject", "discard_old"] | None = setting(
        None, "what a full queue does with the next task", reload=True, example='"reject"'
    )
    max_age: Annotated[Duration, nothing_or_at_least(MIN_DURATION)] | None = setting(
        None, "items older than this are removed, 100ms or more; 0s: never", reload=True, example='"7d"'
    )
    backoff: PolicyName | None = setting(
        None, "delay between tries: default, 1m, 10m, 1h, or a [backoff] of your own", reload=True, example='"1m"'
    )
    storage: Literal["file", "memory"] | None = setting(
        None, "where a new queue is kept; cannot change later", example='"file"'
    )
    replicas: Annotated[int, between(1, 5)] | None = setting(
        None, "replicas of the queue; bridge.replicas when it is made", example="3"
    )

    def faults(self) -> Iterator[str]:
        """Tell what does not go together."""
        if self.lease is not None and self.max_run_time is not None and self.lease > self.max_run_time:
            yield "lease must not be longer than max_run_time"


class BackoffConfig(Section):
    """A retry policy of your own: `backoff.<name>`, named by a queue's backoff."""

    steps: Annotated[list[Annotated[Duration, at_least(0)]], Field(min_length=1)] = setting(
        ..., "delay after the first, second, ... try; the last one stays", reload=True, example='["1s", "10s", "1m"]'
    )
    jitter: Annotated[float, between(0, 1)] = setting(
        0.5, "a delay is drawn evenly from step * (1 - jitter) to step * (1 + jitter)", reload=True
    )


class RetentionConfig(Section):
    """How long finished tasks are kept; a state that is not set: as long as the task store keeps them."""

    complete: Annotated[Duration, at_least(SECOND)] | None = setting(
        None, "completed tasks", reload=True, example='"1h"'
    )
    expired: Annotated[Duration, at_least(SECOND)] | None = setting(
        None, "tasks whose deadline passed or whose tries are used up", reload=True, example='"30d"'
    )
    terminated: Annotated[Duration, at_least(SECOND)] | None = setting(
        None, "tasks that a handler or a cancel ended", reload=True, example='"30d"'
    )
    unreachable: Annotated[Duration, at_least(SECOND)] | None = setting(
        None, "tasks whose dependencies failed", reload=True, example='"30d"'
    )
    queue_error: Annotated[Duration, at_least(SECOND)] | None = setting(
        None, "tasks that their queue refused", reload=True, example='"7d"'
    )
    discard: list[FinalState] = setting(list, "states that are not kept at all", reload=True, example='["complete"]')

    def faults(self) -> Iterator[str]:
        """Tell what does not go together."""
        for state in self.discard:
            if getattr(self, state) is not None:
                yield f"{state} is in discard and has a time to be kept: remove one of them"

    def ttl_ns(self) -> dict[str, int]:
        """State to time kept in nanoseconds, 0 for those to be discarded; states that are not set are absent."""
        kept: dict[str, int | None] = {
            "complete": self.complete,
            "expired": self.expired,
            "terminated": self.terminated,
            "unreachable": self.unreachable,
            "queue_error": self.queue_error,
        }
        kept.update(dict.fromkeys(self.discard, 0))
        return {state: ttl for state, ttl in kept.items() if ttl is not None}


class DlqConfig(Section):
    """The stream of dead letters."""

    max_age: Annotated[Duration, nothing_or_at_least(MIN_DURATION)] = setting(
        30 * 86_400 * SECOND, "dead letters older than this are removed, 100ms or more; 0s: never", reload=True
    )
    max_entries: Count = setting(100_000, "dead letters kept, the newest; 0: no limit", reload=True)


class HttpConfig(Section):
    """Probes and metrics."""

    listen: Listen = setting(
        "127.0.0.1:8088", "address of /metrics, /healthz and /readyz; port 0: any free one; off: none"
    )


class LogConfig(Section):
    """Logs, on stderr."""

    format: Literal["console", "json"] = setting("console", "console for people, json for machines (one object a line)")
    level: Literal["debug", "info", "warn", "error"] = setting("info", "debug has lines for every task", reload=True)


class Config(Section):
    """Everything, as read from file, environment and flags."""

    nats: NatsConfig = setting(NatsConfig, "the connection")
    exec: ExecConfig = setting(ExecConfig, "how handlers are reached")
    bridge: BridgeConfig = setting(BridgeConfig, "the process")
    queues: dict[QueueName, QueueConfig] = setting(dict, "the queues to serve; none: every queue there is, and DEFAULT")
    backoff: dict[PolicyName, BackoffConfig] = setting(dict, "retry policies of your own")
    retention: RetentionConfig = setting(RetentionConfig, "how long finished tasks are kept")
    dlq: DlqConfig = setting(DlqConfig, "dead letters")
    http: HttpConfig = setting(HttpConfig, "probes and metrics")
    log: LogConfig = setting(LogConfig, "logs")

    def faults(self, wrong_policies: Iterable[str] = ()) -> Iterator[str]:
        """Tell what is wrong between keys: one line each, with the path. `wrong_policies` exist, but are told already.

        These are no validators of the sections: those would be silent as long as any other key is wrong.
        """
        yield from (f"nats: {line}" for line in self.nats.faults())
        yield from (f"nats.tls: {line}" for line in self.nats.tls.faults())
        own = [*self.backoff, *(name for name in wrong_policies if name not in self.backoff)]
        for name, queue in self.queues.items():
            yield from (f"queues.{name}: {line}" for line in queue.faults())
            if queue.backoff is not None and queue.backoff not in GO_POLICIES and queue.backoff not in own:
                known = ", ".join([*GO_POLICIES, *own])
                yield f"queues.{name}.backoff: there is no policy {shown(queue.backoff)}; there are {known}"
        yield from (f"backoff.{name}: is built in; choose another name" for name in self.backoff if name in GO_POLICIES)
        yield from (f"retention: {line}" for line in self.retention.faults())
