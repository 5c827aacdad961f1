"""Federated averaging: vectorised clients against a loop, FedSGD against the pooled gradient, weights of unequal clients, and the sources."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch.func import functional_call

from rlbench.backbones.layers.federated import averaged, local_weights
from rlbench.backbones.models.fedavg import FedAvg, FedAvgConfig
from rlbench.envs.examples import find_source
from rlbench.errors import UserError
from rlbench.experience import Examples
from tests.backbones.test_ways_of_training import CLIENTS, batch

SETTINGS: dict[str, Any] = {"encoder": "mlp:units=8", "batch_size": 3}


def make(spec: dict[str, Any] = CLIENTS, **settings: Any) -> FedAvg:
    return FedAvg(FedAvgConfig(**SETTINGS | settings), spec, seed=0)


def parameters(model: FedAvg) -> dict[str, torch.Tensor]:
    return {name: x.detach().clone() for name, x in model.network.named_parameters()}


@pytest.mark.parametrize(("epochs", "size"), [(1, None), (2, 2), (3, 4)])
def test_clients_as_a_batch_learn_as_one_after_the_other(epochs: int, size: int | None) -> None:
    model, given = make(), batch("fedavg", 1)
    count, start = given["count"][:, 0], parameters(model)
    rows = {"obs": given["obs"], "label": given["label"]}
    options: dict[str, Any] = {"epochs": epochs, "batch_size": size, "learning_rate": 0.1}
    found = local_weights(model.loss, start, rows, count, **options, generator=torch.Generator().manual_seed(3))  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    orders = []
    for _ in range(epochs):
        noise = torch.rand(3, 6, generator=generator)
        noise[torch.arange(6) >= count[:, None]] = 2
        orders.append(noise.argsort(1))
    for client in range(3):
        own = {name: x.clone() for name, x in start.items()}
        for order in orders:
            real = order[client, : count[client]]
            for chosen in real.split(size or 6):
                own = {name: x.requires_grad_() for name, x in own.items()}
                logits = functional_call(model.network, own, (given["obs"][client, chosen],))
                loss = F.cross_entropy(logits, given["label"][client, chosen])
                gradients = torch.autograd.grad(loss, list(own.values()))
                own = {n: (x - 0.1 * g).detach() for (n, x), g in zip(own.items(), gradients, strict=True)}  # fmt: skip
        for name, x in own.items():
            assert torch.allclose(found[name][client], x, atol=1e-6)


def test_one_step_on_all_examples_is_a_step_on_the_pooled_gradient() -> None:
    model, given = make(local_epochs=1, local_batch_size=None, learning_rate=0.2), batch("fedavg")
    start, count = parameters(model), given["count"][:, 0]
    real = torch.arange(6) < count[:, None]
    logits = model.network(given["obs"][real])
    loss = F.cross_entropy(logits, given["label"][real])
    gradients = torch.autograd.grad(loss, list(model.network.parameters()))
    model.learn(given)
    now = parameters(model)
    for (name, before), gradient in zip(start.items(), gradients, strict=True):
        assert torch.allclose(now[name], before - 0.2 * gradient, atol=1e-6)


def test_weights_are_averaged_in_proportion_to_the_examples() -> None:
    weights = {"w": torch.tensor([[1.0, 2.0], [5.0, 6.0]])}
    assert averaged(weights, torch.tensor([1, 3]))["w"].tolist() == [4.0, 5.0]


def test_padding_has_no_effect() -> None:
    given = batch("fedavg")
    padded = torch.arange(6) >= given["count"]
    changed = given["obs"].clone()
    changed[padded] = 255 - changed[padded]
    other = Examples({**given.columns, "obs": changed})
    models = [make(), make()]
    found = []
    for model, examples in zip(models, (given, other), strict=True):
        model.learn(examples)
        found.append(model.measure(examples))
    assert all(
        torch.equal(a, b) for a, b in zip(*(parameters(m).values() for m in models), strict=True)
    )
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_measures_are_means_over_the_real_examples_of_each_set() -> None:
    model, given = make(), batch("fedavg")
    found = model.measure(given)
    for client, count in enumerate(given["count"][:, 0].tolist()):
        logits = model.network(given["obs"][client, :count])
        label = given["label"][client, :count]
        assert found["accuracy"][client].item() == pytest.approx((logits.argmax(1) == label).float().mean().item())  # fmt: skip
        assert found["loss"][client].item() == pytest.approx(
            F.cross_entropy(logits, label).item(), rel=1e-5
        )


def test_bytes_are_the_weights_of_all_clients_both_ways() -> None:
    model = make()
    model.learn(batch("fedavg"))
    weights = 64 * 8 + 8 + 8 * 3 + 3
    assert model.learn(batch("fedavg", 1))["bytes"].item() == 2 * 2 * 3 * 4 * weights


def test_without_counts_all_examples_are_real() -> None:
    spec = {name: space for name, space in CLIENTS.items() if name != "count"}
    given = batch("fedavg")
    whole = Examples({name: x for name, x in given.columns.items() if name != "count"})
    full = Examples({**given.columns, "count": torch.full((3, 1), 6)})
    one, other = make(spec), make()
    one.learn(whole)
    other.learn(full)
    assert all(
        torch.equal(a, b)
        for a, b in zip(parameters(one).values(), parameters(other).values(), strict=True)
    )


def test_other_examples_and_encoders_are_refused() -> None:
    for label in (
        None,
        Box(0, 2, (5,), dtype=np.int64),
        Box(-1, 2, (6,), dtype=np.int64),
        Box(0, 1.5, (6,)),
    ):
        spec = {name: space for name, space in {**CLIENTS, "label": label}.items() if space}
        with pytest.raises(UserError, match=r"fedavg needs clients|labels are"):
            make(spec)
    with pytest.raises(UserError, match="whose statistics differ between clients"):
        make(encoder="conv4:width=4,layers=2,norm=bn")


@pytest.mark.parametrize("division", ["iid", "shards", "unequal"])
def test_clients_share_no_image(division: str) -> None:
    source = find_source(f"digit-clients-{division}")()  # type: ignore[misc]
    train, test = (source.sample(split, source.sizes[split], 0) for split in ("train", "test"))
    images = [
        x.tobytes()
        for part in (train, test)
        for obs, (count,) in zip(part["obs"], part["count"], strict=True)
        for x in obs[:count]
    ]
    assert len(set(images)) == len(images)
    assert len(train["obs"]) == 100
    classes = [
        len(set(y[:n].tolist())) for y, (n,) in zip(train["label"], train["count"], strict=True)
    ]
    sizes = train["count"][:, 0]
    if division == "shards":
        assert max(classes) <= 4
        assert np.mean(classes) < 3
    else:
        assert np.mean(classes) > 5
    assert (len(set(sizes)) > 10) == (division == "unequal")
    assert not np.array_equal(source.sample("train", 100, 1)["label"], train["label"])
    assert np.array_equal(source.sample("train", 5, 0)["obs"], train["obs"][:5])


def test_another_division_is_refused() -> None:
    with pytest.raises(UserError, match="give digit-clients-iid, -shards or -unequal"):
        find_source("digit-clients-other")()  # type: ignore[misc]
