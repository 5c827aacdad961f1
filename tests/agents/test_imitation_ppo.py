"""PPO rewarded by the similarity of key points: rewards by hand, an embedding from another run, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

from rlbench.agents.imitation_ppo import Imitation, ImitationPPO, ImitationPPOConfig
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.encoders.pose import PoseEmbedding
from rlbench.benchmarks.training.pretrained import load_pretrained
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.experience import Trajectories, columns_of
from rlbench.interface import Spec, evaluating
from rlbench.packed import Packed
from rlbench.poses import projected, rotations, shape_distances
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience
from tests.backbones.test_pr_vipe import batch
from tests.networks import same, weights

POINTS = 7
VIEW = Box(-np.inf, np.inf, (POINTS, 2))
SPACE = Packed(Dict({"angles": Box(-1, 1, (3,)), "view": VIEW, "demonstration": VIEW}))
SMALL_ENCODER = "pose:width=8,size=2"
CASE = Case(
    "imitation-ppo",
    small={"hidden": (8,), "batch_size": 8, "epochs": 2, "reward_encoder": SMALL_ENCODER, **ROLLOUT},
    changes={
        **test_ppo.CASE.changes, "reward": ("procrustes", {}), "reward_encoder": ("pose:width=9,size=2", {}),
    },
    spaces=(Box, Discrete),
    observations=SPACE,
)  # fmt: skip
SPEC = Spec(SPACE, Discrete(3))


def observations(own: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Packed observations with these key points, [B, K, 2] each."""
    parts = {"angles": torch.randn(len(own), 3), "view": own, "demonstration": shown}
    return torch.cat([parts[name].flatten(1) for name in SPACE.parts], 1)


def imitation(**settings: Any) -> Imitation:
    config = ImitationPPOConfig(**{"reward_encoder": SMALL_ENCODER, **settings})
    return Imitation(SPACE, config)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_similarities_are_expected_match_probabilities() -> None:
    module = imitation(samples=400)
    encoder = module.encoder
    assert encoder is not None
    layers = encoder.layers
    assert isinstance(layers, PoseEmbedding)
    layers.mean.weight.mul_(200)  # So that embeddings differ.
    own, shown = torch.randn(4, POINTS, 2), torch.randn(4, POINTS, 2)
    found = module(observations(own, shown), generator())
    assert found.mean() < module(observations(own, own), generator()).mean() - 0.05
    gaussians = torch.cat([encoder(own), encoder(shown)])
    mean, std = gaussians.chunk(2, dim=1)
    noise = torch.randn(20_000, 8, 2)
    z = mean + std * noise
    wanted = layers.match((z[:, :4] - z[:, 4:]).norm(dim=-1)).mean(0)
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0)
    assert ((found > 0) & (found < 1)).all()


