"""What all ways of training a classifier, and contrastive learning, must fulfil: exact resumes, and settings that have an effect."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.learners import load_learner
from rlbench.experience import Examples
from rlbench.interface import Model
from tests.networks import equal, same, tensors

IMAGE = Box(0, 255, (8, 8, 1), dtype=np.uint8)
SPEC: dict[str, Any] = {
    "obs": IMAGE, "next_obs": IMAGE, "unlabelled": IMAGE, "label": Discrete(3), "other": Discrete(3),
    "scores": Box(-np.inf, np.inf, (3,)),
    "factors": Box(0, 2, (2,), dtype=np.int64),
}  # fmt: skip
CLIENTS: dict[str, Any] = {
    "obs": Box(0, 255, (6, 8, 8, 1), dtype=np.uint8), "label": Box(0, 2, (6,), dtype=np.int64), "count": Box(1, 6, (1,), dtype=np.int64),
}  # fmt: skip
ENCODER = {"encoder": "mlp:units=8", "learning_rate": 0.01}
USUAL: dict[str, dict[str, Any]] = {
    "born-again": ENCODER | {"generations": 3, "cycle_updates": 2, "batch_size": 8},
    "contrastive": ENCODER | {"embedding_size": 4, "learning_rate": 0.1, "batch_size": 8},
    "fedavg": ENCODER | {"local_epochs": 2, "local_batch_size": 4, "batch_size": 3},
    "mixmatch": ENCODER | {"ramp_updates": 3, "average": 0.9, "batch_size": 4},
    "supermask": ENCODER | {"samples": 2, "batch_size": 8, "learning_rate": 100.0},
    "tickets": ENCODER
    | {"encoder": "mlp:units=8-6", "rounds": 2, "round_updates": 2, "keep": 0.5, "batch_size": 8},
    "smooth-adversarial": ENCODER | {"samples": 20, "cycle_updates": 8, "batch_size": 4},
}
"""Small settings of each."""
CHANGES: dict[str, Any] = {
    "encoder": "mlp:units=9", "label": "other", "learning_rate": 0.02, "momentum": 0.5, "weight_decay": 0.1, "cycle_updates": 4,
    "generations": 2, "teacher": "scores", "label_weight": 0.5, "temperature": 2.0, "embedding_size": 5,
    "lipschitz_weight": 1.0, "local_epochs": 1, "local_batch_size": None, "copies": 3, "mixing": 0.0, "unlabelled_weight": 1.0,
    "ramp_updates": 9, "shift": 0, "average": 0.5, "decay": 0.5, "sigma": 0.1, "noises": 3, "attack_steps": 1, "radius": 0.1,
    "warmup_updates": 9, "attack": "gaussian", "constants": False, "rescale": False, "rounds": 1, "round_updates": 3,
    "rewind_updates": 1, "keep": 0.8, "keep_output": 0.5, "together": True, "criterion": "small_final", "kept": "reinit",
    "pruned": "freeze_init", "optimizer": "sgd",
}  # fmt: skip
OBJECTIVES = {"born-again": "dkpp", "contrastive": "cpc"}
NOT_LEARNED = {"samples", "batch_size"}
"""Settings of measurements, and what the driver reads."""


def batch(name: str, seed: int = 0, rows: int | None = None) -> Examples:
    """Random images with labels that they show, as many as a batch has."""
    spec, count = CLIENTS if name == "fedavg" else SPEC, rows or USUAL[name]["batch_size"]
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, (count, *shape), generator=generator)

    columns = {}
    for key, space in spec.items():
        shape = space.shape or ()
        columns[key] = draw(256, *shape).to(torch.uint8) if "obs" in key or key == "unlabelled" else draw(3, *shape)  # fmt: skip
    if name == "fedavg":
        columns["count"] = 1 + draw(6, 1)
    return Examples(columns)


def make(name: str, seed: int = 0, **settings: Any) -> Model:
    learner = load_learner(name)
    config = learner.Config(**USUAL[name] | settings)
    return learner(config, CLIENTS if name == "fedavg" else SPEC, seed=seed)  # type: ignore[return-value]


def train(model: Model, name: str, updates: int, first: int = 0) -> Model:
    for seed in range(first, first + updates):
        metrics = model.learn(batch(name, seed))
        assert all(x.isfinite() and not x.requires_grad for x in metrics.values())
    return model


@pytest.mark.parametrize("name", USUAL)
def test_a_resume_at_any_update_is_exact(name: str) -> None:
    whole = train(make(name), name, 6)
    assert not equal(whole, train(make(name), name, 5))
    for at in (1, 2, 3, 5):
        first = train(make(name), name, at)
        second = make(name, seed=1)
        second.load_state_dict(first.state_dict())
        assert equal(train(second, name, 6 - at, first=at), whole)


@pytest.mark.parametrize("name", USUAL)
def test_measuring_changes_nothing_and_has_a_finite_number_for_each_example(name: str) -> None:
    model, quiet = (train(make(name), name, 3) for _ in range(2))
    columns = ExamplesEvaluator(batch(name, 9, rows=7)).columns(model, seed=0)
    for measure in model.measures:
        assert columns[measure.name].shape == (7,)
    assert equal(train(model, name, 2, first=3), train(quiet, name, 2, first=3))


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        (name, field.name)
        for name in USUAL
        for field in dataclasses.fields(load_learner(name).Config)
        if field.name not in NOT_LEARNED
    ],
)
def test_every_setting_has_an_effect(name: str, setting: str) -> None:
    changed: Any = OBJECTIVES[name] if setting == "objective" else CHANGES[setting]
    usual: dict[str, Any] = {}
    found = [
        tensors(train(make(name, **x), name, 6).state_dict()) for x in (usual, {setting: changed})
    ]
    assert not same(*found)


def test_the_samples_of_a_measurement_have_an_effect() -> None:
    for name, column in (("smooth-adversarial", "radius"), ("supermask", "loss")):
        found = [
            ExamplesEvaluator(batch(name, rows=6)).columns(make(name, samples=n), seed=0)[column]
            for n in (20, 200)
        ]
        assert (found[0] != found[1]).any()
