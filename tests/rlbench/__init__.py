"""Tests of the package rlbench."""
