"""The ports on NATS JetStream. Nothing else of the bridge talks to NATS."""
