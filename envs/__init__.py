"""Tasks, environments and their scores."""
