"""Where details are noted: one table lookup, then the sinks that want this kind. A sink never stops the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ajc_bridge.happenings import Detail, Trouble

Handler = Callable[[Any], None]


class Sink(Protocol):
    """Takes up some kinds of details."""

    def handlers(self) -> Mapping[type[Detail], Handler]:
        """Return what to call for which kind; asked again after `Journal.rewire`."""
        ...


class Journal:
    """Hands each detail to the sinks that want its kind, in the order of the sinks."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._sinks = tuple(sinks)
        self._table: dict[type, tuple[Handler, ...]] = {}
        self._failing = False
        self.rewire()

    def rewire(self) -> None:
        """Ask the sinks again what they want: call it after a change of their settings (the log level)."""
        table: dict[type, list[Handler]] = {}
        for sink in self._sinks:
            for kind, handle in sink.handlers().items():
                table.setdefault(kind, []).append(handle)
        self._table = {kind: tuple(handlers) for kind, handlers in table.items()}

    def note(self, detail: Detail) -> None:
        """Something happened. Cheap when nobody wants it; never raises."""
        handlers = self._table.get(detail.__class__)
        if handlers is None:
            return
        for handle in handlers:
            try:
                handle(detail)
            except Exception as error:  # noqa: BLE001 - a sink's fault must not end the attempt that it reports
                self._trouble(detail, error)

    def _trouble(self, detail: Detail, error: Exception) -> None:
        if self._failing:  # the sink that fails may be the one that would tell
            return
        self._failing = True
        try:
            self.note(Trouble(f"journal:{detail.action}", f"{type(error).__name__}: {error}"))
        finally:
            self._failing = False
