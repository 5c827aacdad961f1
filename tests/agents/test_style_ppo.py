"""PPO on restyled observations: which environment has which style, where they are used, and styles from another run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.agents.style_ppo import StylePPO, StylePPOConfig
from rlbench.backbones.models import style_network
from rlbench.benchmarks.training.pretrained import load_pretrained
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience
from tests.networks import copies, same, unchanged

IMAGES = Box(0, 255, (16, 12, 3), np.uint8)
SMALL = {
    "hidden": (8,), "encoder": "flatten", "batch_size": 8, "epochs": 2, "styles": 2, "painter_width": 2, "painter_blocks": 1,
    **ROLLOUT,
}  # fmt: skip
CASE = Case(
    "style-ppo",
    small=SMALL,
    changes={**test_ppo.CASE.changes, "encoder": ("conv4:width=4,layers=2", {})},
    spaces=(Box, Discrete),
    observations=IMAGES,
)
SPEC = Spec(IMAGES, Discrete(3))


def make(**changes: object) -> StylePPO:
    return StylePPO(StylePPOConfig(**{**SMALL, **changes}), SPEC)


def frames(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 16, 12, 3), dtype=torch.uint8, generator=generator)


def test_each_environment_has_its_style_and_one_in_three_none() -> None:
    agent, obs = make(), frames(4)
    found = agent.restyled(obs)
    assert found.dtype == torch.uint8
    assert torch.equal(found[[0, 3]], obs[[0, 3]])
    with torch.no_grad():
        for v, style in ((1, 0), (2, 1)):
            made = agent.painter.paint(obs[v : v + 1], torch.tensor([style]))[0].round().byte()
            assert torch.equal(found[v], made)
            assert not torch.equal(found[v], obs[v])
    before = agent.painter.layers.down[0].scale
    assert not before.requires_grad
    assert not list(agent.painter.parameters())


def test_it_explores_in_styles_and_acts_without_them() -> None:
    agent, plain, obs = (
        make(encoder="impala"),
        PPO(PPOConfig(hidden=(8,), encoder="impala"), SPEC),
        frames(40),
    )
    with torch.no_grad():  # Actions that depend on what is seen.
        for parameter in agent.network.head.parameters():
            parameter.mul_(1_000)
    plain.network.load_state_dict(agent.network.state_dict())
    assert torch.equal(agent.act(obs).action, plain.act(obs).action)
    plain.act_generator.set_state(agent.act_generator.get_state())
    found = agent.act(obs, explore=True).extras["sample"]
    assert torch.equal(found, plain.act(agent.restyled(obs), explore=True).extras["sample"])
    assert not torch.equal(found, plain.act(obs, explore=True).extras["sample"])


def test_an_update_is_that_of_ppo_on_restyled_observations() -> None:
    agent = make()
    small = {
        key: x
        for key, x in SMALL.items()
        if key not in ("styles", "painter_width", "painter_blocks")
    }
    plain = PPO(PPOConfig(**small), SPEC)
    plain.network.load_state_dict(agent.network.state_dict())
    batch = experience(agent, 0)
    assert isinstance(batch, Trajectories)
    kept = batch.obs.clone(), batch.final_obs.clone()
    metrics = agent.learn(batch)
    obs, final = (torch.stack([agent.restyled(x) for x in y]) for y in (batch.obs, batch.final_obs))
    plain.learn(replace(batch, obs=obs, final_obs=final))
    assert same(agent.network.state_dict(), plain.network.state_dict())
    assert torch.equal(batch.obs, kept[0])
    assert torch.equal(batch.final_obs, kept[1])
    assert float(metrics["first_kl"]) < 1e-6


def test_settings_out_of_range_and_other_observations_are_refused() -> None:
    with pytest.raises(UserError, match="envs is 3, but there are 3 styles"):
        StylePPOConfig(envs=3)
    with pytest.raises(UserError, match="styles is 0"):
        StylePPOConfig(styles=0)
    with pytest.raises(
        UserError, match=r"styles are drawn in colours from 0 to 255, .*; use an environment"
    ):
        StylePPO(StylePPOConfig(), Spec(Box(-1, 1, (4, 4, 3)), Discrete(2)))
    with pytest.raises(UserError, match="pictures with 1 or 3 channels"):
        StylePPO(StylePPOConfig(encoder="flatten"), Spec(Box(0, 255, (4,), np.uint8), Discrete(2)))


def test_the_styles_come_from_a_run_of_the_style_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(1).integers(256, size=(16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(style_network, "photograph", lambda _: drawn)
    rng = np.random.default_rng(0)
    obs = {
        f"{split}/obs": rng.integers(256, size=(4, 16, 12, 3), dtype=np.uint8)
        for split in ("train", "test")
    }
    np.savez(tmp_path / "frames.npz", **obs)  # type: ignore[arg-type]
    words = "--encoder vgg:width=4,blocks=2 --styles brick grass --width 2 --blocks 1 --batch-size 2 --updates 2 --eval-every 0"
    out = tmp_path / "styles"
    assert (
        main(
            [
                "run",
                "style-network",
                "--env",
                f"{tmp_path}/frames.npz",
                *words.split(),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    agent = make()
    before = {k: x.clone() for k, x in agent.painter.state_dict().items()}
    policy = copies(agent.network)
    load_pretrained(agent, str(out))
    after = agent.painter.state_dict()
    assert not torch.equal(before["layers.last.weight"], after["layers.last.weight"])
    assert unchanged(agent.network, policy)
    assert not list(agent.painter.parameters())
    with pytest.raises(UserError, match=r"style network differs .* --painter-width"):
        load_pretrained(make(styles=1), str(out))
