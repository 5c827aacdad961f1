"""`python -m rlbench.benchmarks.speed.lifetimes`: environment steps of LPG's meta-training per CPU-second.

It measures whole updates on `grid-levels-small`: rollouts, the learning of all agents, the rule and its gradient. They
are compared with the simplest correct implementation: one lifetime after the other, whose gradients are added up.
Updates of all subjects alternate, so that other load on the machine affects all of them equally.
"""

import statistics
import time

import torch

from rlbench.agents.lpg_meta import LPGMeta, LPGMetaConfig
from rlbench.envs.grids.make import make_lifetimes

TASK = "grid-levels-small"
LIFETIMES = 64
UPDATES = 9


class Subject:
    """Meta-training with a number of lifetimes at once."""

    def __init__(self, lifetimes: int, hidden: int) -> None:
        """Makes a learner and its lifetimes."""
        self._config = LPGMetaConfig(lifetimes=lifetimes, hidden=hidden)
        self._lifetimes = make_lifetimes(TASK, lifetimes, self._config.workers, seed=0)
        self._learner = LPGMeta(self._config, self._lifetimes.spec)
        self.rates: list[float] = []
        """Environment steps per CPU-second of each update."""

    def measure(self) -> None:
        """One update."""
        config, begin = self._config, time.process_time()
        self._lifetimes.renew()
        self._learner.learn(self._lifetimes)
        rollouts = config.agent_updates + 1
        steps = config.lifetimes * config.workers * config.rollout_steps * rollouts
        self.rates.append(steps / (time.process_time() - begin))


def main() -> None:
    """Measures and prints a table."""
    torch.set_num_threads(1)
    print(f"{'units':>5}  {f'{LIFETIMES} at once':>12}  {'one by one':>12}  ratio")
    for hidden in (32, 64):
        together, alone = Subject(LIFETIMES, hidden), Subject(1, hidden)
        for _ in range(UPDATES + 2):
            for subject in (together, alone):
                subject.measure()
        # The first two updates warm up.
        rates = [statistics.median(x.rates[2:]) for x in (together, alone)]
        print(f"{hidden:>5}  {rates[0]:>12,.0f}  {rates[1]:>12,.0f}  {rates[0] / rates[1]:.1f}")


if __name__ == "__main__":
    main()
