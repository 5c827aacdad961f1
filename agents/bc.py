"""Behaviour cloning (BC).

Imitate the actions of the data, by least squares or by maximum likelihood of a distribution:

    deterministic:  minimise  E[ |pi(s) - a|^2 ],      pi(s) = tanh(net(s))
    the others:     maximise  E[ log pi(a | s) ]

Pomerleau, 1991, "Efficient Training of Artificial Neural Networks for Autonomous Navigation";
the deterministic form as in CORL, the tanh-gaussian as in BRAC (Wu et al., 2019,
https://arxiv.org/abs/1911.11361), the others as in CRR, whose weight `all` with plain layers gives the
same updates.

Differences from the sources: BRAC adds an entropy bonus with a learned weight; here the bounds of
log std alone keep the policy from collapsing.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.backbones.encoders import Encoded
from rlbench.backbones.heads.networks import mlp
from rlbench.backbones.heads.policies import Choice, Policy, PolicyKind, make_policy
from rlbench.backbones.layers.mlp import Network
from rlbench.backbones.layers.normalise import obs_normaliser
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionChoices, action_form
from rlbench.checks import same_shape
from rlbench.experience import Transitions
from rlbench.interface import Action, Agent, State


@dataclass(frozen=True, kw_only=True)
class BCConfig(ObservingConfig):
    """Settings of BC."""

    policy: Literal["deterministic"] | PolicyKind = "deterministic"
    """Least squares on one action per state, or maximum likelihood of a distribution; discrete actions always
    have a distribution over all of them."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layer sizes of the policy."""
    batch_size: int = 256
    """Transitions in one update."""
    learning_rate: float = 3e-4
    """Adam step size."""
    normalise_obs: bool = True
    """Bring observations to zero mean and unit variance with the statistics of the data set."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        check(self)


def squared_error(action: Tensor, data_action: Tensor) -> Tensor:
    """Mean squared difference of actions in [-1, 1], both [B, A]."""
    same_shape(action, data_action)
    return (action - data_action).square().mean()


class BC(Agent):
    """Behaviour cloning."""

    Config: ClassVar[type] = BCConfig
    consumes = Transitions
    config: BCConfig

    def build(self) -> None:
        """The policy and its optimiser."""
        config, spec = self.config, self.spec
        self.form = action_form(spec.action_space, self.device)
        see, size = partial(config.observations, spec), self.form.size
        self.policy: Network | Encoded | Policy
        if isinstance(self.form, ActionChoices):
            self.policy = Choice(see(), size, config.hidden)
        elif config.policy == "deterministic":
            self.policy = mlp(see(), config.hidden, size)
        else:
            self.policy = make_policy(config.policy, see(), size, config.hidden)
        self.normaliser = obs_normaliser(spec, enabled=config.normalise_obs)
        self.optimizer = Adam(self.policy.parameters(), config.learning_rate)

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy, if it is a distribution."""
        if not isinstance(self.policy, Policy):
            return super().explore(obs)
        sample = self.policy.draw(self.normaliser(obs), self.act_generator)
        return Action(self.form.from_unit(sample))

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """The action of the policy, its mode if it is a distribution."""
        obs, policy = self.normaliser(obs), self.policy
        out = policy(obs)
        return self.form.from_unit(policy.mode(out) if isinstance(policy, Policy) else out.tanh())

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of the actions if they are discrete."""
        return self.policy(self.normaliser(obs))[0] if self.chooses else super().scores(obs)

    def phase(self) -> Hashable:
        """One: all updates are alike."""
        return "update"

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        """One step towards the actions of the data."""
        obs, action = self.normaliser(experience.obs), self.form.to_unit(experience.action)
        if isinstance(self.policy, Policy):
            loss = -self.policy.log_prob(self.policy(obs), action).mean()
        else:
            loss = squared_error(self.policy(obs).tanh(), action)
        return {"policy_loss": gradient_step(self.optimizer, loss)}
