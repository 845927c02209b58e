"""The golden vectors of replies, sent as bytes to a real bridge: what becomes of the task, and what was asked."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bridge_process import until
from jsonschema import Draft202012Validator
from outside import SECOND, Event, World
from scripted_responder import Reply

PROTOCOL = Path(__file__).parent.parent.parent / "docs" / "protocol"
CASES: list[dict[str, Any]] = json.loads((PROTOCOL / "vectors" / "replies.json").read_text())["cases"]
TASK = Draft202012Validator(json.loads((PROTOCOL / "task.schema.json").read_text()))
TOLD_FROM_MS = 60_000  # shorter delays are over before a test has looked


def reply_of(case: dict[str, Any]) -> Reply:
    block = case["header_block_base64"]
    return Reply(base64.b64decode(case["body_base64"]), None if block is None else base64.b64decode(block))


def after_attempt(world: World, task_id: str) -> Event | None:
    """The first event after the task became active."""
    events = world.events(task_id)
    return events[1] if len(events) > 1 else None


@pytest.mark.rule("EXEC-5")
@pytest.mark.rule("EXEC-11")
@pytest.mark.rule("EXEC-15")
@pytest.mark.rule("EXEC-17")
@pytest.mark.rule("EXEC-38")
async def test_each_reply_does_what_its_vector_says(either_site, kind):
    async with either_site.world() as world:
        ignored = world.bridge.metric("ajc_bridge_retry_after_ignored_total")
        asked, tasks = [], {}
        for number, case in enumerate(CASES):
            asked.append(await world.serve(f"{kind}-{number}", [reply_of(case), None]))
        for number, case in enumerate(CASES):
            if case["means"]["kind"] == "busy" and case["means"]["retry_after_ms"] is None:
                asked[number]._replies[1] = reply_of(case)  # asked again: the same answer
            tasks[number] = await world.run(f"{kind}-{number}", queue="SLOW", max_tries=5)
        for number, case in enumerate(CASES):
            task = tasks[number]
            await until(partial(after_attempt, world, task.id), 30, f"{case['name']}: nothing came of it")
            event, wanted = after_attempt(world, task.id), case["task"]
            said = (wanted["last_err"] or "").replace("<type>", f"{kind}-{number}")
            assert (event.state, event.tries) == (wanted["state"], wanted["tries"]), case["name"]
            assert event.last_error == said, case["name"]
            if wanted["state"] == "complete":
                assert (await world.load(task.id)).result.data == base64.b64decode(wanted["result_base64"]), case[
                    "name"
                ]
            delay_ms = case["means"]["retry_after_ms"]
            if delay_ms is not None and delay_ms >= TOLD_FROM_MS and wanted["state"] != "terminated":
                schedule = await world.until_schedule("SLOW", task.id)
                assert abs(schedule.at - task.created - delay_ms * 1_000_000) < 40 * SECOND, case["name"]
            for request in asked[number].requests:
                TASK.validate(json.loads(request.body))
        bad = sum(case["means"]["retry_after_ignored"] for case in CASES)
        await world.until_metric("ajc_bridge_retry_after_ignored_total", ignored + bad)
