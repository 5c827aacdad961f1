"""LPG's grids and chains, which are stepped as batches for many agents."""
