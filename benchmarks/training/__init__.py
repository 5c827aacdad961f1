"""One run: drivers, records of the run, its folder."""
