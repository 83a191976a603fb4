"""What is seen: metrics, capacity against the target."""
