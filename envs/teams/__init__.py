"""Environments in which all agents learn."""
