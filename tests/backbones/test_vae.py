"""The behaviour model of actions: its bounds, and a reconstruction by hand."""

from typing import Any

import pytest
import torch

from rlbench.agents import load_agent
from rlbench.backbones.heads.vae import LATENT_CLIP, ActionVAE
from tests.probe_envs import UNIT


def test_the_log_deviation_of_the_latent_stays_between_minus_4_and_15() -> None:
    vae, obs = ActionVAE(3, 2, (8,)), torch.zeros(1, 3)
    last = list(vae.encoder.parameters())[-1]
    for raw, bounded in ((-100.0, -4.0), (-4.5, -4.0), (-3.5, -3.5), (14.5, 14.5), (100.0, 15.0)):
        with torch.no_grad():
            last[4:] = raw - vae.encoder(torch.zeros(1, 5))[0, 4:] + last[4:]
        log_std = vae(obs, torch.zeros(1, 2), torch.Generator())[2]
        torch.testing.assert_close(log_std, torch.full((1, 4), bounded))


def test_a_reconstruction_matches_one_by_hand() -> None:
    vae, obs, action = ActionVAE(3, 2, (8,)), torch.randn(5, 3), torch.rand(5, 2)
    noise = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    mean, log_std = vae.encoder(torch.cat([obs, action], 1)).split(4, dim=1)
    latent = mean + log_std.exp() * noise
    got = vae(obs, action, torch.Generator().manual_seed(1))
    torch.testing.assert_close(got[0], vae.decoder(torch.cat([obs, latent], 1)).tanh())
    torch.testing.assert_close(got[1:], (mean, log_std))


@pytest.mark.parametrize("name", ["bcq", "bear"])
def test_behaviour_samples_come_from_latents_within_a_half(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, seen = load_agent(name), []
    agent: Any = kind(kind.Config(hidden=(8,), vae_hidden=(8,)), UNIT)
    decode = agent.vae.decode_raw

    def decoded(obs: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        seen.append(latent.abs().max().item())
        return decode(obs, latent)  # type: ignore[no-any-return]

    monkeypatch.setattr(agent.vae, "decode_raw", decoded)
    obs = torch.randn(200, 2)
    if name == "bcq":
        agent.decide(obs, torch.randn(200, 4, 4))
        agent._best_value(obs)
    else:
        agent._distance_and_value(obs)
    assert seen == pytest.approx([0.5] * len(seen))
    assert len(seen) == (2 if name == "bcq" else 1)
    assert LATENT_CLIP == 0.5
