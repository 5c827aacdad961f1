"""Search of network architectures."""
