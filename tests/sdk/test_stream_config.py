"""Configurations as pure values, against those recorded from the Go implementation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk_world import vectors

from ajc.queue import Queue
from ajc.stored_queue import differences, read_queue_info
from ajc.stream_config import (
    dead_letter_stream,
    delay_stream,
    has_delayed_items,
    queue_consumer_config,
    queue_stream_config,
    task_store,
    with_consumer_settings,
    with_delayed_items,
    with_direct_reads,
    with_queue_settings,
)

QUEUES = [case for case in vectors("streams.json") if case["kind"] == "queue" and "stream" in case]
SECOND = 1_000_000_000


def go_queue(name: str = "queue_everything") -> Any:
    case = next(case for case in QUEUES if case["name"] == name)
    return read_queue_info({"config": case["stream"]}, {"config": case["consumer"]})


@pytest.mark.parametrize("case", QUEUES, ids=[case["name"] for case in QUEUES])
def test_a_queue_made_by_go_is_read_as_go_reads_it(case: dict[str, Any]) -> None:
    reads = case.get("bind_reads") or case["after_create"]
    info = read_queue_info({"config": case["stream"]}, {"config": case["consumer"]})
    assert info.name == reads["name"]
    assert info.max_age_ns == reads["max_age_ns"]
    assert (info.max_entries or -1) == reads["max_entries"]
    assert (info.when_full == "discard_old") == reads["discard_old"]
    assert (info.max_tries or -1) == reads["max_tries"]
    assert info.max_run_time_ns == info.lease_ns == reads["max_runtime_ns"]
    assert info.max_concurrent == reads["max_concurrent"]
    assert not info.renews
    assert (info.priority, info.backoff, info.paused) == (10, "default", False)


def test_what_jetstream_has_no_place_for_is_metadata() -> None:
    queue = Queue("Q", max_run_time=600, max_tries=5, priority=7, backoff="1m", paused=True, lease=20)
    stream, consumer = queue_stream_config(queue), queue_consumer_config(queue)
    assert stream["metadata"] == {
        "ajc.max_run_time": "10m",
        "ajc.max_tries": "5",
        "ajc.priority": "7",
        "ajc.backoff": "1m",
        "ajc.paused": "true",
    }
    assert consumer["max_deliver"] == -1
    info = read_queue_info({"config": stream}, {"config": consumer})
    assert (info.max_run_time_ns, info.lease_ns, info.renews) == (600 * SECOND, 20 * SECOND, True)
    assert (info.max_tries, info.priority, info.backoff, info.paused) == (5, 7, "1m", True)
    assert differences(info, queue) == ()


@pytest.mark.parametrize(
    ("settings", "lease", "run_time"),
    [({}, 30, 3600), ({"max_run_time": 10}, 10, 10), ({"max_run_time": 90}, 30, 90), ({"lease": 5}, 5, 3600)],
)
def test_the_lease_is_half_a_minute_or_the_run_time(settings: dict[str, Any], lease: int, run_time: int) -> None:
    queue = Queue("Q", **settings)
    info = read_queue_info({"config": queue_stream_config(queue)}, {"config": queue_consumer_config(queue)})
    assert (info.lease_ns, info.max_run_time_ns) == (lease * SECOND, run_time * SECOND)


@pytest.mark.parametrize(
    "metadata",
    [
        {
            "ajc.max_run_time": "soon",
            "ajc.max_tries": "x",
            "ajc.priority": "1000",
            "ajc.paused": "yes",
            "ajc.backoff": "",
        },
        {},
    ],
)
def test_metadata_that_cannot_be_read_counts_as_absent(metadata: dict[str, str]) -> None:
    config = {"name": "CHORIA_AJ_Q_Q", "metadata": metadata}
    info = read_queue_info({"config": config}, {"config": {"ack_wait": SECOND}})
    assert (info.max_run_time_ns, info.max_tries, info.priority, info.paused) == (SECOND, 0, 10, False)
    assert (info.backoff, info.renews) == ("default", False)


def test_the_smaller_limit_of_tries_counts() -> None:
    def tries(metadata: str, max_deliver: int) -> int:
        config = {"name": "CHORIA_AJ_Q_Q", "metadata": {"ajc.max_tries": metadata}}
        return read_queue_info({"config": config}, {"config": {"max_deliver": max_deliver}}).max_tries

    assert (tries("5", -1), tries("5", 3), tries("2", 3), tries("0", 3), tries("0", -1)) == (5, 3, 2, 3, 0)


def test_a_change_touches_its_field_alone() -> None:
    info = go_queue()
    stream = with_queue_settings(info.stream_config, Queue("EMAIL", priority=50))
    assert {key: value for key, value in stream.items() if key != "metadata"} == {
        key: value for key, value in info.stream_config.items() if key != "metadata"
    }
    assert stream["metadata"] == {**info.stream_config["metadata"], "ajc.priority": "50"}
    assert with_consumer_settings(info.consumer_config, Queue("EMAIL", max_concurrent=3)) == {
        **info.consumer_config,
        "max_ack_pending": 3,
    }


def test_a_short_age_shortens_the_window_of_duplicates() -> None:
    assert queue_stream_config(Queue("Q", max_age=60))["duplicate_window"] == 60 * SECOND
    assert queue_stream_config(Queue("Q", max_age=3600))["duplicate_window"] == 120 * SECOND
    assert (
        with_queue_settings({"duplicate_window": 5 * SECOND}, Queue("Q", max_age=3600))["duplicate_window"]
        == 5 * SECOND
    )


def test_delayed_items_are_added_once_and_beside_other_sources() -> None:
    other = {"name": "OTHER"}
    config = with_delayed_items({"sources": [other]}, "Q")
    assert config["sources"] == [
        other,
        {
            "name": "CHORIA_AJ_DELAY",
            "subject_transforms": [{"src": "CHORIA_AJ.D.F.Q.*", "dest": "CHORIA_AJ.Q.Q.{{wildcard(1)}}"}],
        },
    ]
    assert has_delayed_items(config, "Q")
    assert not has_delayed_items(config, "R")
    assert with_delayed_items(config, "Q") == config


def test_the_stores() -> None:
    assert task_store(max_age_ns=SECOND)["allow_direct"] is True
    assert with_direct_reads({"a": 1}, msg_ttl=False) == {"a": 1, "allow_direct": True}
    assert with_direct_reads({}, msg_ttl=True) == {"allow_direct": True, "allow_msg_ttl": True}
    delay = delay_stream()
    assert (delay["retention"], delay["max_msgs_per_subject"], delay["allow_msg_schedules"]) == ("workqueue", 1, True)
    letters = dead_letter_stream(max_entries=0, max_age_ns=0)
    assert (letters["max_msgs"], letters["max_age"], letters["discard"], letters["retention"]) == (
        -1,
        0,
        "old",
        "limits",
    )


def test_differences_name_what_was_given_and_is_another() -> None:
    info = go_queue()
    asked = Queue("EMAIL", max_tries=20, max_run_time=90, max_concurrent=1, max_age=0, when_full="reject", priority=1)
    found = {change.field: (change.before, change.after) for change in differences(info, asked)}
    assert found == {
        "max_concurrent": ("50", "1"),
        "max_age": ("24h", "none"),
        "when_full": ("discard_old", "reject"),
        "priority": ("10", "1"),
    }


def test_the_servers_own_cap_is_no_difference_once_the_setting_is_made() -> None:
    there = queue_consumer_config(Queue("Q")) | {"max_deliver": 5}
    made = queue_stream_config(Queue("Q"))
    capped = read_queue_info({"config": made}, {"config": there})
    assert differences(capped, Queue("Q", max_tries=5)) == ()
    assert [change.before for change in differences(capped, Queue("Q", max_tries=10))] == ["5"]
    applied = read_queue_info({"config": with_queue_settings(made, Queue("Q", max_tries=10))}, {"config": there})
    assert applied.max_tries == 5
    assert differences(applied, Queue("Q", max_tries=10)) == ()


def test_a_queue_is_read_whose_times_are_shorter_than_any_that_can_be_asked_for() -> None:
    made, there = queue_stream_config(Queue("Q")), queue_consumer_config(Queue("Q"))
    made["metadata"]["ajc.max_run_time"] = "2ms"
    info = read_queue_info({"config": made}, {"config": there | {"ack_wait": SECOND // 1000}})
    assert (info.lease_ns, info.max_run_time_ns) == (SECOND // 1000, SECOND // 500)
    changes = differences(info, Queue("Q", lease=1))
    assert [(change.field, change.before, change.after) for change in changes] == [("lease", "1ms", "1s")]


@given(
    st.builds(
        Queue,
        st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
        max_tries=st.none() | st.integers(0, 2**31 - 1),
        max_run_time=st.none() | st.timedeltas(timedelta(seconds=30), timedelta(days=300)),
        lease=st.none() | st.timedeltas(timedelta(milliseconds=100), timedelta(seconds=30)),
        max_concurrent=st.none() | st.just(-1) | st.integers(1, 2**31 - 1),
        max_entries=st.none() | st.integers(0, 2**63 - 1),
        when_full=st.none() | st.sampled_from(["reject", "discard_old"]),
        max_age=st.none() | st.just(0) | st.timedeltas(timedelta(seconds=1), timedelta(days=3000)),
        priority=st.none() | st.integers(1, 100),
        backoff=st.none() | st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
        paused=st.none() | st.booleans(),
        storage=st.none() | st.sampled_from(["file", "memory"]),
        replicas=st.none() | st.integers(1, 5),
    )
)
def test_what_is_written_is_read_back(queue: Queue) -> None:
    stream, consumer = queue_stream_config(queue), queue_consumer_config(queue)
    info = read_queue_info({"config": stream}, {"config": consumer})
    assert differences(info, queue) == ()
    assert info.name == queue.name
    assert with_queue_settings(stream, queue) == stream
    assert with_consumer_settings(consumer, queue) == consumer
