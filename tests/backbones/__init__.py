"""Tests of the package backbones."""
