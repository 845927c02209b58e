"""When queues are tidied up: again after a look that got no answer, and not where the right is missing."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from ajc.errors import NotPermitted, RequestTimeout
from ajc_bridge.happenings import RemainsCleared, Trouble
from ajc_bridge.jetstream import tidying
from ajc_bridge.jetstream.tidying import Tidying


class Notes:
    def __init__(self) -> None:
        self.all: list[Any] = []

    def note(self, detail: Any) -> None:
        self.all.append(detail)


async def test_a_queue_without_the_right_is_told_once_until_the_next_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: Counter[str] = Counter()
    looked = asyncio.Condition()

    class Remains:
        def __init__(self, _connection: Any, queue: str) -> None:
            self.queue = queue

        async def clear(self) -> int:
            async with looked:
                looks[self.queue] += 1
                looked.notify_all()
            if self.queue == "FORBIDDEN":
                raise NotPermitted("$JS.API.CONSUMER.LIST.CHORIA_AJ_DELAY")
            if looks[self.queue] < 4:
                raise RequestTimeout("x", 1)
            return 7

    monkeypatch.setattr(tidying, "Remains", Remains)
    monkeypatch.setattr(tidying, "TIDY_SECONDS", 0.001)
    notes = Notes()
    connection: Any = None
    queues: Any = [SimpleNamespace(name="FORBIDDEN"), SimpleNamespace(name="SILENT")]
    tidies = Tidying(connection, notes, lambda: queues)
    running = asyncio.create_task(tidies.run())
    async with looked:
        await looked.wait_for(lambda: looks["SILENT"] == 4)
    assert looks["FORBIDDEN"] == 1
    tidies.reconnected()
    async with looked:
        await looked.wait_for(lambda: looks["SILENT"] == 5)
    running.cancel()
    assert looks["FORBIDDEN"] == 2
    troubles = [detail for detail in notes.all if isinstance(detail, Trouble)]
    assert [detail.where for detail in troubles] == ["queue FORBIDDEN"] * 2
    assert "no permission to publish on $JS.API.CONSUMER.LIST.CHORIA_AJ_DELAY" in troubles[0].text
    assert RemainsCleared("SILENT", 7) in notes.all
