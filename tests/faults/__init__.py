"""Faults that are injected into whole runs: `make check-faults`."""
