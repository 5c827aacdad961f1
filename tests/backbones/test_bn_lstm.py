"""Recurrent batch normalisation: the equations, and statistics of each time step."""

import math

import pytest
import torch
from torch import Tensor

from rlbench.backbones.encoders._base import use_running_statistics
from rlbench.backbones.layers.step_norm import StepNorm
from rlbench.backbones.memories.bn_lstm import BNLSTM

CPU = torch.device("cpu")


def made(**options: float) -> BNLSTM:
    torch.manual_seed(0)
    memory = BNLSTM(2, 3, **options)  # type: ignore[arg-type]
    memory.bias.data.add_(0.5 * torch.randn(12))
    memory.cell_norm.weight.data.fill_(0.7)
    memory.cell_norm.bias.data.fill_(0.2)  # type: ignore[union-attr]
    return memory


def unrolled(memory: BNLSTM, x: Tensor) -> Tensor:
    return memory.unroll(x, memory.initial_state(x.shape[1], CPU), torch.zeros(x.shape[:2]))[0]


def test_training_normalises_with_the_batch_of_each_step() -> None:
    memory, x = made(), torch.randn(3, 5, 2)
    hidden = cell = torch.zeros(5, 3)
    for t, out in enumerate(unrolled(memory, x)):
        gates = 0.1 * standard(hidden @ memory.slow.weight.T) + memory.bias
        gates = gates + 0.1 * standard(x[t] @ memory.inputs.weight.T)
        f, i, o, g = gates.chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * (0.7 * standard(cell) + 0.2).tanh()
        torch.testing.assert_close(out, hidden)


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


def test_rows_at_different_steps_of_their_episodes_are_not_mixed() -> None:
    memory, x, reset = made(), torch.randn(6, 6, 2), torch.zeros(6, 6)
    state = memory.initial_state(6, CPU)
    state["time"][:3] = 9.0
    whole, _ = memory.unroll(x, state, reset)
    torch.testing.assert_close(whole[:, 3:], unrolled(memory, x[:, 3:]))
    half = {name: s[:3] for name, s in state.items()}
    torch.testing.assert_close(whole[:, :3], memory.unroll(x[:, :3], half, reset[:, :3])[0])


def test_evaluation_uses_the_averages_of_each_step() -> None:
    memory = made()
    batches = [torch.randn(4, 64, 2) + 2 * t for t in range(3)]
    for x in batches:
        unrolled(memory, x)
    raw = torch.stack([batch @ memory.inputs.weight.T for batch in batches])
    # The averages are plain means at first.
    torch.testing.assert_close(memory.input_norm.mean[:4], raw.mean(2).mean(0))
    torch.testing.assert_close(memory.input_norm.variance[:4], raw.var(2, correction=0).mean(0))
    assert memory.input_norm.count[:6].tolist() == [3, 3, 3, 3, 0, 0]
    memory.eval()
    alone = unrolled(memory, batches[0][:, :1])
    torch.testing.assert_close(alone, unrolled(memory, batches[0])[:, :1])


@pytest.mark.parametrize("rate", [0.01, 0.02])
def test_averages_by_hand(rate: float) -> None:
    norm = StepNorm(1, 0.1, 2, rate)
    for value in range(150):
        norm.update(torch.tensor([[value - 1.0], [value + 1.0], [5.0]]), torch.tensor([0, 0, 1]))
    norm.update(torch.tensor([[5.0]]), torch.tensor([1]))
    first = round(1 / rate)
    mean = sum(range(first)) / first
    for value in range(first, 150):
        mean += rate * (value - mean)
    assert norm.mean[:, 0].tolist() == pytest.approx([mean, 5.0])
    assert norm.variance[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    norm.eval()
    out = norm(torch.tensor([[6.0]]), torch.tensor([0]))
    assert out.item() == pytest.approx(0.1 * (6 - mean) / math.sqrt(1 + 1e-5))


def test_later_steps_use_the_last_statistics() -> None:
    memory = made(steps=8)
    unrolled(memory, 3 + torch.randn(4, 32, 2))
    memory.eval()
    x = torch.randn(12, 2, 2)
    out = unrolled(memory, x)
    for norm in (memory.input_norm, memory.slow_norm, memory.cell_norm):
        norm.mean[4:], norm.variance[4:], norm.count[4:] = norm.mean[3], norm.variance[3], 1.0
    torch.testing.assert_close(unrolled(memory, x), out)
    assert not torch.allclose(out[3:], unrolled(made(steps=8).eval(), x)[3:])


def test_an_agents_memory_learns_from_what_it_acted_on() -> None:
    memory, acting = made(), made()
    use_running_statistics(acting)
    x = torch.randn(5, 4, 2)
    before = unrolled(acting, x)
    assert not torch.allclose(before, unrolled(memory, x))
    with torch.no_grad():
        after = unrolled(acting, x)
        torch.testing.assert_close(unrolled(acting, x), after)  # Acting moves no statistics.
        unrolled(acting, x[:, :1])
    assert not torch.allclose(after, before)
    assert acting.slow_norm.count[:6].tolist() == [1, 1, 1, 1, 1, 0]
    torch.testing.assert_close(unrolled(acting.eval(), x), after)


def test_noise_on_the_first_hidden_vector_in_training() -> None:
    memory, x = made(noise=0.5), torch.randn(2, 4, 2)
    assert not torch.equal(unrolled(memory, x), unrolled(memory, x))
    memory.eval()
    assert torch.equal(unrolled(memory, x), unrolled(memory, x))
    memory.train()
    use_running_statistics(memory)
    with torch.no_grad():
        assert torch.equal(unrolled(memory, x), unrolled(memory, x))


def test_the_initial_weights() -> None:
    memory = BNLSTM(2, 3)
    gates = memory.slow.weight.view(4, 3, 3)
    for gate in gates:
        torch.testing.assert_close(gate @ gate.T, torch.eye(3))
    assert torch.equal(gates[3], torch.eye(3))
    assert memory.bias.tolist() == [1.0] * 3 + [0.0] * 9
    for norm in (memory.input_norm, memory.slow_norm, memory.cell_norm):
        assert (norm.weight == 0.1).all()
    assert memory.input_norm.bias is None
    assert memory.slow_norm.bias is None
