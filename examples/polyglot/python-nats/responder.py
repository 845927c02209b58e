import asyncio
import base64
import json
import os

import nats
from nats.aio.msg import Msg


async def main() -> None:
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))

    async def add(request: Msg) -> None:
        try:
            numbers = json.loads(base64.b64decode(json.loads(request.data)["payload"]))
            await nc.publish(request.reply, str(sum(numbers)).encode())
        except (TypeError, ValueError) as error:
            await nc.publish(request.reply, headers={"AJ-Error": str(error)})

    await nc.subscribe("ajc.exec.numbers:sum", queue="ajc", cb=add)
    await asyncio.Event().wait()


asyncio.run(main())
