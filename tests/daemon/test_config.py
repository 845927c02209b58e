"""The configuration: layers, types, bounds, and every fault one line with the key's path."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajc_bridge.config import Config, ConfigError, changed_keys, load_config, restart_needed
from ajc_bridge.config.load import UnknownVariable, leaves

SECOND = 1_000_000_000


def faults(tmp_path: Path, text: str, **overrides: object) -> list[str]:
    file = tmp_path / "ajc-bridge.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides, {})
    return caught.value.lines


def test_without_a_file_everything_has_its_default(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {}, {})
    assert config == Config()
    assert config.bridge.concurrency == 200
    assert config.bridge.drain == 30 * SECOND
    assert config.exec.prefix == "ajc.exec"
    assert config.http.listen == "127.0.0.1:8088"
    assert config.dlq.max_age == 30 * 86_400 * SECOND
    assert config.dlq.max_entries == 100_000
    assert config.queues == {}


def test_the_file_of_the_specification_is_read_whole(tmp_path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("""
[nats]
context = "WQ"
[exec]
prefix = "CHORIA_AJ.H.T"
catchall = true
[bridge]
name = "b1"
concurrency = 20
drain = "1m"
create = false
[queues.EMAIL]
priority = 10
max_tries = 5
max_run_time = "10m"
lease = "30s"
max_concurrent = 100
max_entries = 10000
when_full = "discard_old"
max_age = "7d"
backoff = "mine"
[backoff.mine]
steps = ["1s", "10s", "1m"]
jitter = 0.5
[retention]
complete = "1h"
discard = ["expired"]
[dlq]
max_age = "30d"
max_entries = 100000
[http]
listen = "off"
[log]
format = "json"
level = "debug"
""")
    config = load_config(file, {}, {})
    email = config.queues["EMAIL"]
    assert (email.priority, email.max_run_time, email.lease, email.max_age) == (
        10,
        600 * SECOND,
        30 * SECOND,
        7 * 86_400 * SECOND,
    )
    assert config.backoff["mine"].steps == [SECOND, 10 * SECOND, 60 * SECOND]
    assert config.retention.ttl_ns() == {"complete": 3_600 * SECOND, "expired": 0}
    assert (config.nats.context, config.exec.catchall, config.bridge.create) == ("WQ", True, False)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[queues.EMAIL]\npriority = 500", "queues.EMAIL.priority: must be 1 to 100, not 500"),
        ("[queues.EMAIL]\npriority = 0", "queues.EMAIL.priority: must be 1 to 100, not 0"),
        ("[queues.EMAIL]\nmax_tries = '7'", 'queues.EMAIL.max_tries: must be a whole number, not "7"'),
        ("[queues.EMAIL]\nmax_tries = -1", "queues.EMAIL.max_tries: must be 1 or more, or 0 for no limit, not -1"),
        (
            "[queues.EMAIL]\nmax_concurrent = 0",
            "queues.EMAIL.max_concurrent: must be 1 or more, or -1 for no limit, not 0",
        ),
        ("[queues.EMAIL]\nlease = 30", 'queues.EMAIL.lease: must be a duration like "30s", "1h30m" or "7d", not 30'),
        (
            "[queues.EMAIL]\nlease = '30'",
            'queues.EMAIL.lease: must be a duration like "30s", "1h30m" or "7d", not "30"',
        ),
        ("[queues.EMAIL]\nlease = '1ms'", "queues.EMAIL.lease: must be at least 100ms, not 1ms"),
        ("[queues.EMAIL]\nmax_age = '1ns'", "queues.EMAIL.max_age: must be 0s or at least 100ms, not 1ns"),
        ("[queues.EMAIL]\nmax_age = '-1s'", "queues.EMAIL.max_age: must be 0s or at least 100ms, not -1s"),
        ("[dlq]\nmax_age = '99ms'", "dlq.max_age: must be 0s or at least 100ms, not 99ms"),
        ("[queues.E]\nlease = '1h'\nmax_run_time = '1m'", "queues.E: lease must not be longer than max_run_time"),
        ("[queues.EMAIL]\nwhen_full = 'wait'", 'queues.EMAIL.when_full: must be "reject" or "discard_old", not "wait"'),
        ("[queues.EMAIL]\npriorty = 3", "queues.EMAIL.priorty: unknown key; did you mean priority?"),
        (
            "[queues.EMAIL]\nbackoff = 'x'",
            'queues.EMAIL.backoff: there is no policy "x"; there are default, 1m, 10m, 1h',
        ),
        ("[queues.'A B']", 'queues."A B": a queue\'s name must match [A-Za-z0-9_-]{1,128}, not "A B"'),
        ("[queues.'A:B']", 'queues."A:B": a queue\'s name must match [A-Za-z0-9_-]{1,128}, not "A:B"'),
        ("queues = 3", "queues: must be a table, not 3"),
        ("[backoff.mine]", "backoff.mine.steps: is missing"),
        ("[backoff.mine]\nsteps = []", "backoff.mine.steps: must not be empty"),
        (
            "[backoff.mine]\nsteps = ['1s', 4]",
            'backoff.mine.steps[1]: must be a duration like "30s", "1h30m" or "7d", not 4',
        ),
        ("[backoff.mine]\nsteps = ['1s']\njitter = 2", "backoff.mine.jitter: must be 0 to 1, not 2.0"),
        ("[backoff.1m]\nsteps = ['1s']", "backoff.1m: is built in; choose another name"),
        ("[retention]\ncomplete = '1ms'", "retention.complete: must be at least 1s, not 1ms"),
        (
            "[retention]\ncomplete = '1h'\ndiscard = ['complete']",
            "retention: complete is in discard and has a time to be kept: remove one of them",
        ),
        ("[bridge]\nconcurrency = true", "bridge.concurrency: must be a whole number, not true"),
        ("[bridge]\nconcurrency = 1.5", "bridge.concurrency: must be a whole number, not 1.5"),
        ("[bridge]\ncreate = 'no'", 'bridge.create: must be true or false, not "no"'),
        ("[bridge]\nname = 'a.b'", 'bridge.name: a bridge\'s name must match [A-Za-z0-9_-]{1,128}, not "a.b"'),
        (
            "[exec]\nprefix = 'CHORIA_AJ.Q.EMAIL'",
            "exec.prefix: must not be under CHORIA_AJ.Q, which is not for requests: something else answers there",
        ),
        (
            "[exec]\nprefix = 'a.*'",
            'exec.prefix: must be dot-separated tokens without blanks, $ and wildcards, not "a.*"',
        ),
        (
            "[exec.routes]\n'a:b' = 'x y'",
            'exec.routes."a:b": must be dot-separated tokens without blanks, $ and wildcards, not "x y"',
        ),
        ("[exec.routes]\n'a.b' = 'x'", 'exec.routes."a.b": a task type must match [A-Za-z0-9_:-]{1,128}, not "a.b"'),
        ("[exec.routes]\ncatchall = 'x'", "exec.routes.catchall: catchall is no type of a task's own"),
        ("[exec]\nroutes = 'x'", 'exec.routes: must be a table, not "x"'),
        ("[http]\nlisten = '8088'", 'http.listen: must be "host:port" or "off", not "8088"'),
        ("[http]\nlisten = 'localhost:99999'", "http.listen: the port must be 0 to 65535, not 99999"),
        ("[log]\nlevel = 'loud'", 'log.level: must be "debug", "info", "warn" or "error", not "loud"'),
        ("[nats]\nurl = 'a'\ncontext = 'b'", "nats: set url or context, not both"),
        ("[nats.tls]\ncert = 'a'", "nats.tls: cert and key belong together: set both or none"),
        ("[nats]\npassword = 123", "nats.password: must be text"),
        ("[job]\nx = 1", "job: unknown key; there are nats, exec, bridge, queues, backoff, retention, dlq, http, log"),
    ],
)
def test_a_fault_is_one_line_with_the_keys_path(tmp_path, text, line) -> None:
    assert faults(tmp_path, text) == [line]


@pytest.mark.parametrize("age", ["0s", "100ms"])
def test_an_age_is_none_or_one_that_the_server_takes(tmp_path, age) -> None:
    file = tmp_path / "ajc-bridge.toml"
    file.write_text(f"[queues.EMAIL]\nmax_age = '{age}'\n[dlq]\nmax_age = '{age}'")
    config = load_config(file, {}, {})
    assert config.queues["EMAIL"].max_age == config.dlq.max_age == (0 if age == "0s" else SECOND // 10)


def test_all_faults_are_told_at_once(tmp_path) -> None:
    lines = faults(tmp_path, "[queues.A]\npriority = 0\nlease = 3\n[log]\nlevel = 'x'\n[nope]\n")
    assert [line.split(":")[0] for line in lines] == ["queues.A.priority", "queues.A.lease", "log.level", "nope"]


def test_faults_between_keys_are_told_beside_those_of_a_key(tmp_path) -> None:
    text = """
    [nats]
    url = "nats://a"
    password = "p"
    [queues.A]
    priority = 500
    lease = "1h"
    max_run_time = "1m"
    backoff = "nope"
    [queues.B]
    backoff = "mine"
    [backoff.mine]
    jitter = 0.1
    [retention]
    complete = "1h"
    discard = ["complete", "x"]
    """
    lines = faults(tmp_path, text, **{"nats.context": 3})
    assert lines == [
        "nats.context: must be text, not 3",
        "queues.A.priority: must be 1 to 100, not 500",
        "backoff.mine.steps: is missing",
        'retention.discard[1]: must be "complete", "expired", "terminated", "unreachable" or "queue_error", not "x"',
        "nats: password needs user",
        "queues.A: lease must not be longer than max_run_time",
        'queues.A.backoff: there is no policy "nope"; there are default, 1m, 10m, 1h, mine',
    ]


@pytest.mark.parametrize("content", [b"[nats", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {}, {})
    (line,) = caught.value.lines
    assert line.startswith(f"{file}: ")


def test_a_missing_file_is_a_fault_only_when_it_was_asked_for(tmp_path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.toml", {}, {})
    assert caught.value.lines == [f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"]


def test_the_later_layer_wins(tmp_path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[bridge]\nconcurrency = 1\ndrain = '1s'\nname = 'file'")
    env = {"AJC_BRIDGE__CONCURRENCY": "2", "AJC_BRIDGE__DRAIN": "2s", "HOME": "/x"}
    config = load_config(file, {"bridge.concurrency": 3, "bridge.name": None}, env)
    assert (config.bridge.concurrency, config.bridge.drain, config.bridge.name) == (3, 2 * SECOND, "file")


def test_a_server_named_later_replaces_a_context_named_earlier(tmp_path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[nats]\ncontext = 'WQ'\ncreds = 'x'")
    config = load_config(file, {}, {"AJC_NATS__URL": "nats://a:1"})
    assert (config.nats.url, config.nats.context, config.nats.creds) == ("nats://a:1", "", "x")
    config = load_config(file, {"nats.context": "B"}, {"AJC_NATS__URL": "nats://a:1"})
    assert (config.nats.url, config.nats.context) == ("", "B")


def test_the_environment_has_every_key_outside_of_named_tables(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = {
        "AJC_NATS__TLS__CA": "/ca.pem",
        "AJC_EXEC__CATCHALL": "true",
        "AJC_BRIDGE__CREATE": "off",
        "AJC_RETENTION__DISCARD": "complete, expired",
        "AJC_RETENTION__TERMINATED": "2d",
        "AJC_LOG__FORMAT": "json",
    }
    config = load_config(None, {}, env)
    assert config.nats.tls.ca == "/ca.pem"
    assert (config.exec.catchall, config.bridge.create) == (True, False)
    assert config.retention.discard == ["complete", "expired"]
    assert config.retention.terminated == 2 * 86_400 * SECOND
    assert config.log.format == "json"
    assert ("bridge", "concurrency") in dict(leaves(Config))


def test_a_wrong_variable_is_told_with_the_keys_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = {"AJC_BRIDGE__CONCURRENCY": "many", "AJC_BRIDGE__DRAIN": "5", "AJC_RETENTION__DISCARD": "complete,gone"}
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, env)
    assert [line for line in caught.value.lines if "discard" not in line] == [
        'bridge.concurrency ($AJC_BRIDGE__CONCURRENCY): must be a whole number, not "many"',
        'bridge.drain ($AJC_BRIDGE__DRAIN): must be a duration like "30s", "1h30m" or "7d", not "5"',
    ]
    assert caught.value.lines[-1].startswith("retention.discard[1] ($AJC_RETENTION__DISCARD): must be ")


def test_what_a_flag_or_the_file_says_wrongly_is_not_blamed_on_a_variable(tmp_path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[bridge]\nconcurrency = 'many'\ndrain = 5")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"bridge.concurrency": 0}, {"AJC_BRIDGE__CONCURRENCY": "many"})
    assert caught.value.lines == [
        "bridge.concurrency: must be 1 to 100000, not 0",
        'bridge.drain: must be a duration like "30s", "1h30m" or "7d", not 5',
    ]


def test_an_unknown_variable_is_a_warning(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = {"AJC_BRIDGE__CONCURENCY": "1", "AJC_QUEUES__EMAIL__PRIORITY": "1", "AJC_FAILPOINT": "x", "OTHER": "1"}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_config(None, {}, env)
    assert [str(one.message) for one in told if one.category is UnknownVariable] == [
        "AJC_BRIDGE__CONCURENCY: no such setting; did you mean AJC_BRIDGE__CONCURRENCY?",
        "AJC_QUEUES__EMAIL__PRIORITY: no such setting; queues, policies and routes come from the file",
    ]


def test_what_can_change_while_running() -> None:
    old = load_config("/dev/null", {"queues": {"A": {"priority": 1}, "B": {}}, "backoff": {"m": {"steps": ["1s"]}}}, {})
    new = load_config(
        "/dev/null",
        {
            "queues": {"A": {"priority": 2, "backoff": "n"}, "C": {}},
            "backoff": {"n": {"steps": ["2s"]}},
            "bridge": {"concurrency": 1, "name": "x"},
            "exec": {"routes": {"legacy:job": "CHORIA_AJ.H.T"}},
            "retention": {"complete": "1h"},
            "log": {"level": "debug", "format": "json"},
            "nats.url": "nats://b:1",
        },
        {},
    )
    changed = set(changed_keys(old, new))
    stay = {"nats.url", "exec.routes.legacy:job", "bridge.name", "queues.B", "queues.C", "log.format"}
    live = {
        "queues.A.priority",
        "queues.A.backoff",
        "backoff.m",
        "backoff.n",
        "bridge.concurrency",
        "retention.complete",
    }
    assert changed == stay | live | {"log.level"}
    assert set(restart_needed(old, new)) == stay
    assert restart_needed(old, old) == changed_keys(old, old) == []


def test_secrets_are_not_shown() -> None:
    config = load_config("/dev/null", {"nats.user": "u", "nats.password": "hunter2", "nats.url": "x"}, {})
    assert "hunter2" not in repr(config)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_sections = st.sampled_from([*Config.model_fields, "other"])


@given(st.dictionaries(_sections, _values, max_size=4))
def test_no_configuration_of_any_shape_raises_anything_else(given_values) -> None:
    lines = ["fine: nothing to say"]
    try:
        load_config("/dev/null", given_values, {})
    except ConfigError as error:
        lines = error.lines
    assert lines
    assert all(": " in line for line in lines)


def test_a_number_of_thousands_of_digits_is_a_fault_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ajc-bridge.toml"
    file.write_text("[queues.Q]\nmax_tries = " + "9" * 5_000 + "\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, env={})
    assert len(caught.value.lines) == 1
    assert "is not TOML" in caught.value.lines[0]
