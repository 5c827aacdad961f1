"""CPC and WPC: losses and penalty by hand and by finite differences, the linear classifiers, and the grids of digits."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rlbench.backbones.models.contrastive import (
    Contrastive,
    ContrastiveConfig,
    contrastive_losses,
    lipschitz_penalty,
)
from rlbench.envs.examples import find_source
from rlbench.envs.examples._base import SPLITS
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import evaluating
from tests.backbones.test_ways_of_training import SPEC, batch

VECTORS: dict[str, Any] = {"obs": Box(-9, 9, (3,)), "next_obs": Box(-9, 9, (3,))}


def make(spec: dict[str, Any] = SPEC, **settings: Any) -> Contrastive:
    usual: dict[str, Any] = {"encoder": "mlp:units=8", "embedding_size": 4, "batch_size": 8}
    return Contrastive(ContrastiveConfig(**usual | settings), spec, seed=0)


def test_the_loss_is_the_classification_of_the_true_pair() -> None:
    critic = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    expected = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-1))]
    assert contrastive_losses(critic).tolist() == pytest.approx(expected)
    assert contrastive_losses(torch.zeros(5, 5)).tolist() == pytest.approx([math.log(5)] * 5)


def test_the_penalty_counts_norms_above_one_over_both_observations() -> None:
    x, y = torch.tensor([[0.3], [3.0]]), torch.tensor([[0.4], [4.0]])
    assert lipschitz_penalty((x, y)).item() == pytest.approx(((5 - 1) ** 2 + 0) / 2)
    zero = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(lipschitz_penalty((zero,)), zero)
    assert gradient.isfinite().all()


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope() -> None:
    """With h constant, f(x, y) = x_0 w for every pair, and the slope is w."""
    model = make(VECTORS, encoder="flatten", embedding_size=1)
    with torch.no_grad():
        for layer in (model.embedding, model.other_embedding):
            layer.weight.zero_()
            layer.bias.zero_()
        model.embedding.weight[0, 0] = 3.0
        model.other_embedding.bias.fill_(1.0)
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    assert model._penalty(x, y).item() == pytest.approx(4.0, rel=1e-5)
    # The slope along y counts as much as the one along x.
    model.embedding, model.other_embedding = model.other_embedding, model.embedding
    assert model._penalty(x, y).item() == pytest.approx(4.0, rel=1e-5)


def test_each_x_has_to_recognise_its_y() -> None:
    model, given = make(objective="cpc"), batch("contrastive")
    one, other = model.features(given["obs"]), model.other_features(given["next_obs"])
    expected = contrastive_losses(one @ other.T).mean().item()
    assert expected != pytest.approx(contrastive_losses(other @ one.T).mean().item(), rel=1e-4)
    metrics = model.learn(given)
    assert metrics["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert metrics["information"].item() == pytest.approx(math.log(8) - expected, abs=1e-5)


def test_images_have_the_slope_for_values_up_to_one() -> None:
    model = make()
    with torch.no_grad():
        for name, weight in model.other_embedding.named_parameters():
            weight.fill_(1.0 if name == "bias" else 0.0)
    x, y = batch("contrastive")["obs"], batch("contrastive")["next_obs"]
    found = model._penalty(x, y).item()
    scaled = (x.float() / 255).requires_grad_()
    values = model.features(255 * scaled).sum()
    (gradient,) = torch.autograd.grad(values, scaled)
    assert found == pytest.approx(lipschitz_penalty((gradient,)).item(), rel=1e-4)


def test_the_penalty_keeps_the_critic_flat() -> None:
    norms = {}
    for objective in ("cpc", "wpc"):
        model = make(objective=objective, learning_rate=0.01)
        for seed in range(60):
            model.learn(batch("contrastive", seed % 4))
        given = batch("contrastive")
        norms[objective] = model._penalty(given["obs"], given["next_obs"]).item()
    assert norms["wpc"] < 0.2 * norms["cpc"]


def test_the_linear_classifiers_do_not_change_the_features() -> None:
    without = {name: x for name, x in SPEC.items() if name != "factors"}
    one, other = make(), make(without)
    given = batch("contrastive")
    for model in (one, other):
        for _ in range(3):
            model.learn(given)
    assert torch.equal(one.features(given["obs"]), other.features(given["obs"]))
    assert other.probe is None


def test_measures_are_over_the_candidates_that_follow() -> None:
    model, given = make(batch_size=4), batch("contrastive", rows=6)
    with torch.no_grad(), evaluating(model):
        found = model.measure(given)
        critic = model.features(given["obs"]) @ model.other_features(given["next_obs"]).T
    for i in range(6):
        among = torch.stack([critic[i, (i + k) % 6] for k in range(4)])
        assert found["accuracy"][i].item() == float(among.argmax() == 0)
        bound = math.log(4) + among.log_softmax(0)[0].item()
        assert found["information"][i].item() == pytest.approx(bound, abs=1e-5)
        assert bound <= math.log(4)
    assert torch.allclose(found["probe"], (found["probe_0"] + found["probe_1"]) / 2)


def test_other_examples_and_encoders_are_refused() -> None:
    with pytest.raises(UserError, match="needs pairs of observations, `obs` and `next_obs`"):
        make({"obs": SPEC["obs"]})
    with pytest.raises(UserError, match="wpc needs the gradient of each example alone"):
        make(encoder="conv4:width=4,layers=2,norm=bn")
    make(encoder="conv4:width=4,layers=2,norm=bn", objective="cpc")
    for wrong in (
        Box(0, 1, (2,)),
        Box(0, 5_000, (2,), dtype=np.int64),
        Box(0, 2, (2, 2), dtype=np.int64),
    ):
        with pytest.raises(UserError, match="the column 'factors' is"):
            make({**SPEC, "factors": wrong})


@pytest.mark.parametrize("cells", [1, 3, 9])
def test_a_grid_shows_its_digits_and_the_next_ones(cells: int) -> None:
    source = find_source(f"digit-grids-{cells}")()  # type: ignore[misc]
    digits = find_source("digits")()  # type: ignore[misc]
    drawn = {split: source.sample(split, 40, 0) for split in SPLITS}
    for split, columns in drawn.items():
        own = digits.sample(split, digits.sizes[split], 0)
        known = {x.tobytes(): int(y) for x, y in zip(own["obs"], own["label"], strict=True)}
        across = math.ceil(math.sqrt(cells))
        for name, shift in (("obs", 0), ("next_obs", 1)):
            for image, factors in zip(columns[name], columns["factors"], strict=True):
                for cell, digit in enumerate(factors):
                    row, column = (8 * x for x in divmod(cell, across))
                    part = np.ascontiguousarray(image[row : row + 8, column : column + 8])
                    assert known[part.tobytes()] == (digit + shift) % 10
    assert not np.array_equal(drawn["train"]["factors"], source.sample("train", 40, 1)["factors"])
    assert Examples({k: torch.from_numpy(v) for k, v in drawn["test"].items()})


def test_a_wrong_number_of_digits_is_refused() -> None:
    for wrong in ("0", "101", "x", "-3"):
        with pytest.raises(UserError, match="give a number from 1 to 100"):
            find_source(f"digit-grids-{wrong}")()  # type: ignore[misc]
