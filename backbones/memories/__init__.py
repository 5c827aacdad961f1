"""Memories of past observations, by name; importing this loads the standard library only.

    memory = make_memory("lstm", 4, size=64)        # reads vectors of length 4

A name may be followed by options: `fast-weights:inner=2,decay=0.9`.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlbench.backbones.options import read_options
from rlbench.errors import UserError
from rlbench.names import NameTable

if TYPE_CHECKING:
    from rlbench.backbones.encoders import Observations
    from rlbench.backbones.memories._base import Memory as Memory, forget as forget

MEMORIES = NameTable(
    "memory",
    __name__,
    {
        "gru": ("gru:GRU", "gated recurrent units"),
        "lstm": ("lstm:LSTM", "long short-term memory"),
        "bn-lstm": (
            "bn_lstm:BNLSTM",
            "LSTM with batch normalisation at each time step; options gain, steps, ...",
        ),
        "fast-weights": (
            "fast_weights:FastWeights",
            "units with a matrix of fast weights; options inner, decay, rate, ...",
        ),
        "mann": (
            "mann:MANN",
            "LSTM that writes to a table and reads it by content; options slots, width, heads, ...",
        ),
        "transformer": (
            "transformer:TransformerMemory",
            "causal transformer over the last inputs; options length, layers, heads, ...",
        ),
        "big-bird": (
            "transformer:BigBirdMemory",
            "the same with Big Bird's sparse attention; options block, window, random, ...",
        ),
    },
    group="rlbench.memories",
)


def make_memory(name: str, observations: "Observations", size: int, more: int = 0) -> "Memory":
    """The memory of a name.

    Args:
        name: As in `MEMORIES`, with options after a colon if it has any, or `package.module:Class`.
        observations: Length of the vectors that it reads, or an encoder.
        size: Length of its output, H.
        more: Length of additional inputs, such as the last action.

    Raises:
        UserError: There is no such memory or option, the name is not the name of a memory, or an option is out of range.
    """
    from rlbench.backbones.encoders._base import reader, size_of
    from rlbench.backbones.memories._base import Memory

    base, _, given = name.partition(":")
    if base not in MEMORIES:
        base, given = name, ""
    kind: Any = MEMORIES.load(base)
    if not (inspect.isclass(kind) and issubclass(kind, Memory)):
        raise UserError(
            f"the memory {name!r} is {kind!r}; give the name of a class derived from rlbench.backbones.memories.Memory"
        )
    options = read_options("memory", base, given.split(",") if given else [], kind.__init__)
    make: Callable[..., Memory] = kind
    memory = make(size_of(observations) + more, size, **options)
    memory.reader = reader(observations)
    return memory


def acting_memory(name: str, observations: "Observations", size: int, more: int = 0) -> "Memory":
    """The memory of a name for an agent; see `make_memory`.

    Batch normalisation uses its running statistics, because an agent acts on single observations.
    """
    from rlbench.backbones.encoders._base import use_running_statistics

    memory = make_memory(name, observations, size, more)
    use_running_statistics(memory)
    return memory


def __getattr__(name: str) -> Any:
    """Attributes that need PyTorch, loaded on first use."""
    if name in ("Memory", "forget"):
        from rlbench.backbones.memories import _base

        return getattr(_base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
