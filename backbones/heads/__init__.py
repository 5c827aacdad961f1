"""Heads at the end of a network: policies, values, distributions, behaviour models."""
