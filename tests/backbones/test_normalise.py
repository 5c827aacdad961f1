"""Observation components that never varied in training do not disturb the agent if they vary later."""

import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from rlbench.backbones.layers.normalise import ObsNormaliser, RunningNormaliser
from rlbench.interface import Spec

BOX = Box(-float("inf"), float("inf"), (3,))


def of_data(obs: Tensor) -> ObsNormaliser:
    """With the statistics of observations [N, D]."""
    mean, std = obs.mean(0), obs.std(0, correction=0)
    return ObsNormaliser(Spec(BOX, BOX, obs_mean=mean, obs_std=std), obs.shape[1])


def running(obs: Tensor) -> RunningNormaliser:
    """After rollouts of the observations [N, D]."""
    normaliser = RunningNormaliser(BOX, enabled=True)
    for part in obs.split(7):
        normaliser.update(part[:, None])
    return normaliser


@pytest.mark.parametrize("make", [of_data, running])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e6])
def test_a_component_that_never_varied_is_0_whatever_its_value_later(
    make: object, constant: float
) -> None:
    torch.manual_seed(0)
    obs = torch.randn(50, 3)
    obs[:, 1] = constant
    normaliser = make(obs)  # type: ignore[operator]
    assert not normaliser(obs)[:, 1].any()
    later = torch.tensor([[1.0, constant + 1, 2.0], [1.0, -1e9, 2.0]])
    assert not normaliser(later)[:, 1].any()
    assert normaliser(later)[:, [0, 2]].all()


def test_components_that_varied_are_normalised_as_before() -> None:
    mean, std = torch.tensor([1.0, 100.0, 0.0]), torch.tensor([0.5, 1e-3, 1e-6])
    normaliser = ObsNormaliser(Spec(BOX, BOX, obs_mean=mean, obs_std=std), 3)
    obs = torch.tensor([[2.0, 101.0, 1.0]])
    assert torch.equal(normaliser(obs), (obs - mean) * (1 / (std + 1e-3)))
    seen = torch.randn(40, 3)
    other = running(seen)
    scale = (other.moments.variance + 1e-8).rsqrt()
    assert torch.equal(other(seen), ((seen - other.moments.mean) * scale).clamp(-10, 10))


def test_running_statistics_include_a_component_once_it_varies() -> None:
    obs = torch.zeros(40, 3)
    obs[:, 0] = torch.arange(40.0)
    obs[20:, 1] = torch.arange(20.0)
    assert not running(obs[:20])(obs)[:, 1].any()
    assert running(obs)(obs)[20:, 1].all()
