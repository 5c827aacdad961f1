"""A suite of reinforcement-learning agents, their baselines and their benchmarks."""

from rlbench._version import __version__ as __version__
