"""The kit against a responder of this folder's making, under a prefix of its own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from faulty_responder import FaultyResponder

from ajc.connect_options import ConnectOptions
from ajc.connection import Connection
from ajc_bridge.conform.kit import Report, Setup, examine
from ajc_bridge.conform.rules import Level


@asynccontextmanager
async def serving(url: str, fault: str = "") -> AsyncIterator[FaultyResponder]:
    """A responder on a prefix of its own, for the time of a block."""
    connection = await Connection.open(ConnectOptions(servers=(url,)))
    try:
        responder = FaultyResponder(connection, "conform", f"t{secrets.token_hex(4)}", fault)
        await responder.serve()
        yield responder
    finally:
        await connection.close()


async def against(url: str, fault: str, level: str, *only: str) -> Report:
    """What the kit finds of a responder with that fault."""
    async with serving(url, fault) as responder:
        return await examine(ConnectOptions(servers=(url,)), setup_for(responder, level, *only))


def setup_for(responder: FaultyResponder, level: str, *only: str, **more: Any) -> Setup:
    return Setup(
        family=responder.family,
        level=Level(level),
        prefix=responder.prefix,
        wait=1.0,
        only=frozenset(only),
        **more,
    )


def failed(report: Report) -> set[str]:
    return {verdict.rule for verdict in report.verdicts if verdict.outcome == "failed"}
