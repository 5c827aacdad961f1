"""Tests of the package envs."""
