"""The memory-augmented network: writes and reads by hand."""

import math

import torch
from torch import Tensor

from rlbench.backbones.memories.mann import MANN, cosine

CPU = torch.device("cpu")


def made(**options: object) -> MANN:
    torch.manual_seed(0)
    memory = MANN(2, 4, **{"slots": 5, "width": 3, "heads": 2, "decay": 0.9, **options})  # type: ignore[arg-type]
    for parameter in memory.parameters():
        parameter.data.mul_(3)
    return memory


def by_hand(memory: MANN, x: Tensor) -> list[Tensor]:
    """Outputs of inputs [T, D] of one episode, slot by slot."""
    slots, width, heads = memory.slots, memory.width, memory.heads
    table = torch.full((slots, width), 1e-6)
    weight = torch.zeros(heads, slots)
    usage = torch.zeros(slots)
    weight[:, 0] = usage[0] = 1.0
    hidden, cell, read = torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(heads * width)
    outputs = []
    for now in x:
        hidden, cell = memory.cell(torch.cat([now, read])[None], (hidden, cell))
        key = memory.keys(hidden)[0].tanh().view(heads, width)
        value = memory.values(hidden)[0].tanh().view(heads, width)
        gate = memory.gates(hidden)[0].sigmoid()
        order = sorted(range(slots), key=lambda slot: float(usage[slot]))
        written = torch.zeros(heads, slots)
        for head in range(heads):
            written[head] = gate[head] * weight[head]
            written[head, order[head]] += 1 - gate[head]
        table = table.clone()
        table[order[0]] = 0.0
        for head in range(heads):
            table = table + torch.outer(written[head], value[head])
        weight = torch.zeros(heads, slots)
        for head in range(heads):
            beta = 1.0
            if memory.sharpness is not None:
                beta = 1 + math.log1p(math.exp(float(memory.sharpness(hidden)[0, head])))
            for slot in range(slots):
                product = float(key[head] @ table[slot])
                norm = math.sqrt(
                    float(key[head].square().sum() * table[slot].square().sum()) + 1e-6
                )
                weight[head, slot] = math.exp(beta * product / norm)
            weight[head] /= weight[head].sum()
        read = (weight @ table).flatten()
        usage = 0.9 * usage + weight.sum(0) + written.sum(0)
        outputs.append(memory.outputs(torch.cat([hidden[0], read])))
    return outputs


def test_outputs_by_hand() -> None:
    with torch.no_grad():
        for options in ({}, {"sharpness": "learned"}):
            memory, x = made(**options), torch.randn(8, 1, 2)
            state = memory.initial_state(1, CPU)
            for now, wanted in zip(x, by_hand(memory, x[:, 0]), strict=True):
                out, state = memory.step(now, state)
                torch.testing.assert_close(out[0], wanted, rtol=1e-4, atol=1e-5)


def test_new_vectors_go_to_slots_that_are_hardly_used() -> None:
    memory = made(slots=6)
    memory.gates.bias.data.fill_(-50.0)
    memory.gates.weight.data.zero_()
    state, used = memory.initial_state(1, CPU), []
    for _ in range(2):
        before = state["table"]
        _, state = memory.step(torch.randn(1, 2), state)
        used.append(
            ((state["table"] - before).abs().sum(-1)[0] > 1e-3).nonzero().flatten().tolist()
        )
    # Slot 0 counts as used at the start; the first two writes have used 1 and 2.
    assert used == [[1, 2], [3, 4]]


def test_an_open_gate_writes_where_it_read() -> None:
    memory = made()
    memory.gates.bias.data.fill_(50.0)
    memory.gates.weight.data.zero_()
    _, state = memory.step(torch.randn(1, 2), memory.initial_state(1, CPU))
    changed = state["table"][0].abs().sum(-1) > 1e-3
    assert changed.tolist() == [True, False, False, False, False]


def test_no_gradient_through_what_is_erased() -> None:
    memory = made(heads=1)
    state = memory.initial_state(1, CPU)
    state["begun"] = torch.ones(1)
    state["usage"] = torch.tensor([[3.0, 1.0, 2.0, 4.0, 5.0]])
    state["table"] = torch.randn(1, 5, 3, requires_grad=True)
    out, _ = memory.step(torch.randn(1, 2), state)
    (gradient,) = torch.autograd.grad(out.sum(), state["table"])
    assert (gradient[0].abs().sum(-1) > 0).tolist() == [True, False, True, True, True]


def test_cosines() -> None:
    key, table = (
        torch.tensor([[[3.0, 4.0]]]),
        torch.tensor([[[3.0, 4.0], [-4.0, 3.0], [-6.0, -8.0]]]),
    )
    torch.testing.assert_close(
        cosine(key, table), torch.tensor([[[1.0, 0.0, -1.0]]]), rtol=0, atol=1e-6
    )
    assert cosine(key, torch.full((1, 1, 2), 1e-6)).abs().max() < 0.01
