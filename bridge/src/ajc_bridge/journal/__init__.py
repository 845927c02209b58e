"""What is told of each happening: one sink a file."""
