"""One run: drivers, what is kept of it, its folder."""
