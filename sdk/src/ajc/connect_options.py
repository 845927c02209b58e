"""How to reach NATS: what contexts, environment and arguments are resolved to."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ajc.errors import InvalidValue

FILE_OPTIONS: Final = ("creds", "nkey", "tls_ca", "tls_cert", "tls_key")


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


def without_secrets(server: str) -> str:
    """Return a server's address as it may be told: without the user and password that it may have."""
    scheme, separator, rest = server.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def unreadable_files(options: ConnectOptions) -> Iterator[tuple[str, str, str]]:
    """Yield the option, the path and the reason for each file of credentials or TLS that cannot be read.

    None of it is read here: it may be a pipe, which can be read once.
    """
    for option in FILE_OPTIONS:
        path = getattr(options, option)
        if not path:
            continue
        file = Path(path)
        try:
            if not file.is_fifo():  # to open and close one would end whoever writes it
                with file.open("rb"):
                    pass
        except (OSError, ValueError) as error:
            yield option, path, f"cannot be read: {getattr(error, 'strerror', None) or error}"


def check_files(options: ConnectOptions) -> None:
    """Raise `InvalidValue` for such a file: nats-py looks for credentials only once a server asks for them."""
    for option, path, reason in unreadable_files(options):
        raise InvalidValue(option, path, reason)


def tls_context(options: ConnectOptions) -> ssl.SSLContext | None:
    """Return what TLS is to be spoken with; None where no option asks for it. Raises `OSError` for its files."""
    if not (
        options.tls_ca or options.tls_cert or options.tls_first or any(s.startswith("tls://") for s in options.servers)
    ):
        return None
    context = ssl.create_default_context(cafile=options.tls_ca)
    if options.tls_cert:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    return context
