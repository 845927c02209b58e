"""Everything that was seen of a run: what was promised, stored, sent and answered; values only, no judgement.

Nothing of the product is used here or in the checker: a fault of its codec must not hide itself. The record of saves
is the task store itself, which a run keeps with every revision (`max_msgs_per_subject` -1): what the server accepted,
in its order, whoever was killed meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from msgspec import Struct


class Plan(Struct, frozen=True):
    """What the producer asked for, and what must come of it."""

    task: str
    does: str
    cap: int
    """Tries that count at most; 0: no limit."""
    ends: frozenset[str] = frozenset({"complete"})
    """The final states that are right."""
    tries: int | None = None
    """The exact number of counted tries in the end, where chance has no say in it."""
    deadline_ns: int | None = None
    cancel: bool = False
    """It is cancelled at some time: that may be its end, too."""


class Revision(Struct, frozen=True):
    """One accepted save."""

    task: str
    sequence: int
    at_ns: int
    data: bytes


class Letter(Struct, frozen=True):
    """One stored dead letter. Header names are lower case."""

    subject: str
    at_ns: int
    headers: dict[str, str]
    body: bytes


class Request(Struct, frozen=True):
    """A request as a responder got it; `digest` is that of the body."""

    task: str
    at_ns: int
    responder: str
    try_number: int
    digest: str


class Reply(Struct, frozen=True):
    """A reply, written down before it was sent. `kind`: success, error, terminate, busy."""

    task: str
    at_ns: int
    responder: str
    try_number: int
    kind: str
    text: str = ""
    digest: str = ""
    """That of the request's body."""


class Cancel(Struct, frozen=True):
    """What somebody who cancelled a task was told: `cancelled`, the final state it had, or `unknown` (no answer)."""

    task: str
    at_ns: int
    said: str


class Event(Struct, frozen=True):
    """A task_state event as the tap got it (core NATS: some may be missing)."""

    task: str
    at_ns: int
    state: str
    tries: int


class Fault(Struct, frozen=True):
    """What was done to a process. `kind`: kill, stop, term; `target`: bridge, responder, server."""

    at_ns: int
    kind: str
    target: str
    name: str = ""


class Note(Struct, frozen=True):
    """Anything else that a tap saw, for the story of a task: an item, a schedule, an ack."""

    task: str
    at_ns: int
    what: str


class History(Struct, frozen=True, kw_only=True):
    """A whole run, as it stood when all was quiet (or should have been)."""

    plans: tuple[Plan, ...]
    acknowledged: frozenset[str]
    revisions: tuple[Revision, ...]
    letters: tuple[Letter, ...] = ()
    items: tuple[str, ...] = ()
    """Subjects of items still in the queue."""
    schedules: tuple[str, ...] = ()
    """Subjects still in the delay stream, yet to move."""
    leftovers: tuple[str, ...] = ()
    """Subjects of what the server had removed and brought back (told, not judged: nothing comes of them)."""
    requests: tuple[Request, ...] = ()
    replies: tuple[Reply, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    events: tuple[Event, ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[Note, ...] = ()


def digest(body: bytes) -> str:
    """A short name for a body, equal for equal bytes only."""
    return hashlib.sha256(body).hexdigest()[:24]


def story(history: History, task: str) -> str:
    """All that was seen of one task, in the order of time, one line each; faults in between."""
    lines: list[tuple[int, str]] = []
    lines += [
        (one.at_ns, f"save     #{one.sequence} {one.data.decode(errors='replace')}")
        for one in history.revisions
        if one.task == task
    ]
    lines += [
        (one.at_ns, f"request  try {one.try_number} at {one.responder} ({one.digest})")
        for one in history.requests
        if one.task == task
    ]
    lines += [
        (one.at_ns, f"reply    try {one.try_number} of {one.responder}: {one.kind} {one.text!r}")
        for one in history.replies
        if one.task == task
    ]
    lines += [(one.at_ns, f"cancel   {one.said}") for one in history.cancels if one.task == task]
    lines += [(one.at_ns, f"event    {one.state} tries {one.tries}") for one in history.events if one.task == task]
    lines += [(one.at_ns, f"note     {one.what}") for one in history.notes if one.task == task]
    lines += [
        (one.at_ns, f"letter   {one.headers} {one.body.decode(errors='replace')}")
        for one in history.letters
        if task_of(one.subject) == task
    ]
    if lines:
        begin, end = min(lines)[0], max(lines)[0]
        lines += [
            (one.at_ns, f"FAULT    {one.kind} {one.target} {one.name}")
            for one in history.faults
            if begin <= one.at_ns <= end
        ]
    plan = [f"plan     {plan}" for plan in history.plans if plan.task == task]
    plan.append(f"acknowledged: {task in history.acknowledged}")
    plan += [f"left     {subject}" for subject in (*history.items, *history.schedules) if task_of(subject) == task]
    first = min(lines)[0] if lines else 0
    return "\n".join(plan + [f"{(at - first) / 1e9:9.4f} {text}" for at, text in sorted(lines)])


def task_of(subject: str) -> str:
    """The task's id in a subject: the last token, everywhere in this protocol."""
    return subject.rsplit(".", 1)[-1]


def by_task(things: Iterable[Any]) -> dict[str, list[Any]]:
    """Group anything that has a `task`, keeping the order."""
    grouped: dict[str, list[Any]] = {}
    for thing in things:
        grouped.setdefault(thing.task, []).append(thing)
    return grouped
