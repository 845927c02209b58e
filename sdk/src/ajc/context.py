"""Which NATS to talk to: an argument, a NATS context, the environment, or the local server.

A context is a file of the `nats` command, `$XDG_CONFIG_HOME/nats/context/<name>.json`; the selected one is named in
`nats/context.txt` beside that folder. The first of these that is given decides:

1. the argument `server` (with `context` too, it takes the place of the context's URL, and the credentials stay),
2. the argument `context`,
3. `$NATS_CONTEXT`,
4. `$NATS_URL` (with `$NATS_USER`, `$NATS_PASSWORD`, `$NATS_TOKEN`, `$NATS_CREDS`, `$NATS_NKEY`, `$NATS_CA`,
`$NATS_CERT`,
   `$NATS_KEY`),
5. the selected context,
6. `nats://127.0.0.1:4222`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ajc.connect_options import ConnectOptions, without_secrets
from ajc.errors import InvalidValue, NotFound

DEFAULT_SERVER: Final = "nats://127.0.0.1:4222"

_SCHEMES: Final = frozenset({"nats", "tls", "ws", "wss"})
_PATHS: Final = frozenset({"creds", "nkey", "tls_ca", "tls_cert", "tls_key"})
# a context's key -> our field
_CONTEXT_FIELDS: Final = {
    "user": "user",
    "password": "password",
    "token": "token",
    "creds": "creds",
    "nkey": "nkey",
    "ca": "tls_ca",
    "cert": "tls_cert",
    "key": "tls_key",
    "inbox_prefix": "inbox_prefix",
    "jetstream_domain": "jetstream_domain",
}
_ENVIRONMENT_FIELDS: Final = {
    "NATS_USER": "user",
    "NATS_PASSWORD": "password",
    "NATS_TOKEN": "token",
    "NATS_CREDS": "creds",
    "NATS_NKEY": "nkey",
    "NATS_CA": "tls_ca",
    "NATS_CERT": "tls_cert",
    "NATS_KEY": "tls_key",
}
# silently connecting without these would end in a puzzling refusal, or in another place than meant
_UNSUPPORTED: Final = ("nsc", "user_jwt", "user_seed", "socks_proxy", "jetstream_api_prefix", "windows_cert_store")


def resolve(
    server: str | Sequence[str] | None = None,
    context: str | None = None,
    env: Mapping[str, str] | None = None,
) -> ConnectOptions:
    """Return how to connect.

    `server` is one URL, several with commas between, or a list; `env` is `os.environ` by default.

    Raises `NotFound` for a context that does not exist, and `InvalidValue` for a URL or a context file that cannot
    be used.
    """
    env = os.environ if env is None else env
    if context is not None:
        options = read_context(context, env)
        return msgspec.structs.replace(options, servers=parse_servers(server, "server")) if server else options
    if server:
        return _from_environment(parse_servers(server, "server"), env)
    if env.get("NATS_CONTEXT"):
        return read_context(env["NATS_CONTEXT"], env)
    if env.get("NATS_URL"):
        return _from_environment(parse_servers(env["NATS_URL"], "$NATS_URL"), env)
    selected = selected_context(env)
    if selected is not None:
        return read_context(selected, env)
    return _from_environment((DEFAULT_SERVER,), env)


def describe(
    server: str | Sequence[str] | None = None, context: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Say in a few words where `resolve` with the same arguments looks, for logs and error texts; no secrets."""
    env = os.environ if env is None else env
    if context is not None:
        return f"context {context}"
    if server:
        return ", ".join(map(without_secrets, parse_servers(server, "server")))
    if env.get("NATS_CONTEXT"):
        return f"context {env['NATS_CONTEXT']} ($NATS_CONTEXT)"
    if env.get("NATS_URL"):
        return ", ".join(map(without_secrets, parse_servers(env["NATS_URL"], "$NATS_URL"))) + " ($NATS_URL)"
    selected = selected_context(env)
    return f"context {selected} (selected)" if selected else f"{DEFAULT_SERVER} (default)"


def parse_servers(servers: str | Sequence[str], field: str = "server") -> tuple[str, ...]:
    """Split and check URLs: `nats://` (also without a scheme), `tls://`, `ws://`, `wss://`. Raises `InvalidValue`."""
    texts = servers.split(",") if isinstance(servers, str) else list(servers)
    checked = tuple(_checked_url(text.strip(), field) for text in texts if text.strip())
    if not checked:
        raise InvalidValue(field, servers, "no server is named")
    return checked


def selected_context(env: Mapping[str, str]) -> str | None:
    """Return the name of the selected context, None when none is selected."""
    try:
        name = (_nats_folder(env) / "context.txt").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name or None


def read_context(name: str, env: Mapping[str, str]) -> ConnectOptions:
    """Read the context file of this name. Raises `NotFound`, or `InvalidValue` for a file that cannot be used."""
    if not name or ".." in name or "/" in name or os.sep in name or not name.isprintable():
        raise InvalidValue("context", name, "not the name of a context")
    file = _nats_folder(env) / "context" / f"{name}.json"
    try:
        found: Any = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError:
        raise NotFound("NATS context", f"{name} ({file})") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidValue("context", name, f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InvalidValue("context", name, f"{file} is no JSON object")
    for key in _UNSUPPORTED:
        if found.get(key):
            raise InvalidValue("context", name, f"{file} uses {key}, which is not supported")
    values: dict[str, Any] = dict(_context_values(found, env, name, file))
    url = found.get("url") or DEFAULT_SERVER
    if not isinstance(url, str):
        raise InvalidValue("context", name, f"url in {file} is no text")
    return ConnectOptions(
        servers=parse_servers(url, f"url in {file}"), tls_first=found.get("tls_first") is True, **values
    )


def _context_values(found: dict[str, Any], env: Mapping[str, str], name: str, file: Path) -> Iterator[tuple[str, str]]:
    for key, field in _CONTEXT_FIELDS.items():
        value = found.get(key)
        if value in (None, ""):
            continue
        if not isinstance(value, str):
            raise InvalidValue("context", name, f"{key} in {file} is no text")
        yield field, _expanded(value, env) if field in _PATHS else value


def _from_environment(servers: tuple[str, ...], env: Mapping[str, str]) -> ConnectOptions:
    values: dict[str, Any] = {
        field: _expanded(env[variable], env) if field in _PATHS else env[variable]
        for variable, field in _ENVIRONMENT_FIELDS.items()
        if env.get(variable)
    }
    return ConnectOptions(servers=servers, **values)


def _nats_folder(env: Mapping[str, str]) -> Path:
    base = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")  # noqa: PTH111, PTH118  (env may be a test's)
    return Path(base) / "nats"


def _expanded(path: str, env: Mapping[str, str]) -> str:
    home = env.get("HOME")
    return home + path[1:] if home and (path == "~" or path.startswith("~/")) else path


def _checked_url(text: str, field: str) -> str:
    url = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidValue(field, without_secrets(url), str(error)) from None
    if parts.scheme not in _SCHEMES:
        raise InvalidValue(field, without_secrets(url), "the URL starts with nats://, tls://, ws:// or wss://")
    if not parts.hostname or not url.isprintable() or " " in url:
        raise InvalidValue(field, without_secrets(url), "the URL has no usable host name")
    if port is None and parts.scheme in ("nats", "tls"):
        return parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:4222").geturl()
    return url
