"""Items that come back later: schedules of the delay stream, which the server itself moves into the queues when due."""

from __future__ import annotations

from ajc import subjects
from ajc.connection import Connection
from ajc.errors import NotFound, StoreError, Unavailable
from ajc.instant import Instant
from ajc.stored_message import delete_last
from ajc.work_item import WorkItem


class JetStreamDelayQueue:
    """`ports.DelayQueue` on CHORIA_AJ_DELAY: one message per subject, so one schedule per task and queue."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def schedule(self, queue: str, task_id: str, at: Instant, item: WorkItem) -> None:
        """Schedule the item; see `ports.DelayQueue.schedule`. An instant that has passed fires at once."""
        target = subjects.delay_fire_subject(queue, task_id)
        when = Instant(int(at)).rfc3339()
        headers = f"NATS/1.0\r\nNats-Schedule: @at {when}\r\nNats-Schedule-Target: {target}\r\n\r\n".encode()
        try:
            await self._connection.stored(
                subjects.delay_schedule_subject(queue, task_id), item.encode(), headers=headers
            )
        except (NotFound, StoreError) as error:
            raise Unavailable(f"the delay stream refused a schedule: {error}") from error

    async def forget(self, queue: str, task_id: str) -> None:
        """Remove the schedule; see `ports.DelayQueue.forget`."""
        subject = subjects.delay_schedule_subject(queue, task_id)
        try:
            await delete_last(self._connection, subjects.DELAY_STREAM, subject)
        except StoreError as error:
            raise Unavailable(f"the delay stream refused to let a schedule go: {error}") from error