def test_samples_are_drawn_from_the_given_generator() -> None:
    module = imitation()
    obs = observations(torch.randn(4, POINTS, 2), torch.randn(4, POINTS, 2))
    before = torch.get_rng_state()
    first, second = (module(obs, generator()) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    other = imitation(samples=5)
    assert not torch.equal(first, other(obs, generator()))


def test_procrustes_rewards_views_that_differ_in_position_scale_and_roll_only() -> None:
    module = imitation(reward="procrustes")
    own = torch.randn(4, POINTS, 2)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    found = module(observations(own, 3 * own @ turn + 1), generator())
    torch.testing.assert_close(found, torch.ones(4), atol=1e-3, rtol=0)
    shown = torch.randn(4, POINTS, 2)
    found = module(observations(own, shown), generator())
    torch.testing.assert_close(found, 1 - shape_distances(own, shown))
    # From another side, the same pose has another reward.
    points = torch.randn(1, POINTS, 3)
    views = [projected(points, rotations(torch.tensor([x]), torch.zeros(1), torch.zeros(1)), 9.0) for x in (0.0, 1.5)]  # fmt: skip
    assert float(module(observations(*views), generator())) < 0.9
    assert not module.state_dict()


def test_the_rewards_of_the_environment_are_replaced() -> None:
    small = {"hidden": (8,), **ROLLOUT}
    agent = ImitationPPO(ImitationPPOConfig(reward="procrustes", **small), SPEC)
    plain = PPO(PPOConfig(**small), SPEC)
    given = experience(agent, 0)
    assert isinstance(given, Trajectories)
    # The observation after each step, before any reset.
    parts = SPACE.unpack(given.final_obs)
    own, shown = (parts[x].unflatten(-1, (-1, 2)) for x in ("view", "demonstration"))
    reward = 1 - shape_distances(own, shown)
    metrics = agent.learn(given)
    assert metrics["similarity"] == reward.mean() > 0
    plain.learn(replace(given, reward=reward))
    assert same(weights(agent), weights(plain))
    untouched = experience(ImitationPPO(ImitationPPOConfig(reward="procrustes", **small), SPEC), 0)
    assert all(torch.equal(x, getattr(untouched, k)) for k, x in columns_of(given).items())
    # Whatever the environment pays, the agent learns the same.
    twin = ImitationPPO(ImitationPPOConfig(reward="procrustes", **small), SPEC)
    twin.learn(replace(given, reward=given.reward + 9))
    assert same(weights(agent), weights(twin))


def test_the_embedding_may_come_from_a_run_of_pr_vipe(tmp_path: Path) -> None:
    columns = {f"{split}/obs": batch(i)["obs"].numpy() for i, split in enumerate(("train", "test"))}
    np.savez(tmp_path / "poses.npz", **columns)  # type: ignore[arg-type]
    out = tmp_path / "pr-vipe"
    words = f"--env {tmp_path}/poses.npz --encoder {SMALL_ENCODER} --batch-size 6 --updates 2 --eval-every 0 --out {out}"
    assert main(["run", "pr-vipe", *words.split()]) == 0
    agent = ImitationPPO(ImitationPPOConfig(reward_encoder=SMALL_ENCODER), SPEC)
    encoder = agent.imitation.encoder
    assert encoder is not None
    before = {k: x.clone() for k, x in encoder.state_dict().items()}
    policy = {k: x.clone() for k, x in agent.network.state_dict().items()}
    load_pretrained(agent, str(out))
    after = encoder.state_dict()
    changed = {k for k, x in before.items() if not torch.equal(x, after[k])}
    assert {k for k in before if "weight" in k} | {"layers.raw_scale", "layers.offset"} <= changed
    assert any("running_mean" in k for k in changed)
    assert all(torch.equal(x, policy[k]) for k, x in agent.network.state_dict().items())
    assert not list(agent.imitation.parameters())
    # It neither drops units nor moves its statistics when the agent learns.
    given = experience(agent, 0)
    assert isinstance(given, Trajectories)
    agent.learn(given)
    assert same(dict(after), {k: x.clone() for k, x in encoder.state_dict().items()})
    with evaluating(agent):
        pass
    assert not any(part.training for part in encoder.modules())
    other = ImitationPPO(ImitationPPOConfig(reward_encoder="pose:width=9"), SPEC)
    with pytest.raises(
        UserError, match=r"differs from the encoders of this run .* --encoder or --reward-encoder"
    ):
        load_pretrained(other, str(out))


def test_what_cannot_be_imitated_is_refused() -> None:
    config = ImitationPPOConfig(reward="procrustes")
    short = Box(-1, 1, (POINTS - 1, 2))
    for space in (
        Box(-1, 1, (28,)),
        Packed(Dict({"view": VIEW})),
        Packed(Dict({"view": VIEW, "demonstration": short})),
        Packed(Dict({"view": VIEW, "demonstration": Box(-1, 1, (14,))})),
    ):
        with pytest.raises(UserError, match="needs a Dict with the parts view and demonstration"):
            Imitation(space, config)
    with pytest.raises(UserError, match="reward_encoder is flatten; this agent needs the encoder"):
        imitation(reward_encoder="flatten")
    with pytest.raises(UserError, match="samples is 0; give 1 or more"):
        ImitationPPOConfig(samples=0)
