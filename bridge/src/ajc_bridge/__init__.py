"""The daemon between NATS JetStream and the handlers."""
