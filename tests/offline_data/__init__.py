"""Tests of the package offline_data."""
