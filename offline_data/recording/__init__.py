"""Recording data sets with behaviour policies."""
