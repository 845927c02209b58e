"""How to reach NATS: what contexts, environment and arguments are resolved to."""

from __future__ import annotations

import msgspec


class ConnectOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a connection needs. Paths are files; `connect_timeout` is in seconds, for each server tried."""

    servers: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: str | None = None
    nkey: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_first: bool = False
    tls_hostname: str | None = None
    inbox_prefix: str | None = None
    jetstream_domain: str | None = None
    connect_timeout: float = 2.0
