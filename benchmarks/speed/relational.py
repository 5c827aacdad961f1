"""`python -m rlbench.benchmarks.speed.relational`: CPU-seconds of an update of relational models.

An update is one gradient step on whole episodes: 64 of Coin Game or 32 of Stag Hunt with four agents. It is compared with
a simple form, in which the network reads one step at a time, so that nothing is computed for all steps at once. The updates
of both alternate, so that other load on the machine affects them equally. The script also measures the
engine of the games, with 512 environments, features of nodes and scripted agents.
"""

import statistics
import time
from typing import Any

import torch
from torch import Tensor

from rlbench.backbones.layers._relational import Prediction
from rlbench.backbones.layers.relational import NETWORKS
from rlbench.backbones.models._relational import RelationalConfig
from rlbench.backbones.models.rfm_predictor import RFMPredictor
from rlbench.envs.examples.episodes import Episodes
from rlbench.envs.social.engine import GridGame
from rlbench.envs.social.scripted import TEAMS, Scripted
from rlbench.experience import Examples

BATCHES = {"coin": 64, "stag-hunt-4p": 32}
UPDATES = 7
ENVS, STEPS = 512, 64


class StepByStep(RFMPredictor):
    """The simple form: one call of the network for each step."""

    def predict(self, examples: Examples, noise: torch.Generator | None = None) -> Prediction:
        """See `RelationalModel`; without noise."""
        outputs: list[Tensor] = []
        state, begins = None, torch.zeros(len(examples))
        for nodes in examples["obs"].unbind(1):
            out, state, _ = self.network.step(nodes, begins, state)
            outputs.append(out)
        return Prediction(torch.stack(outputs), state or {}, {})


class Subject:
    """A model and the episodes of its updates."""

    def __init__(self, kind: type[RFMPredictor], game: str, network: str) -> None:
        """Makes the model and draws the episodes."""
        source = Episodes(game)
        columns = source.sample("train", BATCHES[game], 0)
        self._examples = Examples({name: torch.from_numpy(x) for name, x in columns.items()})
        self._model = kind(RelationalConfig(network=network), source.fields)
        self.seconds: list[float] = []
        """CPU-seconds of each update."""

    def measure(self) -> None:
        """One update."""
        begin = time.process_time()
        self._model.learn(self._examples)
        self.seconds.append(time.process_time() - begin)


def engine(game: str) -> float:
    """Steps of the engine per CPU-second."""
    envs = GridGame(game, ENVS)
    policy: Any = Scripted(TEAMS[envs.game.kind])
    begin = time.process_time()
    for _ in range(STEPS):
        envs.graph()
        _, terminated, truncated = envs.step(policy(envs))
        envs.reset(terminated | truncated)
    return ENVS * STEPS / (time.process_time() - begin)


def main() -> None:
    """Measures all and prints a table."""
    torch.set_num_threads(1)
    print(f"{'game':<13} {'network':<9} {'seconds':>8} {'simple form':>12}  ratio")
    for game in BATCHES:
        for network in NETWORKS:
            subjects = [Subject(kind, game, network) for kind in (RFMPredictor, StepByStep)]
            for _ in range(UPDATES + 1):
                for subject in subjects:
                    subject.measure()
            # The first update warms up.
            ours, simple = (statistics.median(x.seconds[1:]) for x in subjects)
            print(f"{game:<13} {network:<9} {ours:>8.3f} {simple:>12.3f}  {simple / ours:.1f}")
    for game in BATCHES:
        print(f"{game}: {statistics.median(engine(game) for _ in range(3)):,.0f} engine steps/s")


if __name__ == "__main__":
    main()
