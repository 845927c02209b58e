"""What happens to a task: pure decisions, with no I/O, no clock and no randomness of their own."""
