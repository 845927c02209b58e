"""Where to connect: arguments, contexts, environment, in this order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ajc.context import describe, parse_servers, resolve
from ajc.errors import InvalidValue, NotFound


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "nats" / "context").mkdir(parents=True)
    return tmp_path


def context(home: Path, name: str, **keys: Any) -> None:
    (home / "nats" / "context" / f"{name}.json").write_text(json.dumps(keys))


def select(home: Path, name: str) -> None:
    (home / "nats" / "context.txt").write_text(name)


def env(home: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(home), "HOME": "/home/u", **more}


def test_nothing_given_is_the_local_server(home: Path) -> None:
    assert resolve(env=env(home)).servers == ("nats://127.0.0.1:4222",)
    assert describe(env=env(home)) == "nats://127.0.0.1:4222 (default)"


def test_the_first_that_is_given_decides(home: Path) -> None:
    for name in ("ARG", "ENV", "SELECTED"):
        context(home, name, url=f"nats://{name.lower()}:4222")
    assert resolve(env=env(home, NATS_URL="nats://url:1")).servers == ("nats://url:1",)
    select(home, "SELECTED\n")
    assert resolve(env=env(home)).servers == ("nats://selected:4222",)
    assert resolve(env=env(home, NATS_URL="nats://url:1")).servers == ("nats://url:1",)
    everything = env(home, NATS_URL="nats://url:1", NATS_CONTEXT="ENV")
    assert resolve(env=everything).servers == ("nats://env:4222",)
    assert resolve(context="ARG", env=everything).servers == ("nats://arg:4222",)
    assert resolve("nats://server:2", env=everything).servers == ("nats://server:2",)
    assert resolve("nats://server:2", context="ARG", env=everything).servers == ("nats://server:2",)


def test_every_key_of_a_context(home: Path) -> None:
    context(
        home,
        "FULL",
        description="all of it",
        url="nats://a:1, tls://b",
        user="u",
        password="p",
        token="t",
        creds="~/c.creds",
        nkey="/n.nk",
        ca="ca.pem",
        cert="cert.pem",
        key="key.pem",
        inbox_prefix="_INBOX_me",
        jetstream_domain="hub",
        tls_first=True,
        nsc="",
    )
    options = resolve(context="FULL", env=env(home))
    assert options.servers == ("nats://a:1", "tls://b:4222")
    assert (options.user, options.password, options.token) == ("u", "p", "t")
    assert (options.creds, options.nkey) == ("/home/u/c.creds", "/n.nk")
    assert (options.tls_ca, options.tls_cert, options.tls_key, options.tls_first) == (
        "ca.pem",
        "cert.pem",
        "key.pem",
        True,
    )
    assert (options.inbox_prefix, options.jetstream_domain) == ("_INBOX_me", "hub")


def test_credentials_of_the_environment_go_with_its_url(home: Path) -> None:
    options = resolve(env=env(home, NATS_URL="localhost", NATS_USER="u", NATS_PASSWORD="p", NATS_CREDS="~/x"))
    assert options.servers == ("nats://localhost:4222",)
    assert (options.user, options.password, options.creds) == ("u", "p", "/home/u/x")
    context(home, "PLAIN", url="nats://a:1")
    assert resolve(context="PLAIN", env=env(home, NATS_USER="u")).user is None


def test_home_without_xdg(tmp_path: Path) -> None:
    (tmp_path / ".config" / "nats" / "context").mkdir(parents=True)
    context(tmp_path / ".config", "A", url="nats://a:1")
    assert resolve(context="A", env={"HOME": str(tmp_path)}).servers == ("nats://a:1",)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "..", "a\nb"])
def test_a_context_name_that_is_a_path(home: Path, name: str) -> None:
    with pytest.raises(InvalidValue):
        resolve(context=name, env=env(home))


def test_a_context_that_is_missing_or_broken(home: Path) -> None:
    with pytest.raises(NotFound, match="NOPE"):
        resolve(context="NOPE", env=env(home))
    select(home, "GONE")
    with pytest.raises(NotFound, match="GONE"):
        resolve(env=env(home))
    (home / "nats" / "context" / "BAD.json").write_text("{nope")
    with pytest.raises(InvalidValue, match="cannot be read"):
        resolve(context="BAD", env=env(home))
    for name, content in {"LIST": [1], "TYPE": {"url": 1}, "USER": {"user": 1}}.items():
        (home / "nats" / "context" / f"{name}.json").write_text(json.dumps(content))
        with pytest.raises(InvalidValue):
            resolve(context=name, env=env(home))


@pytest.mark.parametrize("key", ["nsc", "user_jwt", "socks_proxy", "jetstream_api_prefix"])
def test_what_is_not_supported_is_said(home: Path, key: str) -> None:
    context(home, "X", url="nats://a:1", **{key: "value"})
    with pytest.raises(InvalidValue, match=key):
        resolve(context="X", env=env(home))


def test_servers_are_split_and_completed() -> None:
    assert parse_servers("a, nats://b:5 ,,tls://c") == ("nats://a:4222", "nats://b:5", "tls://c:4222")
    assert parse_servers(["ws://d", "[::1]"]) == ("ws://d", "nats://[::1]:4222")
    assert parse_servers("nats://u:p@h") == ("nats://u:p@h:4222",)


@pytest.mark.parametrize("url", ["", " , ", "http://x", "nats://", "nats://x:port", "nats://x:70000", "nats://a b"])
def test_servers_that_are_none(url: str) -> None:
    with pytest.raises(InvalidValue):
        parse_servers(url)


def test_no_secret_is_told(home: Path) -> None:
    assert describe("nats://u:secret@h:1", env=env(home)) == "nats://h:1"
    with pytest.raises(InvalidValue) as refused:
        parse_servers("http://u:secret@h")
    assert "secret" not in str(refused.value)
