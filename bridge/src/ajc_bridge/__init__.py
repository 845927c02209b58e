"""The daemon between NATS JetStream and the handlers."""

__version__ = "0.1.0"
