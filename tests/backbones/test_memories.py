"""Every memory: steps and unrolled sequences agree, episodes are separate, the state is plain."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.backbones.memories import MEMORIES, Memory, acting_memory, forget, make_memory
from rlbench.errors import UserError
from rlbench.interface import State

SMALL = {
    "bn-lstm": "bn-lstm:steps=6",
    "fast-weights": "fast-weights:inner=2,identity=0.5",
    "mann": "mann:slots=5,width=3,heads=2,sharpness=learned",
    "transformer": "transformer:length=5,layers=2,heads=2",
    "big-bird": "big-bird:length=12,heads=2,block=2,window=1,random=1",
}
"""Options of small memories, some of which drop their oldest inputs within the tests."""
NAMES = [SMALL.get(name, name) for name in MEMORIES]
T, B, D, H = 23, 4, 3, 8
CPU = torch.device("cpu")


def made(name: str, seed: int = 0) -> Memory:
    """A memory in double precision with weights far from their first ones."""
    torch.manual_seed(seed)
    memory = acting_memory(name, D, H).double()
    for parameter in memory.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    x, reset = sequence(9)
    memory.unroll(x, start(memory), reset)  # For running statistics, if there are any.
    return memory


def sequence(seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs, and resets at different steps of the rows, also at the first step and twice in a row."""
    drawn = torch.Generator().manual_seed(seed)
    reset = torch.zeros(T, B, dtype=torch.double)
    for t, row in ((4, 1), (7, 2), (8, 2), (0, 3), (13, 3)):
        reset[t, row] = 1.0
    return torch.randn(T, B, D, generator=drawn, dtype=torch.double), reset


def start(memory: Memory, batch: int = B) -> State:
    return {name: x.double() for name, x in memory.initial_state(batch, CPU).items()}


