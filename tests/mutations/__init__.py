"""Faults of one line each, which the tests must notice: python -m tests.mutations [PATTERN]."""
