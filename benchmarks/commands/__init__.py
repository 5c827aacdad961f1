"""The commands of the command line, one file each; tables, sweeps and reports are in `tables`."""
