"""One connection for one command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ajc_bridge.cli.exits import USAGE, CliError

if TYPE_CHECKING:
    from ajc.client import Client

T = TypeVar("T")


def with_client(
    server: str | None, context: str | None, work: Callable[[Client], Awaitable[T]], *, quick: bool = False
) -> T:
    """Connect, do `work`, close. Raises what it raises, and `Unavailable` without a server. `quick`: on uvloop."""
    check_connection(server, context)

    logging.getLogger("ajc").setLevel(logging.ERROR)  # what goes wrong is this command's own answer

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
    """Find out where to connect. Raises `InvalidValue`, and `CliError` (usage) for a context that does not exist."""
    from ajc.context import resolve  # noqa: PLC0415
    from ajc.errors import NotFound  # noqa: PLC0415

    try:
        resolve(server, context)
    except NotFound as error:  # exit 3 is for tasks and queues: scripts ask for them
        raise CliError(str(error), "`nats context ls` shows the contexts there are", USAGE) from None