def stepped(memory: Memory, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
    """What `unroll` is defined to be."""
    outputs = []
    for now, fresh in zip(x, reset, strict=True):
        out, state = memory.step(now, forget(state, fresh))
        outputs.append(out)
    return torch.stack(outputs), state


def close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_steps_and_unrolled_sequences_agree(name: str) -> None:
    memory, (x, reset) = made(name), sequence()
    memory.eval()
    x.requires_grad_()
    found = []
    for run in (memory.unroll, lambda *given: stepped(memory, *given)):
        out, state = run(x, start(memory), reset)
        loss = (out * torch.linspace(-1, 1, H)).sin().sum()
        gradients = torch.autograd.grad(loss, [x, *memory.parameters()], allow_unused=True)
        found.append((out, state, [g for g in gradients if g is not None]))
    assert found[0][0].shape == (T, B, H)
    close(found[0], found[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_in_parts_is_the_whole_sequence(name: str) -> None:
    memory, (x, reset) = made(name).eval(), sequence()
    whole, last = memory.unroll(x, start(memory), reset)
    outputs, state = [], start(memory)
    for part in (slice(0, 6), slice(6, 7), slice(7, 8), slice(8, T)):
        out, state = memory.unroll(x[part], state, reset[part])
        outputs.append(out)
    close(torch.cat(outputs), whole)
    close(state, last)


@pytest.mark.parametrize("name", NAMES)
def test_episodes_in_one_sequence_are_separate_episodes(name: str) -> None:
    memory, (x, reset) = made(name).eval(), sequence()
    whole, last = memory.unroll(x, start(memory), reset)
    for row in range(B):
        bounds = [0, *reset[1:, row].nonzero().flatten().add(1).tolist(), T]
        for first, end in pairwise(bounds):
            alone = x[first:end, row : row + 1]
            no_reset = torch.zeros(end - first, 1)
            out, state = memory.unroll(alone, start(memory, 1), no_reset)
            close(out[:, 0], whole[first:end, row])
        close(state, {name: s[row : row + 1] for name, s in last.items()})


@pytest.mark.parametrize("name", NAMES)
def test_outputs_depend_on_the_past_of_their_episode_alone(name: str) -> None:
    memory, (x, reset) = made(name).eval(), sequence()
    x.requires_grad_()
    out, _ = memory.unroll(x, start(memory), reset)
    (gradient,) = torch.autograd.grad(out[11, :, 0].sum(), x)
    read = gradient.abs().sum(-1) > 0
    # "transformer" drops three inputs of the first row before the sixth, the ninth and the twelfth.
    firsts = [9, 7, 8, 9] if name.startswith("transformer") else [0, 4, 8, 0]
    for row, first in enumerate(firsts):
        assert read[:, row].nonzero().flatten().tolist() == [*range(first, 12)]


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_flat_and_zero_at_the_start(name: str) -> None:
    memory, (x, reset) = made(name).eval(), sequence()
    first = memory.initial_state(B, CPU)
    assert all(len(s) == B and s.dtype == torch.float32 and not s.any() for s in first.values())
    _, state = memory.unroll(x, start(memory), reset)
    assert {name: s.shape for name, s in state.items()} == {k: s.shape for k, s in first.items()}
    for row in range(B):
        picked = {name: s[row : row + 1] for name, s in state.items()}
        close(
            memory.step(x[0, row : row + 1], picked)[0], memory.step(x[0], state)[0][row : row + 1]
        )


@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_give_the_same_outputs(name: str) -> None:
    memory, other, (x, reset) = made(name).eval(), made(name, 1).eval(), sequence()
    whole, _ = memory.unroll(x, start(memory), reset)
    assert not torch.allclose(other.unroll(x, start(memory), reset)[0], whole)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.unroll(x, start(memory), reset)[0], whole)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bn-lstm", ("gain=0.5", "steps=3")),
        ("fast-weights", ("inner=3", "decay=0.5", "rate=0.1", "identity=0.9")),
        ("mann", ("slots=7", "width=5", "heads=3", "decay=0.2", "sharpness=none")),
        ("transformer", ("length=7", "layers=1", "heads=1", "widening=2")),
        ("big-bird", ("length=14", "layers=1", "heads=1", "widening=2", "block=1", "window=2", "random=0")),
    ],
)  # fmt: skip
def test_every_option_has_an_effect(name: str, options: tuple[str, ...]) -> None:
    def outputs(name: str) -> Tensor:
        memory, (x, reset) = made(name).eval(), sequence()
        return memory.unroll(x, start(memory), reset)[0]

    usual = outputs(SMALL[name])
    for option in options:
        assert not torch.allclose(outputs(f"{SMALL[name]},{option}"), usual), option


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lstm:units=3", "there is no option 'units' of the memory lstm, which has no options"),
        ("mann:slot=3", "there is no option 'slot' of the memory mann; it has slots, width"),
        ("mann:slots=many", "slots of the memory mann is 'many'; give a whole number, as in mann:slots=128"),
        ("mann:slots=2", "mann has 4 heads and 2 slots; give at least as many slots"),
        ("mann:sharpness=high", "sharpness of mann is 'high'; give one of none, learned"),
        ("mann:decay=2", "decay of mann is 2.0; give a number from 0 to 1"),
        ("fast-weights:inner=0", "inner of fast-weights is 0; give 1 or more"),
        ("fast-weights:rate=-1", "rate of fast-weights is -1.0; give a number from 0 to 1,000,000"),
        ("bn-lstm:steps=0", "steps of bn-lstm is 0; give 1 or more"),
        ("transformer:heads=3", "the width is 8 and the number of heads 3"),
        ("big-bird:length=0", "length of big-bird is 0; give 1 or more"),
        ("big-bird:random=-1", "block, window and random are 16, 3 and -1"),
        ("mann:slots=10000000", "slots of mann is 10000000; give 1 or more, up to 1,000,000"),
        ("os:getcwd", "the memory 'os:getcwd' is <built-in function getcwd>; give the name of a class derived from"),
        ("os:PathLike", "the memory 'os:PathLike' is <class 'os.PathLike'>; give the name of a class derived from"),
        ("fastweights", "there is no memory 'fastweights'; did you mean fast-weights?"),
    ],
)  # fmt: skip
def test_wrong_names_and_options_are_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        make_memory(name, D, H)
    assert str(error.value).startswith(sentence)


def test_a_class_of_another_package_needs_no_registration() -> None:
    memory = make_memory("rlbench.backbones.memories.gru:GRU", D, H, more=2)
    out, _ = memory.step(torch.zeros(1, D + 2), memory.initial_state(1, CPU))
    assert out.shape == (1, H)
