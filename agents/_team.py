"""Teams: all agents of an environment learn, with one common policy or with one policy each.

`team_of` makes a team class from the class of any agent that learns from its own rollouts. To its members, the A agents
of V environments are ordinary rows of a batch:

    shared         one member, which sees V * A environments and learns from all agents
    independent    A members, each with its own weights; member i sees the V environments as agent i does

Members do not know of each other: to an independent member, the other agents are part of its environment. An episode begins
and ends for all agents of an environment at the same time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Agent, Learner, Spec, State
from rlbench.seeding import derive


class Team(Agent):
    """Several agents of one class as one agent with stacked observations, actions and rewards, [B, A, ...].

    The members are attributes, so that `rlbench.state` finds them. They draw actions from the team's generator.
    """

    member: ClassVar[type[Agent]]
    """Class of the members."""
    shared: ClassVar[bool]
    """Whether one member acts for all agents."""
    consumes = Trajectories
    explores = True

    def __init__(
        self, config: Any, spec: Spec, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        """Makes the members.

        Args:
            config: Settings of each member.
            spec: Spaces of the team, from `rlbench.teams`.
            seed: Decides the seeds of the members.
            device: See `Learner`.
        """
        super().__init__(config, spec, seed=seed, device=device)
        seen: Any = spec.observation_space
        acts: Any = spec.action_space
        self._agents: tuple[int] = seen.shape[:1]
        one = replace(spec, observation_space=seen.one, action_space=acts.one)
        # Statistics of each environment, such as its discounted return so far, need one entry per row.
        settings = replace(config, envs=config.envs * self._agents[0]) if self.shared else config
        for number in range(1 if self.shared else self._agents[0]):
            drawn = derive(seed, "member", number)
            agent = self.member(settings, one, seed=drawn, device=device)
            agent.act_generator = self.act_generator
            setattr(self, f"agent_{number}", agent)

    @classmethod
    def view(cls, settings: Any) -> str | None:
        """See `Agent`; the view that its members need."""
        return cls.member.view(settings)

    @property
    def members(self) -> list[Agent]:
        """The members, in order."""
        return [value for value in vars(self).values() if isinstance(value, Agent)]

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """Actions [B, A, ...] for observations [B, A, ...]; extras and state are [B, A, ...] too."""
        states: Sequence[State | None] = [None] * len(self.members)
        if state is not None:
            states = self._parts_of(state, 0)
        parts = zip(self.members, self._parts(obs, 0), states, strict=True)
        chosen = [agent.act(part, explore=explore, state=before) for agent, part, before in parts]
        after = [each.state for each in chosen if each.state is not None]
        return Action(
            self._joined([each.action for each in chosen]),
            self._all_joined([each.extras for each in chosen]),
            self._all_joined(after) if after else None,
        )

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """Each member learns from its own rows; returns the means of their metrics.

        Args:
            experience: Observations, actions, rewards and extras are [T, V, A, ...]; ends are [T, V].
        """
        metrics = [
            agent.learn(part)
            for agent, part in zip(self.members, self._rollouts(experience), strict=True)
        ]
        return {name: torch.stack([each[name] for each in metrics]).mean() for name in metrics[0]}

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """Refuses, because a team has no single policy that could be exported."""
        raise UserError(
            "the policies of a team cannot be exported; use rlbench.benchmarks.training.loading.load_run, or "
            "train one agent among partners"
        )

    def _rollouts(self, experience: Trajectories) -> Iterator[Trajectories]:
        """The rollout of each member, [T, V * A, ...] or [T, V, ...]."""
        ends = {
            name: getattr(experience, name)[..., None].expand_as(experience.reward)
            for name in ("terminated", "truncated")
        }
        given = {x.name: getattr(experience, x.name) for x in fields(experience)}
        columns = {name: x for name, x in given.items() if x is not None} | ends
        extras = self._parts_of(columns.pop("extras"), 1)
        states: Sequence[State | None] = [None] * len(self.members)
        if (state := columns.pop("state", None)) is not None:
            states = self._parts_of(state, 0)
        for part, own, before in zip(self._parts_of(columns, 1), extras, states, strict=True):
            yield Trajectories(**part, extras=own, state=before)

    def _parts_of(self, columns: Mapping[str, Tensor], dim: int) -> list[dict[str, Tensor]]:
        """Splits every column among the members; see `_parts`."""
        parts = {name: self._parts(column, dim) for name, column in columns.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(len(self.members))]

    def _parts(self, column: Tensor, dim: int) -> list[Tensor]:
        """The rows of each member, from a column whose dimensions `dim` and `dim + 1` are B and A."""
        if self.shared:
            return [column.flatten(dim, dim + 1)]
        return [part.clone() for part in column.unbind(dim + 1)]

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of `_parts`, with B as the first dimension."""
        return (
            parts[0].unflatten(0, (-1, *self._agents)) if self.shared else torch.stack([*parts], 1)
        )

    def _all_joined(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """`_joined` of each column."""
        return {name: self._joined([part[name] for part in parts]) for name in parts[0]}


def team_of(agent: type[Learner], name: str, kind: str) -> type[Team]:
    """The team class of an agent's class; errors show the name of the latter.

    Args:
        agent: The class.
        name: Name of the learner, in errors.
        kind: `shared` or `independent`.

    Raises:
        UserError: The class does not learn from its own rollouts.
    """
    if not (issubclass(agent, Agent) and agent.explores and agent.consumes is Trajectories):
        raise UserError(
            f"{name} does not learn from rollouts of its own policy, which team tasks require; "
            "choose another agent, such as ppo or a2c"
        )
    return type(
        f"{agent.__name__}Team", (Team,),
        {
            "member": agent, "shared": kind == "shared", "Config": agent.Config, "run": agent.run,
            "__module__": agent.__module__, "__qualname__": agent.__qualname__, "__doc__": Team.__doc__,
        },
    )  # fmt: skip
