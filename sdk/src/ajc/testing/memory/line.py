"""The line to the server: how long a call takes, and what goes wrong on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ajc.errors import Unavailable


class _Fault:
    """Calls of one kind fail: `times` of them, for ever when None."""

    def __init__(self, error: BaseException, times: int | None, *, landed: bool) -> None:
        self.error = error
        self.times = times
        self.landed = landed


class Line:
    """Every call that waits crosses it: there and, when it was acted upon, back.

    Calls have the names that are in `calls`: `store.load`, `store.load_leader`, `store.save`, `store.discard`,
    `queue.pull`, `queue.renew`, `delay.schedule`, `delay.forget`, `letters.publish`, `exchange.request`, `census.…`,
    `scan.next`. Those that do not wait (`queue.ack`, `queue.nak`) are in `calls` when they were sent.
    """

    def __init__(self) -> None:
        self.latency: float | Callable[[str], float] = 0.0
        """Seconds from a call to its effect, perhaps by the call's name; 0 is one turn of the loop."""
        self.calls: list[tuple[str, str]] = []
        """Every call that was sent, in order: its name, and whom it was about."""
        self.up = True
        self._faults: dict[str, list[_Fault]] = {}

    def fail(
        self, call: str, error: BaseException | None = None, *, times: int | None = 1, landed: bool = False
    ) -> None:
        """Let the next `times` calls of this name fail (None: all of them), behind the faults that are planned already.

        `landed`: the call takes effect all the same, and only its answer is lost. No `error` means `Unavailable`.
        """
        fault = _Fault(error if error is not None else Unavailable(f"{call}: planned"), times, landed=landed)
        self._faults.setdefault(call, []).append(fault)

    def heal(self, call: str | None = None) -> None:
        """Forget the planned faults: of one call, or of all."""
        if call is None:
            self._faults.clear()
        else:
            self._faults.pop(call, None)

    def names(self, *only: str) -> list[str]:
        """Return the names of all calls so far, or of those named."""
        return [name for name, _ in self.calls if not only or name in only]

    async def cross(self, call: str, key: str) -> BaseException | None:
        """Bring a call to the server, or raise; what is returned is raised once the call has taken effect."""
        latency = self.latency(call) if callable(self.latency) else self.latency
        self.calls.append((call, key))
        await asyncio.sleep(latency)
        if not self.up:
            raise Unavailable(f"{call}: no server")
        planned = self._faults.get(call)
        if not planned:
            return None
        fault = planned[0]
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                planned.pop(0)
        if not fault.landed:
            raise fault.error
        return fault.error

    def send(self, call: str, key: str) -> bool:
        """Note a call that nobody waits for; False when it is lost."""
        if not self.up:
            return False
        self.calls.append((call, key))
        return True
