"""Devices by name, and settings of the process that change no result."""

import pytest
import torch

from rlbench import compute
from rlbench.errors import UserError


def test_the_processor_is_always_there() -> None:
    assert compute.resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "words"),
    [("gpu", "there is no device 'gpu'"), ("meta", "expected cpu"), ("cuda:99", "CUDA GPUs here")],
)
def test_other_devices_are_refused_in_one_sentence(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compute.resolve_device(name)


def test_products_stay_float32() -> None:
    compute.configure(threads=1)
    a, b = torch.rand(256, 256), torch.rand(256, 256)
    exact = a.double() @ b.double()
    # bfloat16 would be off by 1e-3 and more.
    torch.testing.assert_close((a @ b).double(), exact, rtol=1e-5, atol=0)
