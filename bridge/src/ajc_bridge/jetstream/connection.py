"""How this bridge reaches NATS: its configuration over a context or the environment."""

from __future__ import annotations

import msgspec

from ajc.connect_options import ConnectOptions
from ajc.context import resolve
from ajc_bridge.config import NatsConfig


def connect_options(nats: NatsConfig) -> ConnectOptions:
    """Return how to connect: the section over the context or environment. Raises as `ajc.context.resolve`."""
    options = resolve(nats.url or None, nats.context or None)
    own = {
        "creds": nats.creds,
        "nkey": nats.nkey,
        "user": nats.user,
        "password": nats.password,
        "token": nats.token,
        "inbox_prefix": nats.inbox_prefix,
        "jetstream_domain": nats.jetstream_domain,
        "tls_ca": nats.tls.ca,
        "tls_cert": nats.tls.cert,
        "tls_key": nats.tls.key,
    }
    return msgspec.structs.replace(options, **{key: value for key, value in own.items() if value})
