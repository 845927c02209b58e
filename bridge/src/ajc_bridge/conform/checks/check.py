"""A check, and the list in which a module keeps its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from ajc_bridge.conform.player import Player
from ajc_bridge.conform.rules import BY_NAME, Rule

Run = Callable[[Player], Awaitable[str | None]]
When = Literal["together", "alone", "last"]


class Check(msgspec.Struct, frozen=True):
    """One thing that is tried for a rule.

    `when`: together with the others of its level, alone since others would disturb it, or last, over all that was seen.
    """

    rule: Rule
    run: Run
    when: When


async def together(*work: Awaitable[Any]) -> None:
    """Do all of it at once and to its end. The first in the list that failed is told: always the same one."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


class Checks:
    """The checks of one module."""

    def __init__(self) -> None:
        self.found: list[Check] = []

    def of(self, rule: str, when: When = "together") -> Callable[[Run], Run]:
        """Register the decorated function as a check of this rule."""

        def register(run: Run) -> Run:
            self.found.append(Check(BY_NAME[rule], run, when))
            return run

        return register
