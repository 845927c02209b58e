"""How long to wait before the next try.

Go's named policies keep Go's formula (interval i = from + i*(to-from)/steps; delay = interval*jitter + r, where
0 <= r < interval, to the millisecond; try n takes interval n, so interval 0 is never used). Own policies draw evenly
from step*(1-j) to step*(1+j). The chance in both is a hash of (task id, tries): the same decision, made again, gives
the same delay, and tasks that failed together still come back apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType

from msgspec import Struct

from ajc.duration import HOUR, MILLISECOND, MINUTE, SECOND

_PERMILLE = 1_000
_HASH_BITS = 64


class Backoff(Struct, frozen=True):
    """Delays in nanoseconds, one a try, the last one for every try beyond. `jitter` is a share of a step, 0 to 1."""

    name: str
    steps_ns: tuple[int, ...]
    jitter: float = 0.0
    go: bool = False

    def delay_ns(self, task_id: str, tries: int) -> int:
        """Give the nanoseconds until the next try, after `tries` counted ones (from 1; anything less counts as 1)."""
        step = self.step_ns(tries)
        if self.go:
            return _to_ms(step * _permille(self.jitter) // _PERMILLE + chance(task_id, tries, step))
        spread = step * _permille(self.jitter) // _PERMILLE
        return step - spread + chance(task_id, tries, 2 * spread + 1)

    def step_ns(self, tries: int) -> int:
        """Give the step before jitter, in nanoseconds."""
        index = max(tries, 1) - (0 if self.go else 1)
        return self.steps_ns[min(index, len(self.steps_ns) - 1)]


def go_bounds(backoff: Backoff, tries: int) -> tuple[int, int]:
    """Give the least and the greatest delay, in nanoseconds, that Go's formula allows after `tries` tries."""
    step = backoff.step_ns(tries)
    base = step * _permille(backoff.jitter) // _PERMILLE
    return _to_ms(base), _to_ms(base + step - 1)


def _permille(share: float) -> int:
    """Turn a share into an integer: the formulas below are exact."""
    return round(share * _PERMILLE)


def chance(task_id: str, which: int, below: int) -> int:
    """Draw evenly from 0 to below - 1, always the same number for a task's draw with this number: its try, its wait."""
    digest = blake2b(b"%b:%d" % (task_id.encode("utf-8", "surrogatepass"), which), digest_size=_HASH_BITS // 8).digest()
    return int.from_bytes(digest, "big") * below >> _HASH_BITS


def _to_ms(ns: int) -> int:
    """Round to the millisecond, half away from zero, as Go does."""
    return (ns + MILLISECOND // 2) // MILLISECOND * MILLISECOND


def _go(name: str, steps: int, first_ns: int, last_ns: int, jitter: float) -> Backoff:
    grow = (last_ns - first_ns) // steps
    return Backoff(name, tuple(first_ns + i * grow for i in range(steps)), jitter, go=True)


NAMED_BACKOFFS: Mapping[str, Backoff] = MappingProxyType(
    {
        "default": _go("default", 50, MINUTE, 10 * MINUTE, 0.9),
        "10m": _go("10m", 50, MINUTE, 10 * MINUTE, 0.9),
        "1h": _go("1h", 20, 10 * MINUTE, HOUR, 0.9),
        "1m": _go("1m", 20, SECOND, MINUTE, 0.5),
    },
)
"""The policies every Go worker knows, by the names it gives them."""
