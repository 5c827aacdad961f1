"""The encoder of codes, and priors over codes: what they read, and the VQ-VAE of a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from rlbench.agents import load_agent
from rlbench.agents.ppo import PPO
from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.codes import Codes
from rlbench.backbones.models.pixelcnn import PixelCNN, PixelCNNConfig
from rlbench.backbones.models.vq_vae import VQVAE, VQVAEConfig
from rlbench.benchmarks.training import drivers
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import encoder_and_run
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.pretrained import encoders_of, load_pretrained
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Spec
from tests.benchmarks.test_offline_to_online import stop_after
from tests.networks import same, tensors
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
    with pytest.raises(UserError, match="codes of codes is 65537; give 1 or more, up to 65,536"):
        make_encoder("codes:codes=65537", IMAGES)
    with pytest.raises(UserError, match="codes is 65537"):
        VQVAEConfig(codes=65_537)
    with pytest.raises(UserError, match="names no run after its colon; give codes:RUN"):
        encoder_and_run("codes:")
    with pytest.raises(
        UserError, match=r"codes:a,run contains .*, such as the name of a run; .* --pretrained RUN"
    ):
        make_encoder("codes:a,run", IMAGES)
    with pytest.raises(UserError, match=r"30x32 pixels, .* multiples of 8"):
        make_encoder("codes", (30, 32, 3))
    larger = Spec(Box(0, 255, (48, 48, 3), np.uint8), Discrete(2))
    agent = PPO(PPO.Config(encoder=OPTIONS), larger)
    with pytest.raises(UserError, match=r"observations of 32x32x3 .* are 48x48x3"):
        load_pretrained(agent, str(run), trust=True)
    two_frames = Spec(Box(0, 255, (SIDE, SIDE, 6), np.uint8), Discrete(2))
    with pytest.raises(UserError, match=r"observations of 32x32x3 .* are 32x32x6"):
        load_pretrained(PPO(PPO.Config(encoder=OPTIONS), two_frames), str(run), trust=True)
    from_0_to_1 = Spec(Box(0, 1, (SIDE, SIDE, 3)), Discrete(2))
    with pytest.raises(UserError, match="learned from bytes, but the images of this run are real numbers from 0 to 1"):  # fmt: skip
        load_pretrained(PPO(PPO.Config(encoder=OPTIONS), from_0_to_1), str(run), trust=True)
    from_0_to_255 = Spec(Box(0, 255, (SIDE, SIDE, 3)), Discrete(2))
    load_pretrained(PPO(PPO.Config(encoder=OPTIONS), from_0_to_255), str(run), trust=True)
    plain = Spec(IMAGES, Discrete(2))
    with pytest.raises(UserError, match=r"VQVAE has no encoder with weights; give --encoder codes:"):  # fmt: skip
        load_pretrained(PPO(PPO.Config(encoder="impala"), plain), str(run), trust=True)
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


class Lights(gym.Env[NDArray[np.uint8], int]):
    """Pictures of bytes that depend on the seed and on the actions."""

    observation_space = IMAGES
    action_space: Any = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._picture(0), {}

    def step(self, action: int) -> Any:
        self.time += 1
        return self._picture(int(action)), float(action), self.time == 5, False, {}

    def _picture(self, action: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.np_random.integers(
            256, size=(SIDE, SIDE, 3), dtype=np.uint8
        )
        picture[:8] = 255 * action
        return picture


@pytest.mark.parametrize("codes", [6, 300])
def test_features_of_codes_in_bytes_are_those_of_the_images(codes: int) -> None:
    encoder = make_encoder(
        f"codes:codes={codes},size=4,channels=8,blocks=1,width=3,units=5", IMAGES
    )
    found = encoder.compact(images(4))
    assert found is not None
    assert found.dtype == torch.uint8
    assert found.shape == (4, (8 * 8 + 4 * 4) * (1 + (codes > 256)))
    torch.testing.assert_close(encoder(found), encoder(images(4)))
    assert make_encoder("conv4:width=4,layers=2", IMAGES).compact(images(4)) is None


DQN: dict[str, Any] = {"encoder": "codes:codes=6,size=4,channels=8,blocks=1,units=8", "hidden": (8,), "batch_size": 8, "random_steps": 20, "replay_size": 30}  # fmt: skip


def lights_run(folder: Path, updates: int = 12, **settings: Any) -> Run:
    config = RunConfig(env="tests.backbones.test_codes:Lights", updates=updates, eval_every=0, checkpoint_every=6, eval_episodes=1, out=folder)  # fmt: skip
    kind = load_agent("dqn")
    return Run("dqn", kind.Config(**{**DQN, **settings}), config)


def test_a_replay_buffer_holds_the_codes_and_the_agent_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    close = drivers.ReplayDriver.close

    def closing(driver: Any) -> None:
        sizes.append((tmp_path / f"{len(sizes)}" / "replay-images.bin").stat().st_size)
        close(driver)

    monkeypatch.setattr(drivers.ReplayDriver, "close", closing)
    lights_run(tmp_path / "0").start()
    monkeypatch.setattr(drivers, "compact_encoder", lambda agent: None)
    lights_run(tmp_path / "1").start()
    assert sizes[1] / sizes[0] == SIDE * SIDE * 3 / (8 * 8 + 4 * 4)
    one, other = (load_run(tmp_path / name, trust=True)[0] for name in "01")
    for (name, x), (_, y) in zip(
        one.critic.state_dict().items(), other.critic.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(x, y, msg=name)


def test_a_run_with_codes_in_its_replay_buffer_resumes_exactly(tmp_path: Path) -> None:
    lights_run(tmp_path / "whole").start()
    stop_after(lights_run(tmp_path / "half"), 8)
    Run.resume(tmp_path / "half", trust=True).finish()
    one, other = (load_run(tmp_path / name, trust=True)[0] for name in ("whole", "half"))
    assert same(tensors(one.state_dict()), tensors(other.state_dict()))
