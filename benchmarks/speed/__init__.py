"""Updates per second and memory of the agents, compared with other libraries if they are installed."""
