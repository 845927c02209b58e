"""One queue's items on JetStream: the pull consumer WORKERS of CHORIA_AJ_Q_<queue>.

One pull is under way at a time. It is a one-shot pull (`no_wait` with an expiry): it brings what is there and ends,
or waits for a first item. The delivered message carries the item's own subject, so the queue's subscription tells
whose it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ajc import subjects
from ajc.connection import Connection, Subscription
from ajc.errors import NotPermitted, Unavailable
from ajc.transport import drain_all
from ajc_bridge.ports import Lease

_GRACE_SECONDS: Final = 3.0
_RENEW_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 1.0
_LOOK_IN_NS: Final = 10_000_000
"""No pull goes without an end: at the queue's own limit the server keeps one for ever, even one that would not wait."""
_TURNS_PER_LEASE: Final = 50
_SHORT_FORM: Final = 9
_STATUS: Final = b"NATS/1.0 "
_ENDED: Final = (b"404", b"408")
_GONE: Final = (b"409", b"503")


class _Pull:
    """The pull under way."""

    __slots__ = ("came", "deliver", "done", "sent", "since", "token", "want")

    def __init__(
        self, token: str, want: int, deliver: Callable[[Lease], None], done: asyncio.Future[None], sent: float
    ) -> None:
        self.sent = self.since = sent
        self.token = token
        self.want = want
        self.came = 0
        self.deliver = deliver
        self.done = done


