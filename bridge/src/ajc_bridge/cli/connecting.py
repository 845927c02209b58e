"""One connection for one command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ajc_bridge.cli.exits import USAGE, CliError

if TYPE_CHECKING:
    from ajc.client import Client
    from ajc_bridge.config import NatsConfig

# the keys of [nats] that set the options that name files
_FILES: Final = {"creds": "creds", "nkey": "nkey", "tls_ca": "tls.ca", "tls_cert": "tls.cert", "tls_key": "tls.key"}

T = TypeVar("T")


def with_client(
    server: str | None,
    context: str | None,
    work: Callable[[Client], Awaitable[T]],
    *,
    quick: bool = False,
    lasting: bool = False,
) -> T:
    """Connect, do `work`, close. Raises what it raises, and `Unavailable` without a server. `quick`: on uvloop.

    What goes wrong is the command's own answer; one that waits (`lasting`) says when the connection is lost, too.
    """
    check_connection(server, context)

    logging.getLogger("ajc").setLevel(logging.WARNING if lasting else logging.ERROR)

    async def connected() -> T:
        from ajc.client import connect  # noqa: PLC0415 - the client is heavy, and --help needs none of it

        async with connect(server, context=context, name="ajc-bridge cli") as client:
            return await work(client)

    return loop_runner()(connected()) if quick else asyncio.run(connected())


def loop_runner() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Return what runs a coroutine on the quickest loop there is."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run
    return uvloop.run


def check_connection(server: str | None, context: str | None) -> None:
    """Find out where to connect, and with what.

    Raises `InvalidValue`, and `CliError` (usage) for a context that does not exist, or files that cannot be used.
    """
    from ajc.connect_options import unreadable_files  # noqa: PLC0415
    from ajc.context import resolve  # noqa: PLC0415
    from ajc.errors import NotFound  # noqa: PLC0415

    try:
        options = resolve(server, context)
    except NotFound as error:  # exit 3 is for tasks and queues: scripts ask for them
        raise CliError(str(error), "`nats context ls` shows the contexts there are", USAGE) from None
    for option, path, reason in unreadable_files(options):
        hint = "the context names it, or the environment ($NATS_CREDS, $NATS_NKEY, $NATS_CA, $NATS_CERT, $NATS_KEY)"
        raise CliError(f"{option.removeprefix('tls_')} {path}: {reason}", hint, USAGE)


def wrong_files(nats: NatsConfig) -> list[str]:
    """Return a line for each file of credentials or TLS that a bridge with this section could not use.

    What else is wrong about where to connect is left to the bridge, which says it.
    """
    from ajc.connect_options import unreadable_files  # noqa: PLC0415
    from ajc.errors import AjcError  # noqa: PLC0415
    from ajc_bridge.jetstream.connection import connect_options  # noqa: PLC0415

    try:
        options = connect_options(nats)
    except AjcError:
        return []
    lines = []
    for option, path, reason in unreadable_files(options):
        table, _, key = f"nats.{_FILES[option]}".rpartition(".")
        own = getattr(nats.tls if table == "nats.tls" else nats, key)
        origin = "" if own else " (from the context or the environment)"
        lines.append(f"{table}.{key}: {path}: {reason}{origin}")
    return lines
