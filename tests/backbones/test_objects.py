"""The encoder of objects: its nodes are SSD's detections, its features do not depend on their order, its detector is frozen."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.backbones.encoders import Encoder, make_encoder
from rlbench.backbones.encoders.objects import Objects
from rlbench.backbones.models.blobs import BlobsConfig
from rlbench.backbones.models.ssd import SSD, SSDConfig
from rlbench.backbones.options import as_option
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import encoder_and_run, without_files
from rlbench.benchmarks.training.loading import load_agent_run
from rlbench.benchmarks.training.pretrained import encoders_of, load_pretrained
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.interface import Spec
from tests.networks import same
from tests.squares import CLASSES, SIDE, SPEC, LeftOrRight, examples

SETTINGS: dict[str, Any] = {
    "encoder": "conv4:width=8,layers=4,norm=gn", "maps": 2, "scales": 2, "smallest_scale": 0.2, "largest_scale": 0.4,
}  # fmt: skip
OPTIONS = f"objects:of=conv4/width=8/layers=4/norm=gn,maps=2,scales=2,smallest=0.2,largest=0.4,classes={CLASSES}"
READS = "sum", "graph"


def made(reads: str = "sum", options: str = "objects=3,score=0.2") -> tuple[Any, Objects]:
    """An encoder and its layers, with a detector that finds something."""
    torch.manual_seed(0)
    encoder = make_encoder(f"{OPTIONS},{options},reads={reads}", (SIDE, SIDE, 3))
    return encoder, layers_of(encoder)


def layers_of(encoder: Encoder) -> Objects:
    assert isinstance(encoder.layers, Objects)
    return encoder.layers


@pytest.fixture(scope="module")
def trained() -> SSD:
    model = SSD(SSDConfig(**SETTINGS, learning_rate=3e-3), SPEC, seed=0)
    for step in range(60):
        model.learn(examples(24, seed=step))
    return model


def test_defaults_are_those_of_ssd() -> None:
    usual = SSDConfig()
    spelled = usual.encoder.replace(":", "/").replace(",", "/")
    given = (
        f"objects:of={spelled},maps={usual.maps},scales={usual.scales},"
        f"smallest={usual.smallest_scale},largest={usual.largest_scale}"
    )
    one, other = (layers_of(make_encoder(name, (64, 64, 3))) for name in ("objects", given))
    assert torch.equal(one.detector.head.defaults, other.detector.head.defaults)
    assert one.state_dict().keys() == other.state_dict().keys()


def test_nodes_are_the_detections(trained: SSD) -> None:
    _, layers = made()
    weights = {f"encoder.{k}": x for k, x in trained.encoder.state_dict().items()}
    layers.detector.load_state_dict(weights | {f"head.{k}": x for k, x in trained.head.state_dict().items()})  # fmt: skip
    trained.config = dataclasses.replace(
        trained.config, least_score=0.2, candidates=12, detections=3
    )
    obs = examples(24, seed=100)["obs"]
    found = trained.detect(obs)
    nodes, exist = layers.nodes(obs.permute(0, 3, 1, 2).float())
    assert 0 < exist.mean() < 1, "some objects, and some rows without one"
    assert torch.equal(exist, (found[..., 5] > 0).float())
    for i, k in exist.nonzero().tolist():
        x1, y1, x2, y2, score, kind = found[i, k].tolist()
        wanted = [(x1 + x2) / 2 / SIDE, (y1 + y2) / 2 / SIDE, (x2 - x1) / SIDE, (y2 - y1) / SIDE]
        one_hot = [float(kind == c + 1) for c in range(CLASSES)]
        torch.testing.assert_close(nodes[i, k], torch.tensor([*wanted, score, *one_hot]))


@pytest.mark.parametrize("reads", READS)
def test_features_do_not_depend_on_the_order_or_on_rows_without_objects(
    reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, layers = made(reads)
    nodes, exist = torch.rand(2, 3, 5 + CLASSES), torch.tensor([[1.0, 1, 1], [1, 1, 0]])

    def features(nodes: torch.Tensor, exist: torch.Tensor) -> torch.Tensor:
        monkeypatch.setattr(layers, "nodes", lambda images: (nodes, exist))
        found: torch.Tensor = encoder(torch.zeros(2, SIDE, SIDE, 3))
        return found

    before = features(nodes, exist)
    order = [2, 0, 1]
    torch.testing.assert_close(features(nodes[:, order], exist[:, order]), before)
    changed = nodes.clone()
    changed[1, 2] = 9.0
    torch.testing.assert_close(features(changed, exist), before)
    changed[0, 2] = 9.0
    assert not torch.allclose(features(changed, exist)[0], before[0])
    assert features(nodes, torch.zeros(2, 3)).isfinite().all()


@pytest.mark.parametrize("reads", READS)
def test_only_the_readers_of_the_set_are_trained(reads: str) -> None:
    encoder, layers = made(reads)
    assert not list(layers.detector.parameters())
    saved = {name: x.clone() for name, x in layers.detector.state_dict().items()}
    assert saved
    encoder.train()
    assert not any(x.training for x in layers.detector.modules())
    encoder(examples()["obs"]).sum().backward()
    without = [name for name, x in layers.named_parameters() if x.grad is None]
    assert not without
    assert same(saved, layers.detector.state_dict())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("maps=5", "give no more than either"),
        ("maps=2,scales=1", "give no more than either"),
        ("objects=0", "objects of objects is 0"),
        ("score=1", "score of objects is 1"),
        ("reads=list", "give one of sum, graph"),
        ("padding=trim", "leave padding out"),
        ("of=flatten", "pyramid"),
    ],
)
def test_options_out_of_range(options: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_encoder(f"{OPTIONS},{options}", (SIDE, SIDE, 3))


def detector_run(folder: Path) -> Path:
    config = RunConfig(
        env="tests.squares:Squares", updates=3, eval_every=0, data_size=24, out=folder
    )
    Run("ssd", SSDConfig(**SETTINGS), config).start()
    return folder


def test_an_agent_reads_the_objects_of_a_run_and_does_not_need_it_afterwards(
    tmp_path: Path,
) -> None:
    from rlbench.agents.ppo import PPO

    detector = detector_run(tmp_path / "ssd")
    settings = PPO.Config(
        encoder=f"objects:{detector},objects=4,reads=graph", envs=2, rollout_steps=8, batch_size=8
    )
    config = RunConfig(
        env="tests.squares:LeftOrRight", updates=4, eval_every=0, eval_episodes=2, checkpoint_every=2, out=tmp_path / "ppo"
    )  # fmt: skip
    Run("ppo", settings, config, trust=True).start()
    saved = json.loads((tmp_path / "ppo/config.json").read_text())
    assert saved["learner"]["settings"]["encoder"] == f"{OPTIONS},objects=4,reads=graph"
    assert saved["run"]["pretrained"] == str(detector)
    source = SSD(SSDConfig(**SETTINGS), SPEC)
    state = Run.resume(detector, trust=True).folder.load_checkpoint(torch.device("cpu"))
    assert state is not None
    source.load_state_dict(state["learner"])
    shutil.rmtree(detector)
    agent, _ = load_agent_run(tmp_path / "ppo", trust=True)
    (encoder,) = encoders_of(agent)[:1]
    detector_copy = layers_of(encoder).detector
    assert same(detector_copy.encoder.state_dict(), source.encoder.state_dict())
    assert same(detector_copy.head.state_dict(), source.head.state_dict())


def test_runs_that_are_no_detectors_are_refused(tmp_path: Path) -> None:
    from rlbench.agents.ppo import PPO

    detector = detector_run(tmp_path / "ssd")
    other = RunConfig(env="tests.squares:LeftOrRight", pretrained="elsewhere")
    with pytest.raises(UserError, match="leave --pretrained out"):
        Run("ppo", PPO.Config(encoder=f"objects:{detector}"), other)
    blobs = RunConfig(env="tests.squares:Squares", updates=1, data_size=24, out=tmp_path / "blobs")
    Run("blobs", BlobsConfig(batch_size=8), blobs).start()
    with pytest.raises(UserError, match=r"a run of blobs.*give a run of ssd"):
        Run("ppo", PPO.Config(encoder=f"objects:{tmp_path / 'blobs'}"), other)


def test_detectors_for_other_images_or_with_other_default_boxes_are_refused(
    tmp_path: Path,
) -> None:
    from rlbench.agents.ppo import PPO

    detector = detector_run(tmp_path / "ssd")
    images: Any = LeftOrRight.observation_space
    agent = PPO(PPO.Config(encoder=f"{OPTIONS},smallest=0.3"), Spec(images, Discrete(2)))
    with pytest.raises(UserError, match="without options of the network, such as maps or smallest"):  # fmt: skip
        load_pretrained(agent, str(detector), trust=True)
    images = Box(0, 255, (3, 48, 48), np.uint8)
    agent = PPO(PPO.Config(encoder=OPTIONS), Spec(images, Discrete(2)))
    with pytest.raises(UserError, match=r"observations of 32x32x3 .* are 48x48x3; give a task"):
        load_pretrained(agent, str(detector), trust=True)
    images = Box(0, 255, (3, SIDE, SIDE), np.uint8)
    first = PPO(PPO.Config(encoder=OPTIONS), Spec(images, Discrete(2)))
    assert load_pretrained(first, str(detector), trust=True)["parts"] == "network"


@pytest.mark.parametrize("name", ["ssd", "lr=1,v2", "a:b", "of=c"])
def test_folders_with_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    detector_run(Path(name))
    assert encoder_and_run(f"objects:{name}") == (OPTIONS, name)
    assert encoder_and_run(f"objects:{name},objects=4") == (f"{OPTIONS},objects=4", name)
    assert encoder_and_run("objects:objects=4") == ("objects:objects=4", None)


def test_the_bonus_of_novelty_ppo_reads_objects_too(tmp_path: Path) -> None:
    from rlbench.agents.novelty_ppo import NoveltyPPOConfig

    detector = detector_run(tmp_path / "ssd")
    config = RunConfig(env="tests.squares:LeftOrRight")
    settings = NoveltyPPOConfig(encoder="impala", bonus_encoder=f"objects:{detector}")
    found, run = without_files(settings, config)
    assert (found.bonus_encoder, run.pretrained) == (OPTIONS, str(detector))
    settings = NoveltyPPOConfig(encoder=f"objects:{detector}", bonus_encoder=f"objects:{detector}/")
    with pytest.raises(UserError, match="give encoders the same run"):
        without_files(settings, config)


def test_a_detector_may_read_the_maps_of_a_pyramid() -> None:
    name = "fpn:of=conv4/layers=4/width=8/norm=gn,width=8"
    settings = SSDConfig(**SETTINGS | {"encoder": name, "maps": 4, "scales": 4})
    model = SSD(settings, SPEC)
    options = OPTIONS.replace("conv4/width=8/layers=4/norm=gn,maps=2,scales=2", f"{as_option(name)},maps=4,scales=4")  # fmt: skip
    encoder = make_encoder(options, (SIDE, SIDE, 3))
    mine, theirs = layers_of(encoder).detector.encoder.state_dict(), model.encoder.state_dict()
    assert {k: x.shape for k, x in mine.items()} == {k: x.shape for k, x in theirs.items()}
    assert torch.equal(layers_of(encoder).detector.head.defaults, model.head.defaults)
