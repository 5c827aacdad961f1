"""`python -m rlbench.benchmarks.speed.clients`: clients of federated averaging as one batch, compared with one client after the other.

CPU time on one thread: the median of several rounds, in which both forms take turns, so that other load on the machine affects both.
"""

from functools import partial

import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import Tensor
from torch.func import functional_call

from rlbench.backbones.layers.federated import Weights, local_weights
from rlbench.backbones.models.fedavg import FedAvg, FedAvgConfig
from rlbench.benchmarks.speed.detection import times

IMAGES, CLASSES, EPOCHS = 14, 10, 5
CASES = ((10, 10), (50, 10), (10, None))
"""Clients of a round, and images of a local step; None: all."""
RATE = 0.1


def one_by_one(
    model: FedAvg, start: Weights, rows: dict[str, Tensor], batch_size: int | None, seed: int
) -> list[Weights]:
    """The weights of each client after its own steps, by plain gradient descent."""
    generator = torch.Generator().manual_seed(seed)
    clients, images = rows["label"].shape
    orders = [
        torch.rand((clients, images), generator=generator).argsort(dim=1) for _ in range(EPOCHS)
    ]
    found = []
    for client in range(clients):
        weights = start
        for order in orders:
            for chosen in order[client].split(batch_size or images):
                weights = {name: x.detach().requires_grad_() for name, x in weights.items()}
                logits = functional_call(model.network, weights, (rows["obs"][client, chosen],))
                loss = F.cross_entropy(logits, rows["label"][client, chosen])
                gradients = torch.autograd.grad(loss, list(weights.values()))
                weights = {
                    name: (x - RATE * g).detach()
                    for (name, x), g in zip(weights.items(), gradients, strict=True)
                }
        found.append(weights)
    return found


def as_a_batch(
    model: FedAvg, start: Weights, rows: dict[str, Tensor], batch_size: int | None, seed: int
) -> Weights:
    """The same weights, [M, ...] each, as the suite computes them."""
    count = torch.full((len(rows["label"]),), IMAGES)
    return local_weights(
        model.loss, start, rows, count, epochs=EPOCHS, batch_size=batch_size, learning_rate=RATE,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def main() -> None:
    """Prints the figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = Box(0, 255, (IMAGES, 8, 8, 1), dtype="uint8")  # type: ignore[call-overload]
    spec = {"obs": images, "label": Box(0, CLASSES - 1, (IMAGES,), dtype="int64")}  # type: ignore[call-overload]
    model = FedAvg(FedAvgConfig(), spec)
    start = {name: x.detach() for name, x in model.network.named_parameters()}
    print("| round | seconds, median | one client after the other, seconds | ratio |")
    print("|---|---|---|---|")
    for clients, size in CASES:
        rows = {
            "obs": torch.randint(256, (clients, IMAGES, 8, 8, 1)).float(),
            "label": torch.randint(CLASSES, (clients, IMAGES)),
        }
        ours, theirs = (
            as_a_batch(model, start, rows, size, 0),
            one_by_one(model, start, rows, size, 0),
        )
        for name, x in ours.items():
            torch.testing.assert_close(x, torch.stack([each[name] for each in theirs]), atol=1e-5, rtol=1e-4)  # fmt: skip
        forms = {"ours": as_a_batch, "loop": one_by_one}
        spent = times({name: partial(form, model, start, rows, size, 0) for name, form in forms.items()})  # fmt: skip
        title = f"{clients} clients, {EPOCHS} epochs, {'all images' if size is None else f'{size} images'} in a step"
        print(f"| {title} | {spent['ours']:.3f} | {spent['loop']:.3f} | {spent['loop'] / spent['ours']:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
