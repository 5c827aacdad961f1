"""Fast weights: the equations by hand."""

import torch

from rlbench.backbones.memories.fast_weights import FastWeights

CPU = torch.device("cpu")


def test_the_equations_by_hand() -> None:
    torch.manual_seed(0)
    memory = FastWeights(2, 3, inner=2, decay=0.9, rate=0.4, identity=0.5)
    memory.norm.weight.data = torch.tensor([1.0, 2.0, 0.5])
    memory.norm.bias.data = torch.tensor([0.3, 0.2, 0.1])
    x, state = torch.randn(4, 1, 2), memory.initial_state(1, CPU)
    h: list[torch.Tensor] = [torch.zeros(3)]
    for t in range(4):
        fast = torch.zeros(3, 3)
        for tau in range(t + 1):
            fast += 0.4 * 0.9 ** (t - tau) * torch.outer(h[tau], h[tau])
        slow = 0.5 * h[t] + memory.inputs.weight @ x[t, 0] + memory.inputs.bias
        inner = normalised(memory, slow)
        for _ in range(2):
            inner = normalised(memory, slow + fast @ inner)
        h.append(inner)
        out, state = memory.step(x[t], state)
        torch.testing.assert_close(out[0], inner)
        torch.testing.assert_close(state["fast"][0], fast)
    assert not torch.allclose(h[3], h[4])


def normalised(memory: FastWeights, x: torch.Tensor) -> torch.Tensor:
    """Layer normalisation over the units and ReLU."""
    deviation = (x - x.mean()).square().mean().add(1e-5).sqrt()
    scaled: torch.Tensor = (x - x.mean()) / deviation * memory.norm.weight + memory.norm.bias
    return scaled.clamp(min=0)


def test_the_matrix_and_the_sum_agree_in_single_precision() -> None:
    torch.manual_seed(0)
    memory = FastWeights(4, 16, inner=2, identity=0.5)
    x, reset = torch.randn(40, 3, 4), torch.zeros(40, 3)
    reset[17, 1] = 1.0
    whole, last = memory.unroll(x, memory.initial_state(3, CPU), reset)
    state = memory.initial_state(3, CPU)
    for t in range(40):
        state = {
            name: s * (1 - reset[t]).view(3, *[1] * (s.dim() - 1)) for name, s in state.items()
        }
        out, state = memory.step(x[t], state)
        torch.testing.assert_close(out, whole[t], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state["fast"], last["fast"], rtol=1e-5, atol=1e-4)


def test_the_initial_weights() -> None:
    memory = FastWeights(2, 3)
    assert torch.equal(memory.slow.weight, 0.05 * torch.eye(3))
    assert (memory.inner, memory.decay, memory.rate) == (1, 0.95, 0.5)
