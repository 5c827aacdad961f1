"""What the base class does for a learner: weights from its seed, networks on its device, the default of `act`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.accelerate.compile import why_not
from rlbench.agents import load_agent
from rlbench.backbones.optim import Adam, gradient_step
from rlbench.custom import checked_class
from rlbench.errors import UserError
from rlbench.experience import Examples, Transitions
from rlbench.interface import Action, Agent, Model, Spec, State
from rlbench.measures import Measure
from rlbench.seeding import derive, initialising
from tests.agents.case import SPEC
from tests.agents.test_every_agent import train
from tests.networks import equal


@dataclass(frozen=True)
class Config:
    learning_rate: float = 1e-2
    batch_size: int = 32


class Learns(Agent):
    """Learns an action for each observation; each subclass is complete in its own way."""

    Config = Config
    consumes = Transitions
    net: nn.Linear
    optimizer: Adam

    def learn(self, experience: Transitions) -> Mapping[str, Tensor]:
        loss = (self.net(experience.obs) - experience.action).square().mean()
        return {"loss": gradient_step(self.optimizer, loss)}


class Built(Learns):
    """An agent as in the documentation."""

    def build(self) -> None:
        self.net = nn.Linear(2, 2)
        self.optimizer = Adam(self.net.parameters(), self.config.learning_rate)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        out: Tensor = self.net(obs)
        return out


class Overrides(Learns):
    """Overrides the constructor and `act`, and has no `build`."""

    def __init__(
        self, config: Config, spec: Spec, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(config, spec, seed=seed, device=device)
        with initialising(derive(seed, "weights")):
            self.net = nn.Linear(2, 2)
        self.net.to(self.device)
        self.optimizer = Adam(self.net.parameters(), config.learning_rate)

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        return Action(self.net(obs))


class Early(Built):
    """Sets a network before the base class has a device."""

    def __init__(self, config: Config, spec: Spec, **options: Any) -> None:
        self.first = nn.Linear(1, 1)
        super().__init__(config, spec, **options)


class Noisy(Built):
    """Its actions are random, with or without exploration."""

    @property
    def acting_noise(self) -> tuple[int, ...]:
        return (3, 2)

    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        assert noise is not None
        return super().decide(obs) + noise.sum(1)


class Explores(Built):
    def explore(self, obs: Tensor) -> Action:
        return Action(self.decide(obs) + 1)


class Unbuilt(Learns):
    def decide(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        return obs


class Mute(Learns):
    def build(self) -> None:
        """Makes nothing."""


class Lazy(Model):
    Config = Config
    measures = (Measure("number"),)

    def learn(self, experience: Examples) -> Mapping[str, Tensor]:
        return {}

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        return {}


HERE = "tests.rlbench.test_building"


def make(kind: type[Agent], seed: int = 0) -> Any:
    return kind(Config(), SPEC, seed=seed)


def test_an_agent_that_overrides_the_constructor_equals_one_that_is_built() -> None:
    assert load_agent(f"{HERE}:Overrides") is Overrides
    built, other = train(make(Built, 3), 5), train(make(Overrides, 3), 5)
    assert equal(built, other)
    obs = torch.randn(4, 2)
    assert torch.equal(built.act(obs).action, other.act(obs, explore=True).action)
    resumed = make(Overrides, 4)
    resumed.load_state_dict(built.state_dict())
    assert equal(built, resumed)


def test_weights_come_from_the_seed_and_the_global_generator_stays_where_it_was() -> None:
    before = torch.get_rng_state()
    assert equal(make(Built, 1), make(Built, 1))
    assert not torch.equal(make(Built, 1).net.weight, make(Built, 2).net.weight)
    assert torch.equal(before, torch.get_rng_state())


class Watched(nn.Linear):
    """Records where it is moved to."""

    def to(self, *place: Any, **options: Any) -> Any:
        self.places = [*getattr(self, "places", []), *place]
        return self


def test_a_network_is_on_the_device_once_it_is_an_attribute() -> None:
    class Moves(Built):
        def build(self) -> None:
            self.net = Watched(2, 2)
            assert self.net.places == [self.device], "before an optimiser can be made"
            self.optimizer = Adam(self.net.parameters(), 0.1)

    agent = make(Moves)
    assert agent.net.places == [torch.device("cpu")]
    assert "first" in make(Early).state_dict(), "nor does it matter without a device"


@pytest.mark.parametrize("explore", [False, True])
def test_acting_draws_the_noise_of_decide_from_its_own_generator(explore: bool) -> None:
    agent, obs = make(Noisy), torch.randn(4, 2)
    learning = agent.generator.get_state()
    drawn = torch.Generator().manual_seed(derive(0, "act"))
    for _ in range(2):
        noise = torch.randn(4, 3, 2, generator=drawn)
        found = agent.act(obs, explore=explore).action
        assert torch.equal(found, agent.decide(obs, noise))
        assert not found.requires_grad
    assert torch.equal(learning, agent.generator.get_state())


def test_exploring_has_its_own_method() -> None:
    agent, obs = make(Explores), torch.randn(4, 2)
    assert torch.equal(agent.act(obs, explore=True).action, agent.act(obs).action + 1)
    assert not agent.act(obs, explore=True).action.requires_grad


@pytest.mark.parametrize(
    ("name", "lacks"), [("Unbuilt", "build"), ("Mute", "decide"), ("Learns", "build and decide")]
)
def test_a_method_that_is_missing_is_named(name: str, lacks: str) -> None:
    with pytest.raises(UserError) as error:
        load_agent(f"{HERE}:{name}")
    assert str(error.value) == (
        f"agent '{HERE}:{name}': the class {name} has no method {lacks}; see rlbench.interface.Agent"
    )


def test_a_model_needs_build_too() -> None:
    with pytest.raises(UserError, match="the class Lazy has no method build; see"):
        checked_class(Lazy, Model, "mine")  # type: ignore[type-abstract]


def test_a_custom_agent_is_compiled_only_if_it_says_that_it_may_be() -> None:
    assert why_not(make(Built)) == "Built has no compiled form"
