"""Weights and metadata of the behaviour policies."""
