"""Weights of the behaviour policies, and how they came to be."""
