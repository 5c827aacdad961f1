"""Multi-agent grid games."""
