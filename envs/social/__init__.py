"""Grid games of several agents."""
