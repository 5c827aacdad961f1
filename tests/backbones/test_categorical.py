"""Distributions of the return: the projection by hand, and what a critic of them gives."""

import pytest
import torch

from rlbench.backbones.heads.categorical_q import CategoricalQ, cross_entropy, project

ATOMS = torch.linspace(0.0, 4.0, 5)


def projected(
    mass: list[float], reward: float, terminated: float = 0.0, discount: float = 1.0
) -> list[float]:
    got = project(
        torch.tensor([mass]), torch.tensor([reward]), torch.tensor([terminated]), ATOMS, discount
    )
    return [round(x, 6) for x in got[0].tolist()]


def test_a_shift_by_one_atom_moves_the_mass_by_one() -> None:
    assert projected([0.5, 0.25, 0.25, 0, 0], 1.0) == [0, 0.5, 0.25, 0.25, 0]


def test_mass_between_atoms_is_shared_by_distance() -> None:
    assert projected([0, 1, 0, 0, 0], 0.25) == [0, 0.75, 0.25, 0, 0]
    # 0.5 * 3 + 0.25 = 1.75
    assert projected([0, 0, 0, 1, 0], 0.25, discount=0.5) == [0, 0.25, 0.75, 0, 0]


def test_mass_beyond_the_ends_goes_to_them() -> None:
    assert projected([0.2] * 5, 100.0) == [0, 0, 0, 0, 1]
    assert projected([0.2] * 5, -100.0) == [1, 0, 0, 0, 0]


def test_an_end_leaves_the_reward_alone() -> None:
    assert projected([0.2] * 5, 2.5, terminated=1.0) == [0, 0, 0.5, 0.5, 0]


def test_mass_and_mean_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    mass = torch.rand(64, 5, generator=generator).softmax(-1)
    reward = 0.3 * torch.rand(64, generator=generator)
    got = project(mass, reward, torch.zeros(64), ATOMS, 0.9)
    torch.testing.assert_close(got.sum(1), torch.ones(64))
    torch.testing.assert_close(got @ ATOMS, reward + 0.9 * (mass @ ATOMS))


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])  # two critics, each -log(1/2)
    got = cross_entropy(logits, torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(got, torch.tensor(2 * 0.693147))
    with pytest.raises(ValueError, match="expected one shape"):
        cross_entropy(torch.zeros(1, 4, 3), torch.zeros(4, 2))


def test_values_are_means_and_the_lowest_member_is_chosen_for_each_action() -> None:
    critic = CategoricalQ(3, 2, (8,), 2, atoms=5, value_range=(0.0, 4.0))
    obs, actions = torch.randn(6, 3), torch.randn(6, 7, 2)
    probabilities = critic.logits(obs, actions).softmax(-1)
    values = critic(obs, actions)
    torch.testing.assert_close(values, (probabilities * ATOMS).sum(-1))
    assert critic(obs, actions[:, 0]).shape == (2, 6)
    torch.testing.assert_close(critic.lowest(obs, actions) @ ATOMS, values.amin(0))
