"""What the commands of the command line do, one file each; tables, sweeps and reports are in `tables`."""
