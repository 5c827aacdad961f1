"""Model files of Stable-Baselines3 whose deviations lie outside the bounds that SAC keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC

from tests.offline_data.test_sb3_policy import observations, read
from tests.sb3_models import saved, trained


@pytest.mark.parametrize(("bias", "log_std"), [(50.0, 2.0), (-50.0, -20.0)])
def test_the_deviation_of_sac_stays_in_its_bounds(
    bias: float, log_std: float, tmp_path: Path
) -> None:
    model: Any = trained(SAC)
    model.actor.log_std.bias.data.fill_(bias)
    policy, obs = read(saved(model, tmp_path)), observations("Pendulum-v1", 20)
    noise = 0.1 * np.random.default_rng(0).standard_normal((20, 1)).astype(np.float32)
    with torch.no_grad():
        mean, _, _ = model.actor.get_action_dist_params(torch.from_numpy(obs))
        raw = mean + float(np.exp(log_std)) * torch.from_numpy(noise)
    # Pendulum's actions lie in [-2, 2].
    np.testing.assert_allclose(policy.act(obs, noise), 2 * raw.tanh().numpy(), atol=1e-5)
