"""What each process of a node does: its services put together, started and stopped."""
