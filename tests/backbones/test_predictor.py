"""Scores of agents and models decide their answers, can be differentiated, and are what analyses see."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from rlbench.agents import load_agent
from rlbench.backbones.analyses._predictor import Predictor
from rlbench.backbones.models import MODELS
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Agent, Spec
from tests.agents.case import SPEC, cases, make, observations
from tests.agents.test_on_policy import PAIRS

OBS = Box(-np.inf, np.inf, (2,))
CHOICES = Spec(OBS, Discrete(3, start=1), return_range=(-5.0, 20.0))
SEARCH = ("nas", "nas-evolution", "nas-local", "nas-random")
"""Their observations are sequences of choices, not numbers."""
AGENTS = [
    *(x for x in PAIRS if x.values[0] not in SEARCH),
    *(pytest.param(x.name, SPEC, id=x.name) for x in cases() if not x.spaces),
    *(pytest.param(x, CHOICES, id=f"{x}-Discrete") for x in ("bc", "crr", "recurrent-crr", "decision-transformer")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec"), AGENTS)
def test_the_scores_of_an_agent_decide_its_actions(name: str, spec: Spec) -> None:
    names = {x.name for x in dataclasses.fields(load_agent(name).Config)}
    settings: Any = {"act_mode": "mode"} if "act_mode" in names else {}
    agent = make(name, spec, **settings)
    seen = Predictor(agent)
    obs = observations(agent, (6,), torch.Generator().manual_seed(0))
    before = agent.act(obs).state
    for state in [None] if before is None else [None, before]:
        x = seen.scaled(obs).requires_grad_()
        scores = seen.scores(x, state)
        (gradient,) = torch.autograd.grad(scores.sum(), x)
        assert gradient.shape == obs.shape
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
        action = agent.act(obs, state=state).action
        if agent.chooses:
            start = int(agent.spec.action_space.start)  # type: ignore[attr-defined]
            assert scores.shape == (6, agent.spec.action_space.n)  # type: ignore[attr-defined]
            assert (scores.argmax(1) + start).tolist() == action.tolist()
        elif agent.acting_noise is None:
            low, high = (torch.from_numpy(getattr(spec.action_space, x)) for x in ("low", "high"))
            form: Any = getattr(agent, "form", None)
            if form is not None and not torch.allclose(scores, action):
                scores = form.from_unit(scores.clamp(-1, 1))  # On-policy agents.
            torch.testing.assert_close(torch.clamp(scores, low, high), action)


@pytest.mark.parametrize("mode", ["mode", "argmax-q", "critic-weighted"])
def test_scores_of_crr_are_what_its_way_of_acting_compares(mode: str) -> None:
    agent: Any = make("crr", CHOICES, act_mode=mode)
    obs = torch.randn(6, 2)
    logits, every = agent.policy(obs)[0], torch.eye(3).expand(6, 3, 3)
    values = agent.critic(obs, every).amin(0)
    wanted = {
        "mode": logits, "argmax-q": values, "critic-weighted": logits + values / agent.config.act_temperature,
    }[mode]  # fmt: skip
    found = agent.scores(obs)
    torch.testing.assert_close(found.log_softmax(1), wanted.log_softmax(1))


CLASSIFIERS = ["born-again", "classifier", "mixmatch", "smooth-adversarial", "supermask", "tickets"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_scores_of_a_classifier_are_logits(name: str) -> None:
    kind = MODELS.load(name)
    image = Box(0, 255, (8, 8, 1), dtype=np.uint8)
    fields = {"obs": image, "unlabelled": image, "label": Discrete(4)}
    model = kind(kind.Config(encoder="mlp:units=8"), fields, seed=0)
    if name == "supermask":
        for scores in model.mask_scores:
            scores.data.normal_(generator=torch.Generator().manual_seed(0))
    obs = torch.randint(256, (5, 8, 8, 1), dtype=torch.uint8)
    seen = Predictor(model)
    assert seen.discrete
    assert seen.images
    x = seen.scaled(obs).requires_grad_()
    assert x.min() >= 0
    assert x.max() <= 1
    scores = seen.scores(x)
    torch.testing.assert_close(scores.softmax(1), model.decide(obs))
    assert torch.autograd.grad(scores.sum(), x)[0].abs().sum() > 0


@pytest.mark.parametrize("bottleneck", [True, False])
def test_scores_of_vib_are_those_without_noise(bottleneck: bool) -> None:
    kind = MODELS.load("vib")
    fields = {"obs": Box(-1, 1, (30,), np.float32), "label": Discrete(4)}
    model = kind(kind.Config(bottleneck=bottleneck), fields, seed=0)
    obs = torch.randn(5, 30)
    noise = torch.zeros(5, *model.acting_noise) if bottleneck else None
    torch.testing.assert_close(model.scores(obs).softmax(1), model.decide(obs, noise))


def test_the_classes_of_sets_and_of_other_models_are_refused() -> None:
    image = Box(0, 255, (8, 8, 1), dtype=np.uint8)
    given = Examples({"obs": torch.zeros(2, 8, 8, 1), "label": torch.tensor([0, 3])})
    fields = {"obs": image, "label": Discrete(4)}
    classifier = MODELS.load("classifier")
    model = classifier(classifier.Config(encoder="mlp:units=8"), fields)
    assert Predictor(model).classes(given).tolist() == [0, 3]
    sets = Examples({"obs": torch.zeros(2, 3, 8, 8, 1), "label": torch.zeros(2, 3)})
    with pytest.raises(
        UserError, match="the examples of Classifier are sets of observations; give"
    ):
        Predictor(model).classes(sets)
    pixels = MODELS.load("pixelcnn")
    with pytest.raises(UserError, match="PixelCNN does not classify; give a run of a classifier"):
        Predictor(pixels(pixels.Config(), fields)).classes(given)


def test_every_model_that_returns_probabilities_of_classes_classifies() -> None:
    assert {name for name in MODELS if MODELS.load(name).classifies} == {
        *CLASSIFIERS, "debiasing", "fedavg", "sequence-classifier", "vib",
    }  # fmt: skip


def test_layers_are_found_in_the_order_of_their_use() -> None:
    agent: Any = make("ppo", CHOICES)
    obs = torch.randn(4, 2)
    found = Predictor(agent).layers(obs)
    sizes = [x.shape[1] for x in found.values()]
    assert sizes[-1] == 3
    assert torch.equal([*found.values()][-1], agent.scores(obs))
    assert [name.split()[0] for name in found] == [str(i + 1) for i in range(len(found))]


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_the_output_of_a_memory_is_a_layer(memory: str) -> None:
    agent: Any = make("recurrent-ppo", CHOICES, memory=memory, memory_size=5)
    obs = torch.randn(4, 2)
    found = Predictor(agent).layers(obs)
    state = agent.act(obs).state
    assert any(torch.equal(x, state["hidden"]) for x in found.values())


def test_layers_have_the_same_names_whatever_the_number_of_observations() -> None:
    class Placed(Agent):
        """Adds the projected vector of a position, which has one row."""

        consumes = ()  # type: ignore[assignment]

        def build(self) -> None:
            self.first, self.last = nn.Linear(2, 4), nn.Linear(4, 3)
            self.place = nn.Linear(1, 4)

        def learn(self, experience: Any) -> Any:
            return {}

        def scores(self, obs: Any, state: Any = None) -> Any:
            return self.last(self.place(torch.ones(1, 1)) + self.first(obs))

    seen = Predictor(Placed(None, CHOICES))
    assert [*seen.layers(torch.zeros(4, 2))] == ["2 linear", "3 linear"]
    assert {*seen.layers(torch.zeros(4, 2))} < {*seen.layers(torch.zeros(1, 2))}


def test_a_learner_that_reads_whole_numbers_is_refused() -> None:
    class Reads(Agent):
        consumes = ()  # type: ignore[assignment]

        def build(self) -> None:
            self.table = nn.Embedding(5, 3)

        def learn(self, experience: Any) -> Any:
            return {}

        def scores(self, obs: Any, state: Any = None) -> Any:
            return self.table(obs.long()[:, 0]).detach() + 0 * obs.detach().sum()

    grid = Spec(Box(0, 4, (2,), dtype=np.int64), Discrete(3))
    with pytest.raises(
        UserError, match="reads as whole numbers, codes or detected objects; give a run"
    ):
        Predictor(Reads(None, grid)).check_differentiable(torch.zeros(2, 2))
    hidden = Reads(None, grid)  # Its scores depend on weights, but not on observations.
    hidden.scores = lambda obs, state=None: hidden.table(obs.long()[:, 0])  # type: ignore[method-assign]
    with pytest.raises(UserError, match="has no gradient with respect to its observations"):
        Predictor(hidden).check_differentiable(torch.zeros(2, 2))
    Predictor(hidden).check_numeric(torch.zeros(2, 2))
    tokens = Reads(None, grid)
    tokens.scores = lambda obs, state=None: tokens.table(obs)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="cannot read observations as floating-point numbers"):
        Predictor(tokens).check_differentiable(torch.zeros(2, 2))


def test_an_agent_of_discrete_actions_must_offer_scores() -> None:
    class Silent(Agent):
        consumes = ()  # type: ignore[assignment]

        def learn(self, experience: Any) -> Any:
            return {}

    with pytest.raises(UserError, match="Silent does not provide the scores by which it chooses"):
        Silent(None, CHOICES).scores(torch.zeros(1, 2))
