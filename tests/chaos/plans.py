"""What the producer of a chaos run asks for: a mix in which every outcome of the table has its share."""

from __future__ import annotations

import random
import time
from typing import Any

from msgspec import Struct

from chaos.history import Plan

MIX = {
    "ok": 30,
    "recover": 15,
    "terminate": 10,
    "fail": 10,
    "busy": 8,
    "slow": 10,
    "overrun": 3,
    "late": 6,
    "deadline": 4,
    "nobody": 4,
}
"""Weights. `late` has no responder for a while, `nobody` never."""
SERVED = ("ok", "recover", "terminate", "fail", "busy", "slow", "overrun", "deadline")
CANCELLED = 0.15
"""The share of tasks that are cancelled, whatever they do."""
REASON = "as told"
PLENTY = 50
"""More tries than a run's crashes can use up."""


class Order(Struct, frozen=True):
    """One task to enqueue; `seconds` is its deadline from now, None for none.

    `cancel`: it is cancelled so many seconds after it was acknowledged; None: never.
    """

    type: str
    payload: dict[str, Any]
    max_tries: int
    seconds: float | None
    cancel: float | None = None

    def plan(self, task: str, now_ns: int | None = None) -> Plan:
        """What must come of it, once it has an id (and its deadline an instant)."""
        does = self.payload["do"]
        ends = {"terminate": "terminated", "fail": "expired", "deadline": "expired", "nobody": "expired"}.get(
            does, "complete"
        )
        tries = {"terminate": 1, "fail": self.max_tries, "recover": self.payload.get("fails", 0) + 1, "overrun": 2,
                 "deadline": None, "nobody": 0}.get(does, 1)  # fmt: skip
        deadline = None
        if self.seconds is not None:
            deadline = (time.time_ns() if now_ns is None else now_ns) + int(self.seconds * 1e9)
        if self.cancel is not None:
            return Plan(task, does, self.max_tries, frozenset({ends, "terminated"}), None, deadline, cancel=True)
        return Plan(task, does, self.max_tries, frozenset({ends}), tries, deadline)


def next_order(chance: random.Random, run_time: float) -> Order:
    """Draw one. `run_time`: seconds that an attempt may take."""
    does = chance.choices(list(MIX), list(MIX.values()))[0]
    payload: dict[str, Any] = {"do": does, "salt": chance.randrange(10**9)}
    tries, seconds = PLENTY, None
    if does == "recover":
        payload["fails"] = chance.randint(1, 3)
    elif does == "fail":
        tries = chance.randint(1, 3)
    elif does == "slow":
        payload["seconds"] = round(chance.uniform(0.05, run_time * 0.6), 3)
    elif does == "overrun":
        payload["seconds"] = run_time * 1.5
    elif does in ("deadline", "nobody"):
        seconds = round(chance.uniform(1.5, 4), 3)
        tries = 1000
    cancel = round(chance.uniform(0, 1.5 * run_time), 3) if chance.random() < CANCELLED else None
    return Order(f"chaos-{does}", payload, tries, seconds, cancel)
