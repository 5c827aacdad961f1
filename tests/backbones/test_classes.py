"""The encoder of classes: what it reads from runs of classifiers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.classes import Classes
from rlbench.benchmarks.training.learners import encoder_and_run
from rlbench.benchmarks.training.loading import load_run
from rlbench.cli import main
from rlbench.errors import UserError

ENCODER, INNER = "conv4:layers=2,width=4,norm=bn", "conv4/layers=2/width=4/norm=bn"


def saved(folder: Path) -> Path:
    """Pictures of three classes for classifiers, also without labels."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for split in ("train", "test"):
        obs = rng.integers(256, size=(12, 8, 8, 3)).astype(np.uint8)
        columns |= {f"{split}/obs": obs, f"{split}/unlabelled": obs, f"{split}/label": np.arange(12) % 3}  # fmt: skip
    np.savez(folder / "pictures.npz", **columns)
    return folder / "pictures.npz"


def trained(learner: str, folder: Path) -> Path:
    words = f"--env {saved(folder)} --encoder {ENCODER} --batch-size 4 --updates 3 --eval-every 0"
    assert main(["run", learner, *words.split(), "--out", str(folder / learner)]) == 0
    return folder / learner


@pytest.mark.parametrize("learner", ["classifier", "mixmatch"])
def test_an_agent_sees_the_probabilities_of_a_trained_classifier(
    learner: str, tmp_path: Path
) -> None:
    run = trained(learner, tmp_path)
    name, folder = encoder_and_run(f"classes:{run}")
    assert (name, folder) == (f"classes:of={INNER},classes=3", str(run))
    words = f"--env minigrid-empty-5 --envs 2 --rollout-steps 4 --hidden 8 --updates 1 --eval-episodes 1 --out {tmp_path}/ppo"
    # These pictures are larger.
    assert main(["run", "ppo", *words.split(), "--encoder", f"classes:{run}"]) == 2
    model, _ = load_run(run)
    encoder = make_encoder(name, Box(0, 255, (8, 8, 3), np.uint8))
    assert isinstance(encoder.layers, Classes)
    encoder.layers.trained.load_state_dict(
        {k: x for k, x in model.whole.state_dict().items() if not k.endswith("num_batches_tracked")}
    )
    encoder.train()
    obs = torch.randint(256, (5, 8, 8, 3)).byte()
    assert torch.allclose(encoder(obs), probabilities(model, obs), atol=1e-6)
    assert not list(encoder.parameters())


def probabilities(model: Any, obs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.whole.eval()(obs).softmax(-1)
    return found


def test_vectors_and_grids_have_classes_too() -> None:
    for shape in ((3,), (7, 7, 3), (8, 8, 10)):
        of = "grid" if len(shape) == 3 else "mlp/units=4"
        encoder = make_encoder(f"classes:of={of},classes=5", shape)
        found = encoder(torch.zeros(2, *shape))
        assert found.shape == (2, 5)
        assert torch.allclose(found.sum(1), torch.ones(2))


def test_its_weights_come_from_the_run(tmp_path: Path) -> None:
    run = trained("classifier", tmp_path)
    words = f"--env {tmp_path}/pictures.npz --encoder classes:{run} --batch-size 4 --updates 2 --eval-every 0 --out {tmp_path}/next"
    assert main(["run", "classifier", *words.split()]) == 0
    (first, _), (then, _) = load_run(run), load_run(tmp_path / "next")
    state = {k: x for k, x in first.whole.state_dict().items() if "num_batches" not in k}
    taken = then.encoder.layers.trained.state_dict()
    assert all(torch.equal(taken[k], x) for k, x in state.items())


def test_what_has_no_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="classes of classes is 1; give 2 or more"):
        make_encoder("classes:classes=1,of=mlp", (3,))
    words = f"--env CartPole-v1 --rollout-steps 8 --batch-size 8 --updates 1 --eval-episodes 1 --out {tmp_path}/ppo"
    assert main(["run", "ppo", *words.split()]) == 0
    with pytest.raises(UserError, match="a run of ppo, which has no classes; give a run of classifier or mixmatch"):  # fmt: skip
        encoder_and_run(f"classes:{tmp_path}/ppo")
