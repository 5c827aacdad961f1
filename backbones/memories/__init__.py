"""Memories of past observations, by name; importing this loads the standard library only.

memory = make_memory("lstm", 4, size=64)        # reads vectors of length 4
"""

from typing import TYPE_CHECKING, Any

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
    },
    group="rlbench.memories",
)


def make_memory(name: str, observations: "Observations", size: int, more: int = 0) -> "Memory":
    """The memory of a name.

    Args:
        name: As in `MEMORIES`.
        observations: Length of the vectors that it reads, or an encoder.
        size: Length of its output, H.
        more: Length of additional inputs, such as the last action.

    Raises:
        UserError: There is no such memory.
    """
    from rlbench.backbones.encoders._base import reader, size_of

    memory: Memory = MEMORIES.load(name)(size_of(observations) + more, size)
    memory.reader = reader(observations)
    return memory


def __getattr__(name: str) -> Any:
    """Attributes that need PyTorch, loaded on first use."""
    if name in ("Memory", "forget"):
        from rlbench.backbones.memories import _base

        return getattr(_base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
