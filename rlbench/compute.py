"""CPU settings of a process, made once at its start."""

import ctypes
import functools
import sys
from pathlib import Path

import torch

from rlbench.errors import UserError

# From malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def configure(threads: int, device: str = "cpu") -> None:
    """Sets the number of threads and makes small networks fast on a CPU.

    Results stay float32: no setting here rounds to a shorter format; see `rlbench.accelerate.precision`.
    """
    if threads < 1:
        raise UserError(f"threads is {threads}; give 1 or more")
    torch.set_num_threads(threads)
    if device == "cpu" and _rounds_nothing():  # A GPU would round.
        # oneDNN instead of MKL for matrix products: never slower, up to 1.8 times as fast.
        torch.set_float32_matmul_precision("medium")
    _keep_freed_memory()


def resolve_device(name: str) -> torch.device:
    """The device called `name`; a UserError if this machine does not have it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"there is no device {name!r}; expected cpu, cuda, cuda:N or mps")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device {name!r}: PyTorch finds no Apple GPU here; use cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(
            f"device {name!r}: PyTorch finds {count} CUDA GPUs here; start runs on cpu, and resume "
            "those that began on a GPU on a machine with one"
        )
    return device


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether the hardware has units for bfloat16 products; assumed for every GPU."""
    return device.type != "cpu" or not {"amx_bf16", "avx512_bf16"}.isdisjoint(_flags())


def _rounds_nothing() -> bool:
    """Whether "medium" products stay float32: on x86, unless there are AMX units for bfloat16."""
    return "avx2" in _flags() and "amx_bf16" not in _flags()


@functools.cache
def _flags() -> frozenset[str]:
    """Feature flags of an x86 processor, as named by Linux; empty on other systems."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return frozenset()


def _keep_freed_memory() -> None:
    """Makes glibc reuse large blocks: new pages for each temporary cost more than its computation."""
    _call_glibc("mallopt", _M_MMAP_THRESHOLD, 1 << 30)
    _call_glibc("mallopt", _M_TRIM_THRESHOLD, -1)


def release_freed_memory() -> None:
    """Makes glibc return freed memory; reading a compressed file leaves 80 MiB of it."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if function is not None:  # Other C libraries, such as musl, have none.
        function(*arguments)
