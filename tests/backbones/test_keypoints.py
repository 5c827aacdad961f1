"""The encoder of key points: expected places under the heat maps of a pose-mrf, frame by frame; its network is frozen and comes from a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console

from rlbench.backbones.encoders import Encoder, make_encoder
from rlbench.backbones.encoders.keypoints import KeyPoints
from rlbench.backbones.models.pose_mrf import PoseMRF, PoseMRFConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import encoder_and_run
from rlbench.benchmarks.training.loading import load_agent_run
from rlbench.benchmarks.training.pretrained import encoders_of, load_pretrained
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.interface import Spec
from tests.networks import same
from tests.robots import POINTS, SIDE, SPEC, HeadLeftOrRight, examples

SETTINGS: dict[str, Any] = {
    "encoder": "conv4:layers=2,width=8,norm=gn", "width": 8, "kernel": 1, "branches": 1, "detector_updates": 2, "spatial_updates": 1,
}  # fmt: skip
OPTIONS = f"keypoints:of=conv4/layers=2/width=8/norm=gn,branches=1,hidden=8,kernel=1,points={POINTS},maps=spatial"


def layers_of(encoder: Encoder) -> KeyPoints:
    assert isinstance(encoder.layers, KeyPoints)
    return encoder.layers


def trained(updates: int = 4, **settings: Any) -> PoseMRF:
    model = PoseMRF(PoseMRFConfig(**SETTINGS | settings), SPEC, seed=0)
    for seed in range(updates):
        model.learn(examples(seed=seed))
    return model


def reading(model: PoseMRF, options: str = OPTIONS, channels: int = 3) -> Encoder:
    encoder = make_encoder(options, (SIDE, SIDE, channels))
    layers_of(encoder).detector.load_state_dict(model.network.state_dict())
    return encoder


def test_defaults_are_those_of_the_model() -> None:
    model = PoseMRF(PoseMRFConfig(), SPEC)
    encoder = layers_of(make_encoder(f"keypoints:points={POINTS}", (SIDE, SIDE, 3)))
    mine, theirs = encoder.detector.state_dict(), model.network.state_dict()
    assert {k: x.shape for k, x in mine.items()} == {k: x.shape for k, x in theirs.items()}


@pytest.mark.parametrize("maps", ["spatial", "detector"])
def test_features_are_expected_places(maps: str) -> None:
    model = trained()
    encoder = reading(model, OPTIONS.replace("maps=spatial", f"maps={maps}"))
    obs = examples(5, seed=9)["obs"]
    with torch.no_grad():
        own, whole = model.logits(obs)
        share = (whole if maps == "spatial" else own).flatten(2).softmax(2).view(5, POINTS, 8, 8)
    line = torch.linspace(-1, 1, 8)
    rows, columns = (share.sum(3) * line).sum(2), (share.sum(2) * line).sum(2)
    found = encoder(obs)
    assert encoder.size == 2 * POINTS
    torch.testing.assert_close(found, torch.cat([rows, columns], 1), rtol=1e-4, atol=1e-5)
    other = reading(model, OPTIONS.replace("maps=spatial", "maps=detector"))(obs)
    assert torch.equal(found, other) == (maps == "detector")


def test_frames_are_read_one_by_one() -> None:
    model = trained()
    one, two = reading(model), reading(model, channels=6)
    before, after = examples(4, seed=1)["obs"], examples(4, seed=2)["obs"]
    assert two.size == 4 * POINTS
    wanted = torch.cat([one(before), one(after)], dim=1)
    torch.testing.assert_close(two(torch.cat([before, after], dim=3)), wanted)


@pytest.mark.filterwarnings("ignore")  # PyTorch recommends other exporters and warns about sizes.
def test_a_trace_of_few_images_reads_any_number_of_them() -> None:
    encoder = reading(trained(), channels=6).eval()
    drawn = torch.Generator().manual_seed(0)
    obs = torch.randint(256, (20, SIDE, SIDE, 6), generator=drawn).byte()
    traced = torch.jit.trace(encoder, obs[:2], check_trace=False)
    torch.testing.assert_close(traced(obs), encoder(obs))


def test_nothing_of_it_is_trained() -> None:
    encoder = reading(trained())
    saved = {k: x.clone() for k, x in encoder.state_dict().items()}
    assert saved
    assert not list(encoder.parameters())
    encoder.train()
    assert not any(x.training for x in layers_of(encoder).detector.modules())
    assert not encoder(examples()["obs"]).requires_grad
    assert same(saved, encoder.state_dict())


@pytest.mark.parametrize(
    ("options", "shape", "said"),
    [
        ("points=0", (SIDE, SIDE, 3), "points of keypoints is 0"),
        ("kernel=2", (SIDE, SIDE, 3), "kernel of keypoints is 2; give an odd number"),
        ("kernel=0", (SIDE, SIDE, 3), "kernel of keypoints is 0"),
        ("maps=all", (SIDE, SIDE, 3), "give one of spatial, detector"),
        ("padding=trim", (SIDE, SIDE, 3), "leave padding out"),
        ("of=flatten", (SIDE, SIDE, 3), "pyramid"),
        ("points=2", (SIDE, SIDE, 4), "4 channels, but the encoder keypoints reads frames of 3"),
        ("points=2", (SIDE, SIDE, 1), "1 channels, but the encoder keypoints reads frames of 3"),
        ("points=2", (6, SIDE, SIDE), "takes images with 1, 3 or 4 channels, or 6, last, for two frames"),
    ],
)  # fmt: skip
def test_options_and_images_that_do_not_fit(
    options: str, shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make_encoder(f"{OPTIONS},{options}", shape)


def pose_run(folder: Path, updates: int = 4, **settings: Any) -> Path:
    config = RunConfig(env="tests.robots:Robots", updates=updates, eval_every=0, out=folder)
    Run("pose-mrf", PoseMRFConfig(**SETTINGS | settings), config, Console(quiet=True)).start()
    return folder


def test_the_maps_of_a_run_are_those_that_it_has_trained(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "spatial"),
        ({"stages": "staged"}, "spatial"),
        ({"stages": "detector"}, "detector"),
        ({"detector_updates": 4}, "detector"),
    ]
    for number, (settings, maps) in enumerate(cases):
        folder = pose_run(tmp_path / str(number), **settings)
        wanted = OPTIONS.replace("maps=spatial", f"maps={maps}")
        assert encoder_and_run(f"keypoints:{folder}") == (wanted, str(folder))


def test_an_agent_reads_the_key_points_of_a_run_and_does_not_need_it_afterwards(
    tmp_path: Path,
) -> None:
    from rlbench.agents.ppo import PPO

    folder = pose_run(tmp_path / "pose")
    settings = PPO.Config(encoder=f"keypoints:{folder}", envs=2, rollout_steps=8, batch_size=8)
    config = RunConfig(
        env="tests.robots:HeadLeftOrRight", updates=4, eval_every=0, eval_episodes=2, checkpoint_every=2, out=tmp_path / "ppo"
    )  # fmt: skip
    Run("ppo", settings, config, Console(quiet=True), trust=True).start()
    saved = json.loads((tmp_path / "ppo/config.json").read_text())
    assert saved["learner"]["settings"]["encoder"] == OPTIONS
    assert saved["pretrained"]["parts"] == "network"
    source = trained(0)
    state = Run.resume(folder, trust=True).folder.load_checkpoint(torch.device("cpu"))
    assert state is not None
    source.load_state_dict(state["learner"])
    shutil.rmtree(folder)
    agent, _ = load_agent_run(tmp_path / "ppo", trust=True)
    (encoder,) = encoders_of(agent)[:1]
    assert same(layers_of(encoder).detector.state_dict(), source.network.state_dict())
    assert encoder.size == 4 * POINTS


def test_other_runs_images_and_networks_are_refused(tmp_path: Path) -> None:
    from rlbench.agents.ppo import PPO

    folder = pose_run(tmp_path / "pose")
    with pytest.raises(UserError, match=r"^objects:.*a run of pose-mrf, which has no objects; give a run of ssd"):  # fmt: skip
        encoder_and_run(f"objects:{folder}")
    other = PPO(PPO.Config(encoder=f"{OPTIONS},points=4"), Spec(HeadLeftOrRight.observation_space, Discrete(2)))  # fmt: skip
    with pytest.raises(UserError, match=r"`keypoints` of this run differs from the network of .* in its layers or key points; give --encoder keypoints:.* such as branches or points"):  # fmt: skip
        load_pretrained(other, str(folder), trust=True)
    large = Box(0, 255, (48, 48, 6), np.uint8)
    with pytest.raises(UserError, match=r"observations of 32x32x3 .* are 48x48x3; give a task"):
        load_pretrained(PPO(PPO.Config(encoder=OPTIONS), Spec(large, Discrete(2))), str(folder), trust=True)  # fmt: skip
