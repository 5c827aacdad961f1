"""Grids and chains of LPG, in which many agents live side by side."""
