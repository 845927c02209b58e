"""EXEC-1, EXEC-2 and EXEC-9: to what the responder subscribes, how, and that each request has one reply."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from ajc.exchange import reply_headers
from ajc.subjects import RESPONDER_GROUP, exec_subject
from ajc_bridge.conform.ask import Ask
from ajc_bridge.conform.checks.check import Checks
from ajc_bridge.conform.player import REPLY_SECONDS, Exchange, Player
from ajc_bridge.conform.verdict import NotApplicable
from ajc_bridge.conform.words import reply_words

CHECKS: Final = Checks()
REQUESTS: Final = 40
"""So many that who shares a queue group gets one of them, but for once in a trillion runs."""
SECOND_REPLY_SECONDS: Final = 0.5
_NOBODY_SECONDS: Final = 2.0


def strange_subjects(player: Player) -> list[str]:
    """Return subjects that no responder of the family's types has a reason to serve."""
    mark = secrets.token_hex(4)
    echo = exec_subject(player.prefix, player.kind("echo"))
    return [f"{player.prefix}.{player.family}:nobody-{mark}", f"{player.prefix}.nobody-{mark}", f"{echo}.{mark}"]


async def taken(player: Player) -> tuple[Exchange, ...]:
    """Ask on those subjects, and return the requests that somebody took."""
    asked = [player.send(Ask(task="echo", payload=b"conform", subject=one)) for one in strange_subjects(player)]
    for exchange in asked:
        exchange.shared = True
    replies = await asyncio.gather(*(exchange.replied(_NOBODY_SECONDS) for exchange in asked))
    return tuple(
        exchange
        for exchange, reply in zip(asked, replies, strict=True)
        if reply is None or reply.kind != "no_responder"
    )


@CHECKS.of("EXEC-1")
async def nothing_wider(player: Player) -> str | None:
    """Ask for types that nobody serves: the server answers, with 503."""
    if player.taken_before:
        raise NotApplicable(
            f"somebody else takes requests on {player.taken_before} here: try it on a server of its own"
        )
    for exchange in await taken(player):
        expected = "503 from the server: nobody is subscribed there"
        if player.alone:
            raise exchange.broken(expected, f"somebody is subscribed: {reply_words(exchange, exchange.reply)}")
        if exchange.reply is None:
            raise NotApplicable(
                f"somebody listens on {exchange.sent.subject} and does not reply: with --start it can be told who"
            )
        seen = (
            f"{reply_words(exchange, exchange.reply)} (if that is somebody else's catch-all: --start tells them apart)"
        )
        raise exchange.broken(expected, seen)
    return None


@CHECKS.of("EXEC-2", "alone")
async def one_of_the_group(player: Player) -> str | None:
    """Join the group: then each request goes to the kit or to the responder, never to both."""
    subject = exec_subject(player.prefix, player.kind("echo"))
    mine = secrets.token_bytes(8)

    def answer(_subject: bytes, reply: bytes, _body: bytes, _headers: bytes | None) -> None:
        player.connection.publish(reply.decode(), mine, headers=reply_headers())

    member = await player.connection.subscribe_raw(subject, answer, queue=RESPONDER_GROUP)
    try:
        await player.connection.flush()
        asked = [player.send(Ask(task="echo", payload=b"group")) for _ in range(REQUESTS)]
        for exchange in asked:
            exchange.shared = True
        await asyncio.gather(*(exchange.replied(REPLY_SECONDS) for exchange in asked))
    finally:
        await member.unsubscribe()
        await player.connection.flush()
    # what it is asked after those it has read after those
    await player.answered(Ask(task="echo", payload=b"after the group"))
    await asyncio.sleep(SECOND_REPLY_SECONDS)
    expected = f"each of {REQUESTS} requests answered by one member of the queue group {RESPONDER_GROUP}"
    twice = [one for one in asked if {reply.body == mine for reply in one.replies} == {True, False}]
    if twice:
        raise twice[0].broken(
            expected, f"{len(twice)} of them answered by the responder and by another member: it is in no such group"
        )
    theirs = sum(any(reply.body != mine for reply in one.replies) for one in asked)
    if not theirs:
        raise NotApplicable("the server gave every request to the kit, as servers of a cluster do: use the same server")
    return None


@CHECKS.of("EXEC-9")
async def one_reply(player: Player) -> str | None:
    """Send several requests at once, and leave time for a second reply."""
    payloads = [b"one", b"two", b"three", b"four", b"five", b""]
    asked = await asyncio.gather(*(player.answered(Ask(task="echo", payload=one)) for one in payloads))
    await asyncio.sleep(SECOND_REPLY_SECONDS)
    _second(list(asked))
    return None


@CHECKS.of("EXEC-9", "last")
async def no_second_reply_anywhere(player: Player) -> str | None:
    """Look over all that was asked."""
    await asyncio.sleep(SECOND_REPLY_SECONDS)
    _second([one for one in player.exchanges if not one.shared])
    return None


def _second(asked: list[Exchange]) -> None:
    for exchange in asked:
        if len(exchange.replies) > 1:
            said = ", then ".join(reply_words(exchange, reply) for reply in exchange.replies[:3])
            raise exchange.broken("exactly one reply", f"{len(exchange.replies)} replies: {said}")
