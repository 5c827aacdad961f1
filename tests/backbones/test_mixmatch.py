"""MixMatch: sharpening, mixing and the loss by hand, shifts, and the baseline without unlabelled examples."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rlbench.backbones.layers.augment import shifted
from rlbench.backbones.models.mixmatch import MixMatch, MixMatchConfig, mix, sharpen
from rlbench.envs.examples import find_source
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.backbones.test_ways_of_training import SPEC, batch

SETTINGS: dict[str, Any] = {
    "encoder": "mlp:units=8", "learning_rate": 0.01, "batch_size": 4, "shift": 0, "mixing": 0.0, "ramp_updates": 1, "decay": 0.0,
}  # fmt: skip


def make(**settings: Any) -> MixMatch:
    return MixMatch(MixMatchConfig(**SETTINGS | settings), SPEC, seed=0)


def weights_of(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([x.detach().flatten() for x in network.parameters()])


def test_sharpening_raises_to_a_power_and_normalises() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.25, 0.09, 0.04], [1.0, 0.0, 0.0]])
    assert torch.allclose(sharpen(p, 0.5), expected / expected.sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(sharpen(p, 1.0), p, atol=1e-6)


def test_mixing_is_linear_in_images_and_labels() -> None:
    one, other = torch.ones(2, 3, 3, 1), torch.zeros(2, 3, 3, 1)
    found = mix(one, other, torch.tensor([0.75, 1.0]))
    assert found[0].unique().tolist() == [0.75]
    assert found[1].unique().tolist() == [1.0]


@pytest.mark.parametrize("last", [False, True])
def test_images_are_shifted_and_their_edges_repeated(last: bool) -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    given = image.movedim(1, -1) if last else image
    found = shifted(given, torch.tensor([[1, -2]]), channels_last=last)
    found = found.movedim(-1, 1) if last else found
    expected = [[2.0, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]
    assert found[0, 0].tolist() == expected


def test_the_loss_without_mixing_is_the_one_of_the_paper() -> None:
    model, examples = make(copies=1), batch("mixmatch")
    model.updates = 1  # The weight of unlabelled examples has risen.
    with torch.no_grad():
        known, unknown = (model.network(examples[x]) for x in ("obs", "unlabelled"))
    guess = unknown.softmax(1).square()
    guess = guess / guess.sum(1, keepdim=True)
    supervised = torch.nn.functional.cross_entropy(known, examples["label"])
    expected = supervised + 75 * ((guess - unknown.softmax(1)) ** 2).mean()
    assert model.learn(examples)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_mixed_images_stay_nearer_to_their_own() -> None:
    model = make(mixing=0.75)
    images, labels = torch.arange(40.0).view(40, 1), torch.eye(40)
    mixed, wanted = model._mixed(images, labels)
    assert (wanted.argmax(1) == torch.arange(40)).all()
    assert torch.allclose(mixed[:, 0], wanted @ images[:, 0], atol=1e-4)
    assert torch.allclose(wanted.sum(1), torch.ones(40))


def test_shares_have_the_beta_distribution_of_the_paper() -> None:
    model = make(mixing=0.75)
    share = torch.cat(
        [model._mixed(torch.zeros(500, 1), torch.eye(500))[1].amax(1) for _ in range(20)]
    )
    theirs = np.random.default_rng(0).beta(0.75, 0.75, 100_000)
    theirs = np.maximum(theirs, 1 - theirs)
    for power in (1, 2):
        assert share.pow(power).mean().item() == pytest.approx((theirs**power).mean(), rel=0.02)


def test_without_their_weight_unlabelled_examples_have_no_effect() -> None:
    examples = batch("mixmatch")
    other = Examples({**examples.columns, "unlabelled": examples["obs"]})
    for weight, equal in ((0.0, True), (1.0, False)):
        models = [make(unlabelled_weight=weight, mixing=0.75, ramp_updates=1) for _ in range(2)]
        for model, given in zip(models, (examples, other), strict=True):
            model.learn(given)
            model.learn(given)
        one, two = (weights_of(model.network) for model in models)
        assert torch.equal(one, two) == equal


def test_measurements_use_the_moving_average() -> None:
    model, before = make(average=0.75), make()
    model.learn(batch("mixmatch"))
    first, now, mean = map(weights_of, (before.network, model.network, model.averaged))
    assert torch.allclose(mean, 0.75 * first + 0.25 * now, atol=1e-6)
    obs = batch("mixmatch")["obs"]
    assert torch.allclose(model.decide(obs), model.averaged(obs).softmax(1))


def test_other_examples_are_refused() -> None:
    spec = {name: space for name, space in SPEC.items() if name != "unlabelled"}
    with pytest.raises(
        UserError, match="from a column 'unlabelled', as in --env digits-labelled-20"
    ):
        MixMatch(MixMatchConfig(encoder="mlp"), spec)
    vectors = {**SPEC, "obs": Box(-1, 1, (3,)), "unlabelled": Box(-1, 1, (3,))}
    with pytest.raises(UserError, match="which is not an image; give --shift 0"):
        MixMatch(MixMatchConfig(encoder="flatten"), vectors)
    MixMatch(MixMatchConfig(encoder="flatten", shift=0), vectors)


def test_the_source_has_a_tenth_of_its_labels_for_each_digit_and_none_among_the_unlabelled() -> (
    None
):
    source = find_source("digits-labelled-20")()  # type: ignore[misc]
    train = source.sample("train", source.sizes["train"], 0)
    labelled = {x.tobytes(): int(y) for x, y in zip(train["obs"], train["label"], strict=True)}
    assert len(train["obs"]) == 1437 - 20
    assert sorted(labelled.values()) == sorted(list(range(10)) * 2)
    assert not {x.tobytes() for x in train["unlabelled"]} & labelled.keys()
    other = source.sample("train", 100, 1)
    assert {x.tobytes() for x in other["obs"]} != labelled.keys()
    assert np.array_equal(source.sample("train", 50, 0)["unlabelled"], train["unlabelled"][:50])
    for wrong in ("0", "15", "x", "-10", "10000"):
        with pytest.raises(UserError, match="give a multiple of 10"):
            find_source(f"digits-labelled-{wrong}")()  # type: ignore[misc]
