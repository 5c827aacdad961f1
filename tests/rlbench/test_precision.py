"""Products in bfloat16: what is rounded and what is not, and that every way to learn does the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from rlbench import compute
from rlbench.accelerate import precision
from rlbench.accelerate.compile import compiled_learn, inductor, interpreted, why_not
from rlbench.accelerate.precision import Bfloat16Products, with_products_in
from rlbench.accelerate.seeds import SeedBatch
from rlbench.cli import main
from rlbench.interface import Agent
from tests.agents.case import make
from tests.kill_and_resume import killed_equals_unkilled
from tests.networks import assert_close, tensors
from tests.probe_envs import random_experience
from tests.rlbench.test_seeds import stacked


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def both(shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(other, generator=generator)


def test_eight_bits_are_left() -> None:
    # 1 + 2^-7 is the next number after 1; 1 + 2^-9 lies nearer to 1.
    a, b = torch.eye(32), torch.full((32, 32), 1 + 2**-9)
    a[0, 0] = 1 + 2**-7
    with Bfloat16Products():
        product = a @ b
    assert product.dtype == torch.float32
    assert (product[0] == 1 + 2**-7).all()
    assert (product[1:] == 1).all()


@pytest.mark.parametrize("units", [True, False])
def test_factors_and_results_are_rounded_and_biases_are_not(
    units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: units)
    (a, b), bias = both((40, 48), (48, 64)), torch.full((64,), 1 + 2**-9)
    with Bfloat16Products():
        plain, biased = a @ b, torch.addmm(bias, a, b)
        many, many_biased = a.expand(2, -1, -1) @ b, torch.baddbmm(bias, a[None], b[None])
    exact = rounded(a).double() @ rounded(b).double()
    # The last rounding, 8 bits: half of 2^-7.
    torch.testing.assert_close(plain.double(), exact, rtol=2**-8, atol=1e-5)
    assert torch.equal(plain, rounded(plain))
    assert torch.equal(biased, bias + plain)
    assert torch.equal(many, plain.expand(2, -1, -1))
    assert torch.equal(many_biased[0], biased)


def test_emulated_rounding_is_that_of_bfloat16() -> None:
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    special = [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e-40, 3.4e38, torch.inf, -torch.inf]
    x = torch.cat([x, x * 1e-30, torch.tensor(special)])
    assert torch.equal(precision._to_eight_bits(x), rounded(x))
    assert precision._to_eight_bits(torch.tensor(torch.nan)).isnan()


@pytest.mark.parametrize("sides", [(31, 40, 40), (40, 31, 40), (40, 40, 31)])
def test_thin_products_stay_as_they_are(sides: tuple[int, int, int]) -> None:
    a, b = both(sides[:2], sides[1:])
    exact = a @ b
    with Bfloat16Products():
        assert torch.equal(a @ b, exact)


def test_other_types_stay_as_they_are() -> None:
    a, b = both((40, 40), (40, 40))
    exact = a.double() @ b.double()
    with Bfloat16Products():
        assert torch.equal(a.double() @ b.double(), exact)


def test_backward_passes_are_rounded_too() -> None:
    a, b = both((40, 48), (48, 64))
    b.requires_grad_()
    with Bfloat16Products():
        (a @ b).sum().backward()
    wanted = rounded(rounded(a).T @ torch.ones(40, 64))
    torch.testing.assert_close(b.grad, wanted, rtol=2**-7, atol=0)
    assert b.grad is not None
    assert torch.equal(b.grad, rounded(b.grad))


def test_convolutions_are_rounded() -> None:
    image, kernel = both((2, 3, 8, 8), (4, 3, 3, 3))
    kernel.requires_grad_()
    with Bfloat16Products():
        out = conv2d(image, kernel, torch.zeros(4))
        out.sum().backward()
    wanted = conv2d(rounded(image), rounded(kernel))
    torch.testing.assert_close(out, wanted, rtol=2**-7, atol=1e-5)
    assert torch.equal(out, rounded(out))
    assert kernel.grad is not None
    assert torch.equal(kernel.grad, rounded(kernel.grad))


def wide(name: str, seed: int = 0) -> Agent:
    return make(name, seed=seed, hidden=(32, 32))


def eager(agent: Agent) -> Callable[[Any], Any]:
    return agent.compiled(lambda update: with_products_in("bfloat16", update))


@pytest.mark.parametrize("name", ["td3-bc", "crr", "sb3-td3"])
def test_updates_differ_from_those_in_float32_by_little(name: str) -> None:
    exact, short = wide(name), wide(name)
    learn = eager(short)
    for seed in range(3):
        exact.learn(random_experience(exact, seed))
        learn(random_experience(short, seed))
    mine, theirs = tensors(exact.state_dict()), tensors(short.state_dict())
    differences = {k: (theirs[k].double() - v.double()).abs().max() for k, v in mine.items()}
    assert any(x > 1e-6 for x in differences.values())
    # Three steps of Adam, of at most a learning rate each.
    assert all(x < 0.01 for k, x in differences.items() if "weight" in k and "exp" not in k)
    assert all(v.dtype == mine[k].dtype for k, v in theirs.items())


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("td3-bc", interpreted),
        ("bear", interpreted),
        # A compiler may hold conversions for pointless.
        pytest.param("td3-bc", inductor, marks=pytest.mark.slow),
    ],
)
def test_recorded_updates_are_rounded_alike(name: str, backend: Any) -> None:
    agent, twin = wide(name), wide(name)
    if backend is inductor and why_not(agent):
        pytest.skip("there is no C++ compiler")
    one, other = eager(agent), compiled_learn(twin, backend, "bfloat16")
    for seed in range(3):
        one(random_experience(agent, seed))
        other(random_experience(twin, seed))
    assert_close(agent, twin)


def test_updates_of_several_seeds_are_rounded_alike() -> None:
    alone, agents = ([wide("td3-bc", seed) for seed in range(2)] for _ in range(2))
    together = SeedBatch(agents, interpreted, "bfloat16")
    batches = [random_experience(agent, seed) for seed, agent in enumerate(alone)]
    for agent, batch in zip(alone, batches, strict=True):
        eager(agent)(batch)
    together.learn(stacked(batches))
    together.write_back()
    for agent, twin in zip(alone, agents, strict=True):
        assert_close(agent, twin)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_learns_in_the_requested_precision(seeds: int, tmp_path: Path) -> None:
    def losses(kind: str) -> list[str]:
        out = tmp_path / kind
        arguments = ["run", "bc", "--env", "point-random", "--data-size", "500", "--updates", "4"]
        arguments += ["--hidden", "32", "32", "--batch-size", "32", "--log-every", "1"]
        arguments += ["--eval-episodes", "1", "--seeds", str(seeds), "--out", str(out)]
        main([*arguments, "--precision", kind])
        assert f'"precision": "{kind}"' in next(out.rglob("config.json")).read_text()
        return next(out.rglob("metrics.jsonl")).read_text().splitlines()

    exact, short = losses("float32"), losses("bfloat16")
    assert len(exact) == len(short) == 4
    assert all(a != b for a, b in zip(exact, short, strict=True))


@pytest.mark.slow
def test_a_run_killed_once_ends_as_one_never_killed(tmp_path: Path) -> None:
    arguments = ["td3-bc", "--env", "point-random", "--data-size", "500", "--updates", "400"]
    arguments += ["--eval-every", "200", "--checkpoint-every", "20", "--hidden", "32", "32"]
    arguments += ["--batch-size", "32", "--eval-episodes", "1", "--precision", "bfloat16"]
    assert "killed 1 times" in killed_equals_unkilled(arguments, tmp_path, kills=1, seed=0)


def test_processors_without_units_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, units in (({"avx2"}, False), ({"avx512_bf16"}, True), ({"amx_bf16"}, True)):
        monkeypatch.setattr(compute, "_flags", lambda flags=flags: frozenset(flags))
        assert compute.has_bfloat16_units(torch.device("cpu")) == units
    assert compute.has_bfloat16_units(torch.device("cuda"))