class JetStreamWorkQueue:
    """`ports.WorkQueue` on a work-queue stream. `lease_ns` is the consumer's ack wait."""

    def __init__(self, connection: Connection, queue: str, lease_ns: int) -> None:
        self.queue = queue
        self.lease_seconds = lease_ns / 1e9
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._stream = subjects.queue_stream(queue)
        self._next_subject = connection.api_subject(f"CONSUMER.MSG.NEXT.{self._stream}.{subjects.CONSUMER}")
        self._inbox = f"{connection.inbox_prefix}.pull.{id(self):x}."
        self._count = 0
        self._pull: _Pull | None = None
        self._subscription: Subscription | None = None
        self._late: Callable[[Lease], None] | None = None
        self._turns = (self._loop.time(), self._loop.time())
        self._turning: asyncio.TimerHandle | None = None

    async def start(self, late: Callable[[Lease], None]) -> None:
        """Open the inbox of pulls. `late` takes items that come when no pull waits for them any more."""
        self._late = late
        self._turn()
        self._connection.refused.tell(self._refused)
        self._subscription = await self._connection.subscribe_raw(f"{self._inbox}*", self._arrived)

    async def quiet(self) -> None:
        """Let the server send no more: what it has sent has been handed over when this returns. Raises nothing.

        An item that is given back later then goes to somebody else, and not to the pull that is still under way here.
        """
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await drain_all([subscription], _QUIET_SECONDS)  # no longer: a server may stand still

    async def stop(self) -> None:
        """Close the inbox."""
        await self.quiet()
        if self._turning is not None:
            self._turning.cancel()
        self._connection.refused.tell_no_more(self._refused)

    def _turn(self) -> None:
        self._turns = (self._turns[1], self._loop.time())
        if self._pull is not None:
            self._pull.since = max(self._pull.sent, self._turns[0])
        self._turning = self._loop.call_later(min(self.lease_seconds / _TURNS_PER_LEASE, 1.0), self._turn)

    def connection_lost(self) -> None:
        """End the pull under way: the server has forgotten it with the connection."""
        self._fail(Unavailable("the connection broke during a pull"))

    def _refused(self, subject: str) -> None:
        if subject == self._next_subject.lower():
            self._fail(NotPermitted(self._next_subject))

    def _fail(self, error: Unavailable) -> None:
        if self._pull is not None and not self._pull.done.done():
            self._pull.done.set_exception(error)
            self._pull.done.exception()  # a caller that was cancelled meanwhile never looks

    async def pull(self, want: int, wait: float, deliver: Callable[[Lease], None]) -> int:
        """Pull; see `ports.WorkQueue.pull`. Raises `Unavailable` when the consumer is gone or does not answer.

        Without a connection it waits a moment for one: a pull that is kept until then would bring items for no slot.
        """
        if not self._connection.connected:
            try:
                async with asyncio.timeout(_GRACE_SECONDS):
                    await self._connection.wait_connected()
            except TimeoutError:
                raise Unavailable("there is no server to pull from") from None
        self._count += 1
        token = f"{self._inbox}{self._count:x}"
        pull = self._pull = _Pull(token, want, deliver, self._loop.create_future(), self._loop.time())
        expires = max(int(wait * 1e9), _LOOK_IN_NS)
        body = b'{"batch": %d, "no_wait": true, "expires": %d}' % (want, expires)
        try:
            self._connection.publish(self._next_subject, body, reply=token)
            # a time-out of its own, since a lost pull is never answered
            timer = self._loop.call_later(wait + _GRACE_SECONDS, _expire, pull.done)
            try:
                await pull.done
            finally:
                timer.cancel()
        except Unavailable:
            if pull.came == 0:
                raise
        finally:
            self._pull = None
        return pull.came

    def _arrived(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        if reply.startswith(b"$JS.ACK."):
            self._item(subject, reply, body)
            return
        pull = self._pull
        if pull is None or headers is None or not headers.startswith(_STATUS):
            return
        if subject.decode() != pull.token or pull.done.done():
            return
        status = headers[9:12]
        if status in _ENDED:
            pull.done.set_result(None)
        elif status in _GONE:
            text = headers[12:].split(b"\r\n", 1)[0].strip().decode("utf-8", "replace")
            pull.done.set_exception(Unavailable(f"the queue's consumer refuses pulls: {text or status.decode()}"))

    def _item(self, subject: bytes, reply: bytes, body: bytes) -> None:
        now = self._loop.time()
        pull = self._pull
        # when the process was stopped, the item lay in the socket, perhaps since the turn before the last one; but no
        # longer than since it was asked for
        since = self._turns[0] if pull is None else pull.since
        delivered, pending = _places(reply)
        lease = Lease(
            self.queue,
            subject[subject.rindex(b".") + 1 :].decode("utf-8", "replace"),
            body,
            delivered,
            pending,
            reply,
            since + self.lease_seconds,
            now,
        )
        deliver = self._late if pull is None else pull.deliver
        if pull is not None:
            pull.came += 1
            if pull.came >= pull.want and not pull.done.done():
                pull.done.set_result(None)
        if deliver is not None and lease.until > now:  # else it is somebody else's by now
            deliver(lease)

    def ack(self, lease: Lease) -> None:
        """Acknowledge, without waiting: a lost ack leads to a redelivery, which finds the final state."""
        self._answer(lease, b"PUB %b 4\r\n+ACK\r\n")

    def nak(self, lease: Lease) -> None:
        """Give the item back at once."""
        self._answer(lease, b"PUB %b 4\r\n-NAK\r\n")

    def _answer(self, lease: Lease, command: bytes) -> None:
        if lease.lost or self._loop.time() >= lease.until:
            # another delivery may be running: the server would take this ack for it
            lease.lost = True
            return
        if not self._connection.online():
            return  # kept until there is a connection, it might come when another delivery runs
        try:
            self._connection.send(command % lease.token)
        except Unavailable:
            return  # the item is redelivered, and its record says what became of it

    async def renew(self, lease: Lease) -> None:
        """Send +WPI and wait for the server's word; the lease counts from when it was sent."""
        if not self._connection.connected:
            raise Unavailable("there is no server to renew a lease at")
        sent = self._loop.time()
        await self._connection.request(lease.token.decode(), b"+WPI", timeout=min(_RENEW_SECONDS, self.lease_seconds))
        lease.until = sent + self.lease_seconds


def _places(reply: bytes) -> tuple[int, int]:
    """Read from an ack subject how often the item was delivered, and how many wait behind it.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or with domain and account
    before the stream and perhaps one more token behind (nats-architecture-and-design ADR-15).
    """
    tokens = reply.split(b".")
    if len(tokens) == _SHORT_FORM:
        return int(tokens[4]), int(tokens[8])
    return int(tokens[6]), int(tokens[10])


def _expire(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_exception(Unavailable("no answer to a pull in time"))
