"""Enqueue background tasks on NATS JetStream and answer them."""
