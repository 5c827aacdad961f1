"""Environment steps of a run, which follow from its updates.

    steps after update u = first + each * u        (0 before the first update)

An agent that learns from replayed transitions takes `first` random steps before its first update (`random_steps`) and `each`
steps before every update (`steps_per_update`, usually 1). An agent that learns from its own rollouts takes `each` = environments
times rollout steps, and `first` = 0. The steps of all parallel environments count; one step of a team is one step. Agents that learn
from data, models and meta-learners take none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Tables of finished runs are printed without PyTorch.
    from rlbench.interface import Agent


@dataclass(frozen=True)
class EnvSteps:
    """Environment steps as a function of updates."""

    first: int
    """Steps before those of the first update."""
    each: int
    """Steps of every update."""

    @classmethod
    def of(cls, agent: "Agent") -> "EnvSteps":
        """The steps of an agent that gathers its own experience."""
        from rlbench.experience import Trajectories

        config = agent.config
        if agent.consumes is Trajectories:
            return cls(0, config.envs * agent.rollout_steps)
        return cls(config.random_steps, getattr(config, "steps_per_update", 1))

    @classmethod
    def saved(cls, config: Mapping[str, Any]) -> "EnvSteps | None":
        """The steps in a config.json; None if its learner takes none or an earlier version began the run."""
        found = config.get("env_steps")
        return None if found is None else cls(found["first"], found["each"])

    def at(self, update: int) -> int:
        """Steps taken when an update ends; 0 for update 0.

        >>> EnvSteps(first=100, each=4).at(10)
        140
        """
        return self.first + self.each * update if update else 0

    def length(self, updates: int) -> str:
        """The length of a run in words.

        >>> EnvSteps(first=0, each=2_048).length(200)
        '200 updates, 409,600 environment steps'
        """
        return f"{updates:,} update{'s' * (updates != 1)}, {self.at(updates):,} environment steps"

    def updates(self, steps: int) -> int:
        """The fewest updates, at least 1, with which a run takes at least `steps` steps.

        >>> EnvSteps(first=0, each=2_048).updates(5_000)
        3
        """
        return max(1, -(-(steps - self.first) // self.each))
