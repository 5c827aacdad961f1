"""Agents that read an image and a text."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor, nn

from rlbench.backbones.layers.normalise import obs_normaliser
from rlbench.benchmarks.training.loading import load_agent_run
from rlbench.benchmarks.training.pretrained import encoders_of
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.experience import Trajectories, Transitions
from rlbench.interface import Agent, Spec
from rlbench.packed import Packed
from rlbench.sequences import SPECIAL, TokenSequence
from tests.agents.case import make
from tests.networks import equal, weights

GRID = Box(0, 10, (7, 7, 3), np.uint8)
SPACE = Packed(Dict(image=GRID, text=TokenSequence((*SPECIAL, *"abc"), 5)))
CHOICES, BOX = (Spec(SPACE, x) for x in (Discrete(3), Box(-1, 1, (2,))))
ENCODER = "parts:image=one-hot-grid,text=token-gru/width=4,join=film"
AGENTS = [("ppo", CHOICES), ("a2c", CHOICES), ("recurrent-ppo", CHOICES), ("ibac-sni", CHOICES), ("crr", BOX), ("sac", BOX)]  # fmt: skip


def observations(seed: int, *shape: int) -> Tensor:
    SPACE.whole.seed(seed)
    rows = [torch.from_numpy(SPACE.pack(SPACE.whole.sample())) for _ in range(int(np.prod(shape)))]
    return torch.stack(rows).view(*shape, -1)


def train(agent: Agent, seeds: range) -> Agent:
    for seed in seeds:
        obs, later = (observations(2 * seed + x, 6, 4) for x in range(2))
        zeros, reward = torch.zeros(6, 4), torch.rand(6, 4, generator=torch.Generator().manual_seed(seed))  # fmt: skip
        if agent.consumes is Transitions:
            action = 2 * torch.rand(24, 2, generator=torch.Generator().manual_seed(seed)) - 1
            flat = (x.flatten(0, 1) for x in (obs, reward, later, zeros, zeros))
            first, paid, after, terminated, truncated = flat
            agent.learn(Transitions(first, action, paid, after, terminated, truncated))
            continue
        steps, state = [], None
        for row in obs:
            steps.append(agent.act(row, explore=True, state=state))
            state = steps[-1].state
        extras = {name: torch.stack([x.extras[name] for x in steps]) for name in steps[0].extras}
        action = torch.stack([x.action for x in steps])
        agent.learn(Trajectories(obs, action, reward, zeros, zeros, later, extras))
    return agent


@pytest.mark.parametrize(("name", "spec"), AGENTS)
def test_every_weight_of_the_encoders_learns_and_a_resume_is_exact(name: str, spec: Spec) -> None:
    whole = make(name, spec, encoder=ENCODER)
    before = {k: x.clone() for k, x in weights(whole).items() if "encoder" in k}
    half = train(make(name, spec, encoder=ENCODER), range(2))
    train(whole, range(4))
    after = weights(whole)
    assert before
    still = [k for k, x in before.items() if torch.equal(x, after[k]) and "target" not in k]
    assert not still
    resumed = make(name, spec, encoder=ENCODER, seed=7)
    resumed.load_state_dict(half.state_dict())
    assert equal(whole, train(resumed, range(2, 4)))
    obs = observations(99, 5)
    assert torch.equal(whole.act(obs).action, resumed.act(obs).action)


def test_observations_with_an_image_are_not_normalised() -> None:
    with pytest.raises(UserError, match=r"normalise_obs is on, but .* parts image, text"):
        make("ppo", CHOICES, encoder=ENCODER, normalise_obs=True)
    words = Spec(SPACE.parts["text"], Discrete(3))
    with pytest.raises(UserError, match="normalise_obs is on, but the observations are tokens"):
        make("ppo", words, encoder="token-gru", normalise_obs=True)


def test_data_sets_of_texts_are_not_normalised() -> None:
    assert isinstance(obs_normaliser(CHOICES, enabled=True), nn.Identity)
    words = Spec(SPACE.parts["text"], Discrete(3))
    assert isinstance(obs_normaliser(words, enabled=True), nn.Identity)


def test_babyai_is_run_with_missions_only_if_the_encoder_reads_them(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    short = ["--envs", "2", "--rollout-steps", "8", "--updates", "1", "--eval-episodes", "1", "--out"]  # fmt: skip
    sizes = {}
    for encoder in ("grid", ENCODER):
        out = tmp_path / encoder[:5]
        level = ["ppo", "--env", "BabyAI-GoToRedBallGrey-v0", "--encoder", encoder]
        assert main(["run", *level, *short, str(out)]) == 0
        agent, _ = load_agent_run(out)
        sizes[encoder] = agent.spec.observation_space.shape
        assert encoders_of(agent)
    assert sizes["grid"] == (7, 7, 3)
    assert len(sizes[ENCODER] or ()) == 1
