"""VQ-VAE: codebooks by hand and by their definition, gradients, codes and their images, and resumes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor

from rlbench.backbones.layers.quantised import Codebook, Quantiser, straight_through
from rlbench.backbones.models.vq_vae import VQVAE, VQVAEConfig, perplexity
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.kill_and_resume import assert_equal
from tests.networks import equal

SPEC = {"obs": Box(0, 255, (16, 24, 3), np.uint8)}
SMALL: dict[str, Any] = {"codes": 6, "code_size": 4, "width": 8, "blocks": 1, "batch_size": 4}


class Killed(Exception):
    pass


def make(**settings: Any) -> VQVAE:
    return VQVAE(VQVAEConfig(**{**SMALL, **settings}), SPEC)


def batch(seed: int = 0, size: int = 4) -> Examples:
    drawn = torch.Generator().manual_seed(seed)
    return Examples({"obs": torch.randint(256, (size, 16, 24, 3), generator=drawn).byte()})


def train(model: VQVAE, updates: int, first: int = 0) -> VQVAE:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_nearest_vector_and_its_lookup() -> None:
    book = Codebook(3, 2)
    book.vectors.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]))
    z = torch.tensor([[1.9, 0.1], [2.1, 0.1], [0.3, 1.6]]).T.view(1, 2, 1, 3)
    codes = book(z)
    assert codes.tolist() == [[[0, 1, 2]]]
    assert book.lookup(codes)[0, :, 0].T.tolist() == [[0, 0], [4, 0], [0, 3]]
    drawn = torch.randn(3, 2, 4, 5)
    distance = (drawn.movedim(1, -1)[..., None, :] - book.vectors).square().sum(-1)
    assert torch.equal(book(drawn), distance.argmin(-1))


def test_an_update_of_the_codebook_by_hand() -> None:
    book = Codebook(2, 1)
    book.counts.copy_(torch.tensor([2.0, 1.0]))
    book.sums.copy_(torch.tensor([[2.0], [5.0]]))
    z = torch.tensor([1.0, 2.0, 4.0, 4.0]).view(1, 1, 2, 2)
    book.update(z, torch.tensor([[[0, 0], [0, 1]]]), 0.75, noise())
    # N = 0.75 (2, 1) + 0.25 (3, 1), m = 0.75 (2, 5) + 0.25 (7, 4).
    assert book.counts.tolist() == [2.25, 1.0]
    assert book.sums.flatten().tolist() == [3.25, 4.75]
    assert book.vectors.flatten().tolist() == pytest.approx([3.25 / 2.25, 4.75], rel=1e-4)


def test_vectors_begin_as_outputs_and_dead_ones_start_again_from_them() -> None:
    book, z = Codebook(5, 2), torch.randn(2, 2, 3, 3)
    outputs = {tuple(x) for x in z.movedim(1, -1).reshape(-1, 2).tolist()}
    book.begin(z, noise())
    assert {tuple(x) for x in book.vectors.tolist()} <= outputs
    first = book.vectors.clone()
    book.begin(z + 1, noise())
    assert torch.equal(book.vectors, first)
    book.counts[3] = 1e-4
    book.update(z, torch.zeros(2, 3, 3).long(), 0.5, noise())
    assert tuple(book.sums[3].tolist()) in outputs
    assert book.counts[3] == 1
    assert torch.allclose(book.vectors[3], book.sums[3], rtol=1e-3)


def test_evaluating_moves_no_vector() -> None:
    model = train(make(), 2)
    before = {k: x.clone() for k, x in model.network.state_dict().items()}
    model.measure(batch(5))
    assert all(torch.equal(before[k], x) for k, x in model.network.state_dict().items())


def test_gradients_pass_the_quantiser_as_they_are() -> None:
    z, e = torch.randn(3, requires_grad=True), torch.randn(3)
    out = straight_through(z, e)
    assert torch.allclose(out, e)
    (gradient,) = torch.autograd.grad((out * torch.tensor([1.0, 2.0, 3.0])).sum(), z)
    assert gradient.tolist() == [1, 2, 3]


@pytest.mark.parametrize("top", [True, False])
def test_the_loss_by_its_definition(top: bool) -> None:
    model = make(top=top)
    x = model.images(batch()["obs"])
    assert x.shape == (4, 3, 16, 24)
    assert float(x.min()) >= -0.5
    with torch.no_grad():
        found = model.network.outputs(x, torch.Generator().manual_seed(0))
        books = [model.network.bottom, *([model.network.top] if model.network.top else [])]
        vectors = [book.lookup(codes) for book, (_, codes) in zip(books, found, strict=True)]
        commitment = sum(float(F.mse_loss(z, e)) for (z, _), e in zip(found, vectors, strict=True))
        mse = F.mse_loss(model.network.images(*vectors), x)
    metrics = model.learn(batch())
    assert metrics["mse"] == pytest.approx(float(mse), rel=1e-4)
    assert metrics["commitment"] == pytest.approx(commitment, rel=1e-4)


def test_the_commitment_moves_the_encoder_only_with_its_weight() -> None:
    weak, strong = train(make(beta=0.0), 1), train(make(beta=10.0), 1)
    pairs = zip(weak.network.to_bottom.parameters(), strong.network.to_bottom.parameters(), strict=True)  # fmt: skip
    assert not any(torch.equal(p, q) for p, q in pairs)
    pairs = zip(weak.network.decoder.parameters(), strong.network.decoder.parameters(), strict=True)  # fmt: skip
    # Adam's first step is the sign of the gradient, which the commitment does not change here.
    assert all(torch.allclose(p, q, atol=1e-5) for p, q in pairs)


def test_codes_and_their_images() -> None:
    model = train(make(), 3)
    obs = batch(7)["obs"]
    bottom, top = model.codes(obs)
    assert bottom.shape == (4, 4, 6)
    assert top.shape == (4, 2, 3)
    assert int(bottom.max()) < 6
    images = model.decode([bottom, top])
    assert images.shape == obs.shape
    assert images.dtype == torch.uint8
    own = model.decide(obs)
    assert torch.allclose(own.movedim(1, 3).clamp(0, 1) * 255, images.float(), atol=0.51)
    errors = (own - model.images(obs) - 0.5).square().flatten(1).mean(1)
    assert torch.allclose(model.measure(batch(7))["mse"], errors, atol=1e-6)
    # Each grid matters.
    assert not torch.equal(model.decode([(bottom + 1) % 6, top]), images)
    assert not torch.equal(model.decode([bottom, (top + 1) % 6]), images)
    (only,) = train(make(top=False), 1).codes(obs)
    assert only.shape == (4, 4, 6)


def test_it_learns_to_reconstruct_few_images() -> None:
    model, examples = make(codes=16, learning_rate=0.01), batch()
    flat = Examples({"obs": examples["obs"][:, :1, :1].expand(4, 16, 24, 3).contiguous()})
    first = model.measure(flat)["mse"].mean().item()
    for _ in range(60):
        model.learn(flat)
    assert model.measure(flat)["mse"].mean().item() < 0.25 * first


def test_measures_of_all_examples_by_hand() -> None:
    model = make(codes=4)
    codes = {"codes_bottom": np.array([[[0, 1]], [[0, 1]]]), "codes_top": np.array([[[3]], [[3]]])}
    energies = {"low_changed": np.array([1.0, 2.0]), "low_whole": np.array([4.0, 8.0])}
    found = model.summary({**codes, **energies})
    assert found == pytest.approx(
        {"perplexity_bottom": 2, "perplexity_top": 1, "bits": 6, "low": 0.25}
    )
    assert perplexity(np.array([0, 0, 0, 0]), 3) == 1
    model = train(make(), 1)
    examples = batch(3)
    own = {k: x for k, x in model.measure(examples).items() if k.startswith("low")}
    codes_of = model.codes(examples["obs"])
    full = model.decode(codes_of).float()
    changed = model.decode([codes_of[0].roll(1, 0), codes_of[1]]).float()
    means = F.avg_pool2d((changed - full).movedim(3, 1) / 255, 16)
    expected = means.square().flatten(1).mean(1)
    assert torch.allclose(own["low_changed"], expected, atol=1e-4)


def test_measuring_changes_nothing() -> None:
    model, quiet = (train(make(), 2) for _ in range(2))
    model.measure(batch(5))
    assert equal(train(model, 1, first=2), train(quiet, 1, first=2))


CHANGES: dict[str, Any] = {
    "top": False, "codes": 3, "code_size": 3, "width": 10, "blocks": 2, "beta": 2.0, "decay": 0.5, "learning_rate": 0.01,
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_every_setting_has_an_effect(field: str) -> None:
    one, other = (
        train(x, 4).measure(batch())["mse"] for x in (make(), make(**{field: CHANGES[field]}))
    )
    assert not torch.allclose(one, other)


def test_what_cannot_be_quantised_is_refused() -> None:
    for space, words in (
        (Box(0, 1, (16, 16, 3)), "needs images of bytes"),
        (Box(0, 255, (16, 16), np.uint8), "needs images of bytes"),
        (Box(0, 255, (12, 16, 3), np.uint8), "multiples of 8"),
        (Discrete(3), "needs images of bytes"),
    ):
        with pytest.raises(UserError, match=words):
            VQVAE(VQVAEConfig(), {"obs": space} if space.shape else {"obs": Box(0, 1, (1, 1, 1))})
    VQVAE(VQVAEConfig(top=False, **SMALL), {"obs": Box(0, 255, (12, 16, 3), np.uint8)})
    with pytest.raises(UserError, match="codes is 1; give 2 or more"):
        make(codes=1)
    with pytest.raises(UserError, match="decay is 1"):
        make(decay=1.0)


def test_channels_may_come_first() -> None:
    model = VQVAE(VQVAEConfig(**SMALL), {"obs": Box(0, 255, (3, 16, 8), np.uint8)})
    obs = batch()["obs"].movedim(3, 1)[..., :8]
    model.learn(Examples({"obs": obs}))
    assert model.decode(model.codes(obs)).shape == obs.shape


def test_codes_do_not_depend_on_the_other_images_of_a_batch() -> None:
    network = Quantiser(3, codes=5, size=4, width=8, blocks=1, top=True)
    x = torch.rand(3, 3, 16, 16)
    together = [codes for _, codes in network.outputs(x)]
    alone = [torch.cat([network.outputs(y[None])[i][1] for y in x]) for i in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {f"{split}/obs": batch(i, 6)["obs"].numpy() for i, split in enumerate(("train", "test"))}  # fmt: skip
    np.savez(tmp_path / "images.npz", **columns)  # type: ignore[arg-type]

    def run(out: Path) -> Run:
        config = RunConfig(
            env=str(tmp_path / "images.npz"), updates=3, eval_every=2, log_every=1, checkpoint_every=1, out=out
        )  # fmt: skip
        return Run("vq-vae", VQVAEConfig(**SMALL), config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual, calls = VQVAE.learn, []

    def learn(model: VQVAE, experience: Examples) -> Mapping[str, Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(VQVAE, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 1
    assert_equal(tmp_path / "whole", tmp_path / "broken")
