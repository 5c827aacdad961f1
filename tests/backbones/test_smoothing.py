"""Randomised smoothing and SmoothAdv: bounds, certificates and attacks by hand, for a linear classifier and in general."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.backbones.analyses._base import Findings
from rlbench.backbones.analyses.certify import Certify, CertifyConfig
from rlbench.backbones.layers.smoothing import (
    attacked,
    certificates,
    lower_bound,
    noisy_counts,
    smoothed_loss,
)
from rlbench.backbones.models import MODELS
from rlbench.backbones.models.smooth_adversarial import SmoothAdversarial, SmoothAdversarialConfig
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Agent, Spec
from tests.agents.case import make as make_agent
from tests.backbones.test_ways_of_training import SPEC, batch

SETTINGS: dict[str, Any] = {
    "encoder": "mlp:units=8", "learning_rate": 0.1, "batch_size": 4, "cycle_updates": None, "warmup_updates": 0,
    "momentum": 0.0, "weight_decay": 0.0,
}  # fmt: skip


def make(spec: dict[str, Any] = SPEC, **settings: Any) -> SmoothAdversarial:
    return SmoothAdversarial(SmoothAdversarialConfig(**SETTINGS | settings), spec, seed=0)


def halves(x: Tensor) -> Tensor:
    """A linear classifier in one dimension: class 1 above 0."""
    return torch.cat([-x, x], dim=1)


def test_the_bound_of_clopper_and_pearson_is_the_published_one() -> None:
    # If all n draws agree, the bound is alpha^(1 / n).
    assert lower_bound(np.array([100]), 100, 0.001)[0] == pytest.approx(0.001 ** (1 / 100))
    assert lower_bound(np.array([0]), 100, 0.001)[0] == 0
    # The definition: with this probability, as many successes or more have the probability alpha.
    p = lower_bound(np.array([8]), 10, 0.05)[0]
    tail = sum(math.comb(10, k) * p**k * (1 - p) ** (10 - k) for k in (8, 9, 10))
    assert tail == pytest.approx(0.05)


def test_counts_of_a_linear_classifier_are_those_of_a_normal_distribution() -> None:
    x = torch.tensor([[0.0], [0.5], [-1.0]])
    counts = noisy_counts(halves, x, 0.5, 4_000, torch.Generator().manual_seed(0))
    assert counts.sum(1).tolist() == [4_000] * 3
    shares = (counts[:, 1] / 4_000).tolist()
    assert shares == pytest.approx([0.5, 0.8413, 0.0228], abs=0.025)


def test_a_certificate_is_at_most_the_distance_to_the_boundary_of_a_linear_classifier() -> None:
    x = torch.linspace(-1.2, 1.2, 25)[:, None]
    generator = torch.Generator().manual_seed(0)
    few, many = (noisy_counts(halves, x, 0.5, n, generator) for n in (100, 2_000))
    answer, radius = certificates(few, many, 0.5, 0.001)
    far = np.abs(x[:, 0].numpy())
    assert (radius <= far + 1e-6).all()
    assert (radius[far > 0.3] > 0.7 * np.minimum(far[far > 0.3], 1.0)).all()
    certified = answer >= 0
    assert (answer[certified] == (x[certified, 0] > 0).numpy()).all()
    assert not certified[np.argmin(far)]


def test_a_certificate_needs_a_majority_and_draws_of_its_own() -> None:
    few = torch.tensor([[60, 40], [60, 40], [1, 99]])
    many = torch.tensor([[500, 500], [100, 900], [0, 1_000]])
    answer, radius = certificates(few, many, 1.0, 0.001)
    assert answer.tolist() == [-1, -1, 1]
    assert radius[:2].tolist() == [0, 0]
    # The largest radius of 1,000 draws, about 2.46 sigma.
    assert radius[2] == pytest.approx(2.46, abs=0.01)


def test_the_soft_smoothed_loss_is_that_of_the_mean_probability() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 3, 0])
    p = logits.softmax(-1).mean(0)[torch.arange(5), label]
    assert torch.allclose(smoothed_loss(logits, label), -p.log(), atol=1e-6)


def test_an_attack_raises_the_loss_of_the_smoothed_classifier() -> None:
    model, given = make(sigma=0.1, attack_steps=5, noises=8), batch("smooth-adversarial", rows=16)
    for _ in range(20):
        model.learn(given)
    x, label = given["obs"].float() / 255, given["label"]
    noise = 0.1 * torch.randn(8, *x.shape)
    before = smoothed_loss(model._each(x, noise), label)
    moved = attacked(model.scaled_logits, x, label, noise, torch.full((16,), 0.5), 5)
    after = smoothed_loss(model._each(moved, noise), label)
    assert (after > before).float().mean() > 0.9
    assert ((moved - x).flatten(1).norm(dim=1) <= 0.5 + 1e-5).all()
    assert ((moved >= 0) & (moved <= 1)).all()
    free = attacked(model.scaled_logits, x, label, noise, torch.full((16,), 2.0), 5, bounded=False)
    assert ((free < 0) | (free > 1)).any()


def test_the_attack_grows_in_the_first_updates() -> None:
    model, given = make(warmup_updates=4), batch("smooth-adversarial")
    x, noise = given["obs"].float() / 255, torch.zeros(1, *given["obs"].shape)
    for updates, norm in ((0, 0.125), (1, 0.25), (3, 0.5), (9, 0.5)):
        model.updates = updates
        moved = model._attacked(x, noise, given["label"])
        far = (moved - x).flatten(1).norm(dim=1)
        assert (far <= norm + 1e-5).all()
        assert far.max() > 0.8 * norm


def test_without_an_attack_or_noise_it_is_a_classifier() -> None:
    model, given = make(attack="none"), batch("smooth-adversarial")
    expected = torch.nn.functional.cross_entropy(model.scores(given["obs"]), given["label"])
    assert model.learn(given)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    noisy = make(attack="gaussian", sigma=5.0).learn(given)["loss"]
    assert abs(noisy.item() - expected.item()) > 1e-3


def test_other_observations_and_encoders_are_refused() -> None:
    with pytest.raises(UserError, match="give a source of images of bytes"):
        make({**SPEC, "obs": Box(-1, 1, (3,))}, encoder="flatten")
    with pytest.raises(UserError, match="an attack needs the gradient of each example alone"):
        make(encoder="conv4:width=4,layers=2,norm=bn")


def test_the_analysis_certifies_what_the_model_answers() -> None:
    model, given = make(sigma=0.1, attack="gaussian"), batch("smooth-adversarial", rows=12)
    for _ in range(60):
        model.learn(given)
    settings = CertifyConfig(sigma=0.1, samples=500, examples=10, attack_steps=3)
    with torch.no_grad():  # As in `rlbench analyse`.
        found = Certify(settings).analyse([model], {"any": given})
    radius, answer = found.columns["radius"], found.columns["answer"]
    assert len(radius) == 10
    assert found.numbers["mean certified radius"] == pytest.approx(radius.mean())
    assert (radius > 0).any()
    assert (radius[answer != found.columns["label"]] == 0).all()
    assert found.numbers["broken certificates"] == 0
    (line,) = found.panels[0].lines
    assert line.value[0] == found.numbers["certified accuracy"]
    assert (np.diff(line.value) <= 0).all()
    quiet = Certify(CertifyConfig(samples=20, attack_steps=0)).analyse([model], {"any": given})
    assert "broken certificates" not in quiet.numbers


def certified_agent(agent: Agent, obs: Tensor, **settings: Any) -> Findings:
    analysis = Certify(CertifyConfig(sigma=0.25, samples=400, examples=len(obs), **settings))
    analysis.observations = lambda count: obs[:count]
    with torch.no_grad():
        return analysis.analyse([agent], {})


def test_the_action_of_an_agent_is_certified_in_deviations_of_each_number() -> None:
    agent: Any = make_agent("ppo", Spec(Box(-np.inf, np.inf, (2,)), Discrete(2)))
    # The first number decides; the second one never changes, so that no noise reaches it.
    agent.scores = lambda obs, state=None: torch.stack(
        [obs[:, 0], -obs[:, 0] + 1e6 * (obs[:, 1] - 7)], 1
    )
    obs = torch.tensor([[100.0, 7], [-100, 7], [10, 7], [-10, 7]])
    found = certified_agent(agent, obs)
    assert found.columns["label"].tolist() == [0, 1, 0, 1]
    deviation = float(obs[:, 0].std(correction=0))
    # The true radius is the distance in deviations; the bound of 400 draws is a little smaller, and never above 2.11 sigma.
    assert (found.columns["radius"][2:] <= 10 / deviation).all()
    assert (found.columns["radius"][2:] > 0).all()
    assert found.columns["radius"][:2] == pytest.approx([0.25 * 2.11] * 2, abs=0.01)
    assert found.numbers["certified agreement"] == 1.0
    assert found.numbers["broken certificates"] == 0


def test_the_analysis_refuses_other_learners() -> None:
    given = Examples({"obs": torch.zeros(3, 2), "label": torch.zeros(3, dtype=torch.int64)})
    image = {"obs": Box(0, 255, (8, 8, 1), np.uint8)}
    pretext = MODELS.load("pretext")(
        MODELS.load("pretext").Config(encoder="conv4:width=4,layers=2"), image
    )
    with pytest.raises(
        UserError, match="Pretext has no classes or discrete actions; give a run of a classifier"
    ):
        Certify(CertifyConfig()).analyse([pretext], {"any": given})
    box = Box(-1, 1, (2,))
    with pytest.raises(UserError, match="PPO has no classes or discrete actions"):
        certified_agent(make_agent("ppo", Spec(box, box)), torch.zeros(3, 2))
    with pytest.raises(UserError, match="RecurrentPPO has a memory"):
        certified_agent(make_agent("recurrent-ppo", Spec(box, Discrete(2))), torch.zeros(3, 2))
