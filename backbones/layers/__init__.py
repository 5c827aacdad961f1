"""Layers that encoders, memories and heads are made of."""
