"""The encoder of codes, and priors over codes: what they read, and the VQ-VAE of a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rlbench.agents.ppo import PPO
from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.codes import Codes
from rlbench.backbones.models.pixelcnn import PixelCNN, PixelCNNConfig
from rlbench.backbones.models.vq_vae import VQVAE, VQVAEConfig
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import encoder_and_run
from rlbench.benchmarks.training.loading import encoders_of, load_pretrained, load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Spec
from tests.networks import same
from tests.squares import SIDE, SPEC

SETTINGS: dict[str, Any] = {"codes": 6, "code_size": 4, "width": 8, "blocks": 1, "batch_size": 4}
OPTIONS = "codes:codes=6,size=4,channels=8,blocks=1,top=1"
IMAGES = Box(0, 255, (SIDE, SIDE, 3), np.uint8)


def images(count: int = 3) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, SIDE, SIDE, 3), generator=drawn).byte()


def vq_vae_run(folder: Path) -> Path:
    config = RunConfig(
        env="tests.squares:Squares", updates=2, eval_every=0, data_size=8, out=folder
    )
    Run("vq-vae", VQVAEConfig(**SETTINGS), config).start()
    return folder


def prior(**settings: Any) -> PixelCNN:
    small = {"tokens": OPTIONS, "width": 4, "layers": 1, **settings}
    return PixelCNN(PixelCNNConfig(**small), {"obs": IMAGES, "label": Discrete(2)})


def test_features_depend_on_the_codes_alone_and_only_their_readers_are_trained() -> None:
    encoder = make_encoder(f"{OPTIONS},width=3,units=5", IMAGES)
    layers = encoder.layers
    assert isinstance(layers, Codes)
    bottom, top = layers.codes(encoder.images(images()))
    assert bottom.shape == (3, 8, 8)
    assert top.shape == (3, 4, 4)
    assert encoder(images()).shape == (3, 5)
    names = {name.split(".")[0] for name, _ in layers.named_parameters()}
    assert names == {"vectors", "read", "out"}
    before = encoder(images())
    layers.quantiser.decoder[0].weight.fill_(7.0)  # type: ignore[operator]
    assert torch.equal(encoder(images()), before)
    with torch.no_grad():
        layers.quantiser.to_bottom.weight.mul_(-1)
    assert not torch.equal(encoder(images()), before)


def test_codes_are_those_of_the_model() -> None:
    model = VQVAE(VQVAEConfig(**SETTINGS), {"obs": IMAGES})
    encoder = make_encoder(OPTIONS, IMAGES)
    assert isinstance(encoder.layers, Codes)
    encoder.layers.quantiser.load_state_dict(model.network.state_dict())
    pairs = zip(encoder.layers.codes(encoder.images(images())), model.codes(images()), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_agent_reads_the_codes_of_a_run_and_does_not_need_it_afterwards(tmp_path: Path) -> None:
    run = vq_vae_run(tmp_path / "codes")
    assert encoder_and_run(f"codes:{run},units=8") == (f"{OPTIONS},units=8", str(run))
    settings = PPO.Config(
        encoder=f"codes:{run},width=4,units=8", envs=2, rollout_steps=4, batch_size=8, epochs=1
    )
    config = RunConfig(
        env="tests.squares:LeftOrRight", updates=1, eval_every=0, eval_episodes=1, out=tmp_path / "ppo"
    )  # fmt: skip
    Run("ppo", settings, config, trust=True).start()
    saved = json.loads((tmp_path / "ppo/config.json").read_text())
    assert saved["learner"]["settings"]["encoder"] == f"{OPTIONS},width=4,units=8"
    source, _ = load_run(run, trust=True)
    shutil.rmtree(run)
    agent, _ = load_run(tmp_path / "ppo", trust=True)
    (layers, *_) = (x.layers for x in encoders_of(agent))
    assert isinstance(layers, Codes)
    assert isinstance(source, VQVAE)
    assert same(layers.quantiser.state_dict(), source.network.state_dict())


def test_what_has_no_codes_is_refused(tmp_path: Path) -> None:
    run = vq_vae_run(tmp_path / "codes")
    for options in ("codes:top=2", "codes:units=0"):
        with pytest.raises(UserError, match="of codes is"):
            make_encoder(options, IMAGES)
    with pytest.raises(UserError, match=r"30x32 pixels, .* multiples of 8"):
        make_encoder("codes", (30, 32, 3))
    larger = Spec(Box(0, 255, (48, 48, 3), np.uint8), Discrete(2))
    agent = PPO(PPO.Config(encoder=OPTIONS), larger)
    with pytest.raises(UserError, match=r"images of 32x32x3 .* are 48x48x3"):
        load_pretrained(agent, str(run), trust=True)
    ppo = RunConfig(
        env="CartPole-v1", updates=1, eval_every=0, eval_episodes=1, out=tmp_path / "ppo"
    )
    Run("ppo", PPO.Config(rollout_steps=8, batch_size=8, epochs=1), ppo).start()
    with pytest.raises(UserError, match="a run of ppo, which has no codes; give a run of vq-vae"):
        encoder_and_run(f"codes:{tmp_path / 'ppo'}")


def test_a_prior_reads_one_grid_given_the_coarser_one() -> None:
    examples = Examples({"obs": images(), "label": torch.tensor([0, 1, 1])})
    top, bottom = prior(), prior(grid="bottom")
    for model, index, side in ((top, 1, 4), (bottom, 0, 8)):
        assert model.values.shape == (1, side, side)
        assert model.values.levels == 6
        codes = model.codes(images())
        assert torch.equal(model.read(images())[:, 0], codes[index])
        frozen = [x.clone() for x in model._reader.quantiser.buffers()]
        first = model.learn(examples)["bits"]
        for _ in range(20):
            last = model.learn(examples)["bits"]
        assert last < first
        unchanged = zip(frozen, model._reader.quantiser.buffers(), strict=True)
        assert all(torch.equal(a, b) for a, b in unchanged)
    assert top.condition(images(), None) is None
    given = bottom.condition(images(), None)
    assert given is not None
    assert given.shape == (3, 4, 8, 8)
    drawn, log_p = bottom.sample(3, torch.Generator().manual_seed(0), condition=given)
    assert drawn.shape == (3, 8, 8)
    assert log_p.shape == (3,)
    both = prior(grid="bottom", condition="label").condition(images(), examples["label"])
    assert both is not None
    assert both.shape == (3, 6, 8, 8)
    alone = prior(tokens=OPTIONS.replace("top=1", "top=0"), grid="bottom")
    assert alone.condition(images(), None) is None
    assert SPEC["obs"] == IMAGES


def test_priors_without_codes_are_refused() -> None:
    with pytest.raises(UserError, match="has one grid of codes; give --grid bottom"):
        prior(tokens=OPTIONS.replace("top=1", "top=0"))
    with pytest.raises(UserError, match="tokens is impala, which has no codes"):
        prior(tokens="impala")
    with pytest.raises(UserError, match="has no judge, gain, encoder or levels"):
        prior(levels=4)


def test_a_prior_takes_the_quantiser_of_a_run(tmp_path: Path) -> None:
    run = vq_vae_run(tmp_path / "codes")
    config = RunConfig(
        env="tests.squares:Squares", updates=1, eval_every=0, data_size=8, out=tmp_path / "prior"
    )
    settings = PixelCNNConfig(tokens=f"codes:{run}", width=4, layers=1, batch_size=4)
    Run("pixelcnn", settings, config).start()
    model, _ = load_run(tmp_path / "prior", trust=True)
    source, _ = load_run(run, trust=True)
    assert isinstance(model, PixelCNN)
    assert isinstance(source, VQVAE)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.codes(images()), source.codes(images()), strict=True)
    )
