"""A small model of the protocol: it lives tasks' lives on paper, crashes included, and writes what would be seen.

The checker is tried on its histories: it must accept each, and name each fault that a test plants in one.
"""

from __future__ import annotations

import base64
import json
import random
from typing import Any

from chaos.history import Cancel, Event, Fault, History, Letter, Plan, Reply, Request, Revision, digest

BEGIN = 1_800_000_000_000_000_000
STEP = 1_000_000
CANCELS = ("cancel", "cancel_new", "too_late")


class Model:
    """Tasks that follow each other; `crashes` is the chance that an attempt's bridge dies."""

    def __init__(self, seed: int, crashes: float = 0.0) -> None:
        self.chance = random.Random(seed)
        self.crashes = crashes
        self.clock, self.sequence = BEGIN, 0
        self.plans: list[Plan] = []
        self.revisions: list[Revision] = []
        self.letters: list[Letter] = []
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self.cancels: list[Cancel] = []
        self.events: list[Event] = []
        self.faults: list[Fault] = []

    def live(self, task: str, does: str) -> None:
        """One whole life."""
        cap = {"fail": 3}.get(does, 50)
        end = {
            "cancel": "terminated",
            "cancel_new": "terminated",
            "terminate": "terminated",
            "fail": "expired",
            "deadline": "expired",
        }.get(does, "complete")
        tries = {"fail": 3, "recover": 3, "deadline": None}.get(does, 1)
        deadline = self.clock + 40 * STEP if does == "deadline" else None
        ends = frozenset({end, "terminated"} if does in CANCELS else {end})
        cancel = does in CANCELS
        self.plans.append(Plan(task, does, cap, ends, None if cancel else tries, deadline, cancel=cancel))
        record: dict[str, Any] = {
            "id": task,
            "type": f"chaos-{does}",
            "queue": "Q",
            "payload": "e30=",
            "max_tries": cap,
        }
        record = self.save(record | {"state": "new", "created": "2027-01-15T08:00:00Z", "tries": 0})
        busy = 0
        if does == "cancel_new":
            self.cancel(record)
            return
        while record["state"] not in ("complete", "expired", "terminated"):
            if deadline is not None and self.clock >= deadline:
                self.end(record, "expired", "deadline passed", "deadline")
                return
            before = dict(record)
            if record["tries"] >= cap:
                self.end(record, "expired", "attempt abandoned", "tries")
                return
            active = {key: value for key, value in record.items() if key not in ("last_err", "next_try_at")}
            record = self.save(active | {"state": "active", "tries": record["tries"] + 1, "tried": str(self.tick())})
            if self.chance.random() < self.crashes:
                self.faults.append(Fault(self.tick(), "kill", "bridge"))
                if self.chance.random() < 0.5:
                    self.ask(record)
                continue
            if does == "cancel":
                of = self.ask(record) if self.chance.random() < 0.8 else ""
                self.cancel(record)
                if of:
                    self.answer(record, of, "success", "too late")
                return
            of = self.ask(record)
            busy += does == "busy"
            record = self.settle(record, before, does, of, busy)

        if cancel:
            self.cancels.append(Cancel(task, self.tick(), record["state"]))

    def cancel(self, record: dict[str, Any]) -> None:
        kept = {key: value for key, value in record.items() if key != "next_try_at"}
        self.save(kept | {"state": "terminated", "last_err": "cancelled: as told", "cancelled": str(self.tick())})
        self.cancels.append(Cancel(record["id"], self.tick(), "cancelled"))

    def settle(self, record: dict[str, Any], before: dict[str, Any], does: str, of: str, busy: int) -> dict[str, Any]:
        number = record["tries"]
        if does == "busy" and busy <= 2:
            text = f"busy {busy}"
            self.answer(record, of, "busy", text)
            state = "retry" if before["state"] == "active" else before["state"]
            return self.save(record | {"state": state, "tries": number - 1, "last_err": text, "next_try_at": "x"})
        if does == "terminate":
            self.answer(record, of, "terminate", "no")
            return self.end(record, "terminated", "no", "terminated")
        if does in ("fail", "deadline") or (does == "recover" and number < 3):
            self.answer(record, of, "error", f"bad {number}")
            if does == "fail" and number >= 3:
                return self.end(record, "expired", f"bad {number}", "tries")
            self.clock += 5 * STEP
            return self.save(record | {"state": "retry", "last_err": f"bad {number}", "next_try_at": "x"})
        self.answer(record, of, "success", f"result {number}")
        payload = base64.b64encode(f"result {number}".encode()).decode()
        return self.save(record | {"state": "complete", "result": {"payload": payload, "completed": "x"}})

    def end(self, record: dict[str, Any], state: str, text: str, reason: str) -> dict[str, Any]:
        record = self.save(record | {"state": state, "last_err": text, "dead_letter": reason})
        headers = {"aj-dlq-reason": reason, "aj-dlq-tries": str(record["tries"]), "aj-task-id": record["id"]}
        subject = f"CHORIA_AJ.DLQ.Q.{record['id']}"
        self.letters.append(Letter(subject, self.tick(), headers, self.revisions[-1].data))
        return record

    def tick(self) -> int:
        self.clock += STEP
        return self.clock

    def save(self, record: dict[str, Any]) -> dict[str, Any]:
        self.sequence += 1
        self.revisions.append(Revision(record["id"], self.sequence, self.tick(), json.dumps(record).encode()))
        self.events.append(Event(record["id"], self.tick(), record["state"], record["tries"]))
        return record

    def ask(self, record: dict[str, Any]) -> str:
        of = digest(self.revisions[-1].data)
        self.requests.append(Request(record["id"], self.tick(), "r1", record["tries"], of))
        return of

    def answer(self, record: dict[str, Any], of: str, kind: str, text: str) -> None:
        self.replies.append(Reply(record["id"], self.tick(), "r1", record["tries"], kind, text, of))

    def history(self) -> History:
        return History(
            plans=tuple(self.plans),
            acknowledged=frozenset(plan.task for plan in self.plans),
            revisions=tuple(self.revisions),
            letters=tuple(self.letters),
            requests=tuple(self.requests),
            replies=tuple(self.replies),
            cancels=tuple(self.cancels),
            events=tuple(self.events),
            faults=tuple(self.faults),
        )


KINDS = ("ok", "recover", "terminate", "fail", "busy", "deadline", *CANCELS)


def lived(seed: int, crashes: float = 0.0, each: int = 1) -> History:
    """A history with every kind of life."""
    model = Model(seed, crashes)
    for number in range(each):
        for kind in KINDS:
            model.live(f"{kind}{number}", kind)
    return model.history()
