"""The task record: what is stored under a task's id, and what a responder gets.

Lossless: nanoseconds and offsets survive, keys that this version does not know survive byte for byte, numbers are never
rounded. Both ways cost a few microseconds, since the bridge reads one and writes two per attempt.
"""

from __future__ import annotations

from typing import Any, Self

import msgspec
from msgspec import UNSET, Raw, Struct

from ajc import ksuid, record, task_json
from ajc.errors import InvalidValue, MalformedInstant, MalformedTask
from ajc.instant import GO_ZERO, Instant
from ajc.json_value import encode_value
from ajc.result import Result
from ajc.subjects import check_id, check_queue, check_type
from ajc.task_json import KEYS, NULL, OWN_KEYS, Written, encode
from ajc.task_state import FINAL_STATES, TaskState

__all__ = ["DEFAULT_MAX_TRIES", "FINAL_STATES", "Result", "Task", "TaskState"]

DEFAULT_MAX_TRIES = 10


_STATE_NEW = b',"state":"new","created":"'
_NEVER_TRIED = b'","tries":0}'
_STATE_ACTIVE = b',"state":"active",'
_STATE_COMPLETE = b',"state":"complete",'
_NONE = (b"", b"null")  # a result that is absent or null


class Task(Struct, frozen=True, kw_only=True):
    """One task. A change is another value: `task.replace(state="active")`."""

    id: str
    type: str
    queue: str = ""  # set on enqueue
    dependencies: tuple[str, ...] = ()
    dependency_results: dict[str, Result | None] | None = None
    load_dependencies: bool = False
    payload: bytes | None = None  # by convention a JSON document
    deadline: Instant | None = None
    max_tries: int = DEFAULT_MAX_TRIES  # 0 or less: no limit of its own
    result: Result | None = None
    state: str = TaskState.NEW  # a TaskState, or a word that this version does not know
    created: Instant = GO_ZERO
    tried: Instant | None = None  # when the last attempt began
    tries: int = 0
    last_err: str = ""
    signature: str = ""  # hex
    next_try_at: Instant | None = None  # ours: when a waiting retry is due
    cancelled: Instant | None = None  # ours: when it was cancelled
    dead_letter: str = ""  # ours: the reason word of its dead letter, set by the final save
    traceparent: str = ""  # ours: the producer's W3C trace context, as it came
    tracestate: str = ""
    extra: dict[str, Raw] = {}  # keys this version does not know

    @classmethod
    def create(
        cls,
        type: str,  # noqa: A002 - the field's name
        payload: Any = None,
        *,
        id: str | None = None,  # noqa: A002 - the field's name
        queue: str = "",
        deadline: Instant | None = None,
        max_tries: int = DEFAULT_MAX_TRIES,
        created: Instant | None = None,
    ) -> Self:
        """Make a new task; `payload` is taken as it is when it is bytes, else written as JSON (None: no payload).

        InvalidName for a type, id or queue outside its grammar; InvalidValue for a payload that JSON cannot say, and
        for numbers or times that cannot be stored.
        """
        if max_tries.__class__ is not int or not -(2**63) <= max_tries < 2**63:
            raise InvalidValue("max_tries", max_tries, "use an integer, 0 for no limit of the task's own")
        if deadline is not None:
            deadline.rfc3339()  # refuses one that cannot be written
        if payload is not None and not isinstance(payload, bytes):
            payload = encode_value(payload, "payload")
        return cls(
            id=ksuid.new() if id is None else check_id(id),
            type=check_type(type),
            queue=check_queue(queue) if queue else "",
            payload=payload,
            deadline=deadline,
            max_tries=max_tries,
            created=Instant.now() if created is None else created,
        )

    @property
    def final(self) -> bool:
        """Whether only an explicit retry leads on from this state."""
        return self.state in FINAL_STATES

    def replace(self, **changes: Any) -> Self:
        """Give the same task with these fields changed."""
        return msgspec.structs.replace(self, **changes)

    def encode(self) -> bytes:
        """Write Go's keys in Go's order, then ours, then those kept. InvalidValue for a time that cannot be written."""
        try:
            encoded = encode(_written(self))
        except UnicodeEncodeError:
            encoded = encode(_written(_without_surrogates(self)))
        if not self.extra:
            return encoded
        return record.spliced(encoded, {key: value for key, value in self.extra.items() if self._keeps(key)})

    def encode_started(self, before: Task, body: bytes) -> bytes:
        """Write what `encode` would mean, at a third of the cost when it starts for the first time.

        It must be `before` but for what a start changes; `body` is what `before` was read from, whoever wrote it: what
        does not change stays as it is there. InvalidValue for a time that cannot be written.
        """
        at, find = body.rfind(_STATE_NEW), body.find
        created = body[at + len(_STATE_NEW) : -len(_NEVER_TRIED)]
        # `find`, since CPython asks of `in` first whether it is about a number, by raising and formatting an error
        if at < 0 or not body.endswith(_NEVER_TRIED) or created.find(b'"') >= 0 or self.tried is None:
            return self.encode()
        if find(b"\\") >= 0 or not body.isascii():  # some of it may have been mended when it was read
            return self.encode()
        if before.extra or before.traceparent:  # some of it may not have been in the body
            return self.encode()
        # what the start takes away must not stay, and what it or the end writes not be there twice
        if find(b'"last_err"') >= 0 or find(b'"next_try_at"') >= 0 or find(b'"tried"') >= 0 or find(b'"result"') >= 0:
            return self.encode()
        return b'%b,"state":"active","created":"%b","tried":"%b","tries":1}' % (
            body[:at],
            created,
            self.tried.rfc3339().encode(),
        )

    def encode_completed(self, active: Task, body: bytes) -> bytes:
        """Write this task as `encode` does, at a third of the cost.

        It must be `active` but for its state and the result that it has now; `body` is what `active` was written as.
        """
        at = body.rfind(_STATE_ACTIVE)
        # within JSON of somebody else's a state might be taken for ours
        if at < 0 or self.result is None or active.result or active.extra or active.dependency_results:
            return self.encode()
        return b'%b,"result":%b%b%b' % (
            body[:at],
            self.result.encode(),
            _STATE_COMPLETE,
            body[at + len(_STATE_ACTIVE) :],
        )

    def _keeps(self, key: str) -> bool:
        """Whether a kept member is written: a key of ours is, until it has a value of ours."""
        return key not in KEYS or (key in OWN_KEYS and getattr(self, key) in (None, ""))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record; MalformedTask for whatever is none.

        Go reads the same, except for what no writer makes and this refuses: `null` alone, keys that differ from a known
        one in case only, bytes as an array of numbers or with line breaks in their base64, a null among the
        dependencies, times as ajc.instant says, more than about 900 levels of nesting.
        """
        try:
            read = task_json.read_usual(data)
            return cls(
                id=read.id,
                type=read.type,
                queue=read.queue,
                payload=read.payload,
                deadline=Instant.parse(read.deadline) if read.deadline is not None else None,
                max_tries=read.max_tries,
                state=read.state,
                created=Instant.parse(read.created),
                tried=Instant.parse(read.tried) if read.tried is not None else None,
                tries=read.tries,
                traceparent=read.traceparent,
                tracestate=read.tracestate,
            )
        except (*record.READ_ERRORS, MalformedInstant):
            pass  # another record, or none
        return cls._of(*task_json.read(data))

    @classmethod
    def _of(cls, read: task_json.Read, extra: dict[str, Raw]) -> Self:
        created, deadline, tried = read.created, read.deadline, read.tried
        result = bytes(read.result)
        field = "created"
        parse = Instant.parse
        try:
            made = parse(created) if created is not None else GO_ZERO
            field = "deadline"
            ends = parse(deadline) if deadline is not None else None
            field = "tried"
            began = parse(tried) if tried is not None else None
        except MalformedInstant as error:
            raise MalformedTask(field, error.reason) from None
        next_try_at, extra = _own_time("next_try_at", read.next_try_at, extra) if read.next_try_at else (None, extra)
        cancelled, extra = _own_time("cancelled", read.cancelled, extra) if read.cancelled else (None, extra)
        return cls(
            id=read.id or "",
            type=read.type or "",
            queue=read.queue or "",
            dependencies=read.dependencies or (),
            dependency_results=_results(read.dependency_results) if read.dependency_results else None,
            load_dependencies=read.load_dependencies or False,
            payload=read.payload,
            deadline=ends,
            max_tries=read.max_tries or 0,
            result=Result.decode(result) if result not in _NONE else None,
            state=read.state or "",
            created=made,
            tried=began,
            tries=read.tries or 0,
            last_err=read.last_err or "",
            signature=read.signature or "",
            next_try_at=next_try_at,
            cancelled=cancelled,
            dead_letter=read.dead_letter or "",
            traceparent=read.traceparent or "",
            tracestate=read.tracestate or "",
            extra=extra,
        )


def _results(found: dict[str, Raw]) -> dict[str, Result | None]:
    return {
        key: None if value == NULL else Result.decode(bytes(value), f"dependency_results.{key}")
        for key, value in found.items()
    }


def _own_time(key: str, text: str, extra: dict[str, Raw]) -> tuple[Instant | None, dict[str, Raw]]:
    """Our own key's time; what is none is somebody else's and kept as it is."""
    try:
        return Instant.parse(text), extra
    except MalformedInstant:
        return None, {**extra, key: Raw(encode(text))}


def _written(task: Task) -> Written:
    results = task.dependency_results
    return Written(
        task.id,
        task.type,
        task.queue,
        task.dependencies or UNSET,
        {key: Raw(value.encode()) if value else NULL for key, value in sorted(results.items())} if results else UNSET,
        task.load_dependencies or UNSET,
        task.payload,
        UNSET if task.deadline is None else task.deadline.rfc3339(),
        task.max_tries,
        UNSET if task.result is None else Raw(task.result.encode()),
        task.state,
        task.created.rfc3339(),
        UNSET if task.tried is None else task.tried.rfc3339(),
        task.tries,
        task.last_err or UNSET,
        task.signature or UNSET,
        UNSET if task.next_try_at is None else task.next_try_at.rfc3339(),
        UNSET if task.cancelled is None else task.cancelled.rfc3339(),
        task.dead_letter or UNSET,
        task.traceparent or UNSET,
        task.tracestate or UNSET,
    )


def _without_surrogates(task: Task) -> Task:
    """Put U+FFFD for what UTF-8 cannot hold: a stored record is better than a lost one."""
    clean = record.without_surrogates
    texts = {key: clean(value) for key, value in msgspec.structs.asdict(task).items() if isinstance(value, str)}
    results = task.dependency_results
    return task.replace(
        **texts,
        dependencies=tuple(map(clean, task.dependencies)),
        dependency_results={clean(key): value for key, value in results.items()} if results else None,
    )
