"""Comparisons of parameters and states, for tests."""

from typing import Any

import torch
from torch import Tensor, nn

from rlbench.interface import Agent, Learner


def copies(network: nn.Module) -> list[Tensor]:
    """Its parameters as they are now."""
    return [p.detach().clone() for p in network.parameters()]


def unchanged(network: nn.Module, before: list[Tensor]) -> bool:
    """Whether its parameters equal earlier copies, bit for bit."""
    return all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


def tensors(state: Any, path: str = "") -> dict[str, Tensor]:
    """All tensors and numbers of nested dicts, by their path."""
    if isinstance(state, dict):
        return {k: v for key in state for k, v in tensors(state[key], f"{path}/{key}").items()}
    if isinstance(state, list):
        return tensors(dict(enumerate(state)), path)
    return {path: torch.as_tensor(state)}


def weights(agent: Agent) -> dict[str, Tensor]:
    """The weights of the networks, without counters and optimisers."""
    networks = ("/policy", "/critic", "/value/", "/vae/", "/behaviour/", "/network/")
    return {k: v for k, v in tensors(agent.state_dict()).items() if k.startswith(networks)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def equal(a: Learner, b: Learner) -> bool:
    return same(tensors(a.state_dict()), tensors(b.state_dict()))


def assert_close(a: Agent, b: Agent) -> None:
    """Asserts that networks, moments, generators and counters are the same up to rounding."""
    mine, theirs = tensors(a.state_dict()), tensors(b.state_dict())
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6, msg=name)
