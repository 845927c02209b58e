"""One wrong responder for each way to break a rule: the kit catches it, and names the rule."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit_world import against, failed

from ajc_bridge.conform import player
from ajc_bridge.conform.report import as_document, as_text
from ajc_bridge.conform.rules import BY_NAME, RULES, Level, rules_for

_AT_ONCE = 4
_MANY_AT_ONCE = 8

# a whole run at L1 is short: these fail so many rules and no other
REPLIES = {
    "subscribes too widely": {"EXEC-1"},
    "is in another group": {"EXEC-2"},
    "is in no group": {"EXEC-2"},
    "forgets base64": {f"EXEC-{number}" for number in (4, 5, 6, 7, 10, 11, 13, 14, 15, 16)},
    "refuses unknown keys": {"EXEC-4"},
    "cannot take null": {"EXEC-4", "EXEC-5", "EXEC-8"},
    "knows headers in one case": {"EXEC-5"},
    "takes a blank header": {"EXEC-5"},
    "refuses unknown headers": {"EXEC-6"},
    "runs any protocol": {"EXEC-7"},
    "does not name the protocol": {"EXEC-7"},
    "tells numbers as texts": {"EXEC-5", "EXEC-8"},
    "knows only the first try": {"EXEC-5", "EXEC-8"},
    "replies twice": {"EXEC-9"},
    "decodes as UTF-8": {"EXEC-10"},
    "trims results": {"EXEC-10"},
    "fails without text": {"EXEC-11", "EXEC-16"},
    "fails with a text of its own": {"EXEC-11", "EXEC-16"},
    "has no text for an accident": {"EXEC-12"},
    "says error for terminate": {"EXEC-13"},
    "says error for busy": {"EXEC-14", "EXEC-16"},
    "gives retry-after as a float": {"EXEC-15"},
    "gives retry-after in seconds": {"EXEC-15"},
    "gives retry-after in 32 bits": {"EXEC-15"},
    "gives no retry-after": {"EXEC-15"},
    "breaks lines in texts": {"EXEC-16"},
    "tells the first line only": {"EXEC-16"},
    "writes Latin-1": {"EXEC-16"},
    "cuts texts in a character": {"EXEC-16"},
    "does not serve later": {"EXEC-15"},
}

# what takes its time is tried for the rule alone, many at once: they mostly wait
TIMES = {
    "EXEC-19": ("does one thing at a time", "has a queue of its own"),
    "EXEC-20": ("replies too late", "does not serve slow"),
    "EXEC-21": ("ignores AJ-Timeout-Ms",),
    "EXEC-22": ("terminates at the deadline",),
    "EXEC-23": ("does not beat", "beats too rarely", "beats late"),
    "EXEC-24": ("blocks the beats", "does not beat"),
    "EXEC-25": ("beats after the reply", "beats unasked"),
    "EXEC-26": ("is given no time by beats", "goes past the task's deadline"),
    "EXEC-27": ("tells no progress", "tells progress as a text"),
    "EXEC-29": ("ignores cancel", "takes any cancel for its own", "beats after a cancel"),
    "EXEC-31": ("is no service", "has no metadata", "tells no concurrency", "names another group", "has no version"),
    "EXEC-32": ("counts no errors", "counts busy as an error", "counts twice", "is no service"),
    "EXEC-33": ("loses the trace", "makes a trace up"),
}

PLANTED_TIMES = [(rule, fault) for rule, faults in TIMES.items() for fault in faults]

# requests without a reply are waited for: less long here
SILENT = {
    "never replies": "EXEC-9",
    "does not reply to nothing": "EXEC-10",
    "does not answer an accident": "EXEC-12",
    "loses a place with each accident": "EXEC-12",
    "writes results as JSON": "EXEC-10",
    "says an error beside the result": "EXEC-10",
}


@pytest.fixture(autouse=True)
def less_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "BUSY_SECONDS", 3.0)


@pytest.mark.parametrize("first", range(0, len(REPLIES), _AT_ONCE))
async def test_a_wrong_reply_fails_its_rules_and_no_other(server: Any, first: int) -> None:
    faults = list(REPLIES)[first : first + _AT_ONCE]
    reports = await asyncio.gather(*(against(server.url, fault, "L1") for fault in faults))
    found = {fault: failed(report) for fault, report in zip(faults, reports, strict=True)}
    assert found == {fault: REPLIES[fault] for fault in faults}


@pytest.mark.parametrize("first", range(0, len(PLANTED_TIMES), _MANY_AT_ONCE))
async def test_a_fault_in_time_or_service_fails_its_rule(server: Any, first: int) -> None:
    planted = PLANTED_TIMES[first : first + _MANY_AT_ONCE]
    reports = await asyncio.gather(*(against(server.url, fault, "L3", rule) for rule, fault in planted))
    found = [(rule, fault) for (rule, fault), report in zip(planted, reports, strict=True) if failed(report) == {rule}]
    assert found == planted


@pytest.mark.parametrize("fault", SILENT)
async def test_a_silent_responder_fails_the_rule(server: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(player.Player.answered, "__kwdefaults__", {"busy": False, "seconds": 3.0})
    report = await against(server.url, fault, "L1", SILENT[fault])
    assert failed(report) == {SILENT[fault]}


async def test_what_failed_is_told_with_what_was_sent_expected_and_seen(server: Any) -> None:
    report = await against(server.url, "forgets base64", "L0", "EXEC-4")
    (verdict,) = report.verdicts
    assert "conform:echo" in verdict.sent
    assert "reader@example.net" in verdict.sent
    assert "the payload as it is" in verdict.expected
    assert "eyJ0by" in verdict.seen


async def test_a_type_that_nobody_serves_is_told_by_its_name(server: Any) -> None:
    report = await against(server.url, "does not serve later", "L1", "EXEC-15")
    assert report.verdicts[0].seen == "nobody serves conform:later (503)"


async def test_what_needs_a_command_says_so(server: Any) -> None:
    report = await against(server.url, "", "L3", "EXEC-34", "EXEC-35", "EXEC-36")
    assert {one.outcome for one in report.verdicts} == {"not applicable"}
    assert all("--start" in one.reason for one in report.verdicts)


async def test_what_is_not_served_fails_each_rule_that_needs_it(server: Any) -> None:
    rules = {rule.name for rule in RULES if rule.level in {Level.L1, Level.L2, Level.L3}}
    rules -= {"EXEC-5", "EXEC-7", "EXEC-18", "EXEC-31", "EXEC-34"}  # these need echo, a service, a command
    report = await against(server.url, "serves echo alone", "L3", *rules)
    assert failed(report) == rules
    assert all("nobody serves conform:" in one.seen for one in report.verdicts)


async def test_what_is_sent_without_end_is_counted_and_not_kept(server: Any) -> None:
    report = await against(server.url, "floods", "L0", "EXEC-9", "EXEC-10")
    assert "EXEC-9" in failed(report)
    assert report.unkept > 3_000
    assert f"{report.unkept:,} messages of the responder were counted only" in as_text(report)
    assert as_document(report)["messages_not_kept"] == report.unkept


async def test_a_few_large_replies_are_no_more_kept_than_many_small_ones(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player, "BYTES_KEPT", 100)
    report = await against(server.url, "replies twice", "L0", "EXEC-9", "EXEC-10")
    assert failed(report) == {"EXEC-9"}  # six bodies of a few bytes
    assert report.unkept > 0  # 256 bytes and more


async def test_two_right_responders_do_not_disturb_each_other(server: Any) -> None:
    async with asyncio.TaskGroup() as group:
        reports = [group.create_task(against(server.url, "", "L1")) for _ in range(2)]
    assert [failed(report.result()) for report in reports] == [set(), set()]


async def test_a_recommendation_that_is_not_followed_is_a_note(server: Any) -> None:
    report = await against(server.url, "does not cut texts", "L1", "EXEC-16")
    (verdict,) = report.verdicts
    assert verdict.outcome == "passed"
    assert "should be cut to 4,096" in verdict.note


def test_every_rule_of_a_responder_has_a_planted_fault() -> None:
    # EXEC-18 cannot be tried; what needs a command is in test_life.py
    planted = set().union(*REPLIES.values(), TIMES, SILENT.values())
    assert planted == {rule.name for rule in rules_for(Level.L3)} - {"EXEC-18", "EXEC-34", "EXEC-35", "EXEC-36"}
    assert planted <= set(BY_NAME)
