"""Updates per second and memory of the agents, beside d3rlpy where it is installed."""
