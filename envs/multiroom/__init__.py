"""Rooms with doors."""
