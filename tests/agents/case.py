"""What the tests of every agent need to know about an agent, declared in the agent's own test file.

A test file declares `CASE = Case("bear", ...)`, or `CASES = (...)` if it tests several agents.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box
from torch import Tensor

from rlbench.agents import load_agent
from rlbench.backbones.memories import forget
from rlbench.experience import Experience, Trajectories, Transitions
from rlbench.interface import Action, Agent, Spec

LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)
MEAN, STD = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
SPEC = Spec(
    Box(-np.inf, np.inf, (2,)),
    Box(LOW, HIGH),
    obs_mean=MEAN,
    obs_std=STD,
    return_range=(-5.0, 20.0),
)
ROLLOUT: dict[str, Any] = {"envs": 4, "rollout_steps": 6}

Change = tuple[Any, dict[str, Any]]
"""The new value of a setting, and other settings that it needs to have an effect."""


def critics_of(agent: Any, obs: Tensor, action: Tensor) -> Tensor:
    """The values of an agent's critics, [critics, B]."""
    values: Tensor = agent.critic(obs, action)
    return values


@dataclass(frozen=True)
class Case:
    """How an agent is tested."""

    name: str
    """Name, as in `rlbench run NAME`."""
    small: Mapping[str, Any]
    """Settings of small networks, with which a test is fast."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """For each setting, a value that changes the weights; a number that is not listed is changed automatically."""
    fast: Mapping[str, Any] = field(default_factory=dict)
    """Settings with which it solves the probe environments in 200 updates; if empty, it is not tested on them."""
    critic_values: Callable[[Any, Tensor, Tensor], Tensor] | None = critics_of
    """Maps an agent, observations and actions to the critics' values, [critics, B]; None if it has no critics."""
    spaces: tuple[type[Space[Any]], ...] = ()
    """Action spaces with which test_on_policy.py checks an agent that learns from its own steps or only with discrete
    actions; if empty, test_every_agent.py checks it on batches of data."""
    driver_settings: tuple[str, ...] = ()
    """Settings that the agent does not read, in addition to those that no agent reads."""
    observations: Box | None = None
    """The only observation space with which test_on_policy.py checks the agent; two numbers or images if None."""

    def change(self, setting: str) -> Change:
        """Another value of a setting."""
        if setting in self.changes:
            return self.changes[setting]
        default = self.small.get(setting, getattr(load_agent(self.name).Config(), setting))
        if isinstance(default, bool):
            return not default, {}
        if isinstance(default, tuple):
            return tuple(2 * size for size in default), {}
        assert isinstance(default, (int, float)), f"{self.name}: `changes` lacks {setting}"
        return (default + 1 if isinstance(default, int) else default / 2), {}


@cache
def cases() -> tuple[Case, ...]:
    """All cases that are declared in the test files of this folder, sorted by name."""
    found: list[Case] = []
    for file in Path(__file__).parent.glob("test_*.py"):
        if re.search(r"^CASES? = ", file.read_text(encoding="utf-8"), re.MULTILINE):
            declared = vars(import_module(f"tests.agents.{file.stem}"))
            found += declared.get("CASES") or (declared["CASE"],)
    return tuple(sorted(found, key=lambda case: case.name))


def case_of(name: str) -> Case:
    """The case of an agent."""
    return next(case for case in cases() if case.name == name)


def make(name: str, spec: Spec = SPEC, seed: int = 0, **settings: Any) -> Agent:
    """A small agent."""
    agent_class = load_agent(name)
    return agent_class(agent_class.Config(**{**case_of(name).small, **settings}), spec, seed=seed)


def noise(agent: Agent, rows: int) -> Tensor:
    """Observations of the agent's shape without meaning, [B, ...]."""
    return observations(agent, (rows,), None)


def observations(agent: Agent, lead: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Random observations [*lead, ...]; 0 to 3 if they are whole numbers."""
    space = agent.spec.observation_space
    shape = (*lead, *(space.shape or ()))
    if np.issubdtype(space.dtype or np.float32, np.integer):
        return torch.randint(4, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def experience(agent: Agent, seed: int) -> Experience:
    """Random experience with the agent's own actions; a third of the steps terminate and a third are truncated."""
    drawn = torch.Generator().manual_seed(seed)
    shape = (24,) if agent.consumes is Transitions else (6, 4)
    obs, next_obs = (observations(agent, shape, drawn) for _ in range(2))
    reward = torch.randn(shape, generator=drawn)
    ends = torch.randint(3, shape, generator=drawn)
    terminated, truncated = (ends == 0).float(), (ends == 1).float()
    if agent.consumes is Transitions:
        action = agent.act(obs, explore=True).action
        return Transitions(obs, action, reward, next_obs, terminated, truncated)
    steps: list[Action] = []
    for t, row in enumerate(obs):
        state = steps[-1].state if steps else None
        if state is not None:
            state = forget(state, terminated[t - 1] + truncated[t - 1])
        steps.append(agent.act(row, explore=True, state=state))
    extras = {name: torch.stack([x.extras[name] for x in steps]) for name in steps[0].extras}
    action = torch.stack([x.action for x in steps])
    return Trajectories(obs, action, reward, terminated, truncated, next_obs, extras)
