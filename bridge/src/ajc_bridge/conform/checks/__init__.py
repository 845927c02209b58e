"""What is tried: a module for each matter, those of one level beside each other.

Each check is for one rule. It returns None or a note, or raises `Broken` or `NotApplicable`.
"""

from __future__ import annotations

from ajc_bridge.conform.checks import beats, failures, requests, service, subscriptions, times
from ajc_bridge.conform.checks.check import Check

CHECKS: tuple[Check, ...] = tuple(
    each for module in (subscriptions, requests, failures, beats, service, times) for each in module.CHECKS.found
)
