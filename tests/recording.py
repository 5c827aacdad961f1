"""A stand-in for a CUDA graph on the CPU: operations are recorded once and replayed in the same memory, without Python."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
WAITING = {_aten._local_scalar_dense.default, _aten.nonzero.default, _aten.lift_fresh.default}
"""Operations that a capture refuses: numbers and shapes that Python reads, and constants that it copies to the GPU."""


class Recorder(TorchDispatchMode):
    """A context that records operations with their tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in WAITING, f"{func} cannot be captured"
        if func is _aten.index.Tensor:
            assert all(x.dtype != torch.bool for x in args[1]), "masks cannot be captured"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """Runs the operations again; results go to the tensors of the first time."""
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for new, old in zip(tree_leaves(again), tree_leaves(out), strict=True):
                if isinstance(new, Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


def recorded(
    function: Callable[..., Sequence[Tensor]],
    columns: Sequence[Tensor],
    state: Sequence[Tensor],
    generators: Collection[torch.Generator],
) -> Callable[..., Sequence[Tensor]]:
    """Like `captured`, for functions without columns."""
    assert not columns
    before, drawn = [x.clone() for x in state], [x.get_state() for x in generators]
    function()
    recorder = Recorder()
    with recorder:
        metrics = torch.stack([x.float() for x in function()])
    for x, old in zip(state, before, strict=True):
        x.copy_(old)
    for generator, place in zip(generators, drawn, strict=True):
        generator.set_state(place)

    def replay() -> Sequence[Tensor]:
        recorder.replay()
        return metrics.clone().unbind()

    return replay
