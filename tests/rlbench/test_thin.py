"""Matrix products with a dimension of size 1 as sums."""

from typing import Any

import pytest
import torch

from rlbench.accelerate.compile import compiled_learn, interpreted
from rlbench.accelerate.thin import THIN, product, sum_with_product
from tests.agents.case import make
from tests.probe_envs import random_experience


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize(("m", "k", "n"), [(5, 4, 1), (1, 4, 6), (5, 1, 6), (1, 1, 1)])
def test_sums_equal_the_matrix_products(batch: tuple[int, ...], m: int, k: int, n: int) -> None:
    a, b, c = torch.randn(*batch, m, k), torch.randn(*batch, k, n), torch.randn(*batch, m, n)
    torch.testing.assert_close(product(a, b), a @ b)
    torch.testing.assert_close(sum_with_product(c, a, b), c + a @ b)


def test_other_products_are_left_to_the_library() -> None:
    a, b = torch.randn(5, 4), torch.randn(4, 6)
    assert product(a, b) is NotImplemented
    assert sum_with_product(torch.zeros(5, 6), a, b) is NotImplemented
    assert sum_with_product(torch.zeros(5, 1), a, b[:, :1], beta=2) is NotImplemented


@pytest.mark.parametrize("name", ["td3-bc", "iql", "cql"])
def test_a_compiled_update_has_no_product_with_a_dimension_of_size_1(name: str) -> None:
    seen: list[tuple[Any, ...]] = []

    def backend(graph: Any, inputs: Any) -> Any:
        class Shapes(torch.fx.Interpreter):
            def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
                if target in THIN:
                    factors = [x for x in args if isinstance(x, torch.Tensor)][-2:]
                    seen.append((*factors[0].shape[-2:], *factors[1].shape[-2:]))
                return super().call_function(target, args, kwargs)

        Shapes(graph).run(*(x.clone() for x in inputs))
        return interpreted(graph, inputs)

    agent = make(name)
    compiled_learn(agent, backend)(random_experience(agent))
    assert seen
    assert not [shape for shape in seen if 1 in shape]
