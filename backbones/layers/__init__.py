"""Layers of which encoders, memories and heads are built."""
