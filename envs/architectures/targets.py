"""The target latency of a search, which is fixed before it begins.

The target T is the median latency of 30 random architectures of the space; a tight one is the latency that 1 in 10 of them meets.
For encoders of agents it is the latency of what a search wants to replace: the suite's encoder `nature` and a linear layer of
512 units, on the same images.

T is measured once and stored: if it drifted, so would the rewards of a search that is resumed. A space and its form with
equal blocks share T, so that their searches can be compared.
"""

from collections.abc import Iterator

import numpy as np
from torch import nn

from rlbench.backbones.encoders import make_encoder
from rlbench.envs.architectures import store
from rlbench.envs.architectures.evaluate import Tokens
from rlbench.envs.architectures.latency import latency_of
from rlbench.envs.architectures.space import CELL_SUFFIX, Space, find_space
from rlbench.envs.architectures.trained import TrainedEvaluator, network_of
from rlbench.errors import UserError

SAMPLES = 30
"""Random architectures whose latencies decide the target."""
UNITS = 512
"""Units of the linear layer after the encoder `nature`, as in the deep Q-network."""
CHECKED, NEEDED = 50, 3
"""At least 3 of 50 random architectures, that is 5 %, must be as fast as `nature`."""
AT_ONCE = 10


def random_target(evaluator: TrainedEvaluator, share: float) -> float:
    """The latency, in milliseconds, that this share of random architectures meets; 0.5 is the median."""
    base = find_space(evaluator.space.name.removesuffix(CELL_SUFFIX))
    key = {
        "target": f"quantile {share} of {SAMPLES}", "space": base.name, "classes": evaluator.classes,
        "device": evaluator.device.key(),
    }  # fmt: skip
    known = _known(evaluator, key)
    if known is None:
        networks = [network_of(base, base.canonical(x)) for x in random_tokens(base, SAMPLES)]
        found = evaluator.latencies(networks)
        known = float(np.quantile([found[network].latency_ms for network in networks], share))
        store.write(evaluator.folder / "target", key, {"target_ms": known})
    return known


def nature_target(evaluator: TrainedEvaluator) -> float:
    """Latency of the encoder `nature` and a linear layer, in milliseconds.

    Raises:
        UserError: Too few architectures of the space are as fast.
    """
    key = {"target": "nature", "units": UNITS, "device": evaluator.device.key()}
    known = _known(evaluator, key)
    if known is None:
        encoder = make_encoder("nature", evaluator.device.shape)
        network = nn.Sequential(encoder.layers, nn.Linear(encoder.size, UNITS), nn.ReLU())
        with store.machine(alone=True):
            known = latency_of(network, evaluator.device).latency_ms
        store.write(evaluator.folder / "target", key, {"target_ms": known})
    _refuse_out_of_reach(evaluator, known)
    return known


def random_tokens(space: Space, count: int) -> Iterator[Tokens]:
    """Uniformly random sequences, always the same ones."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield tuple(rng.integers(space.choices).tolist())


def _known(evaluator: TrainedEvaluator, key: dict[str, object]) -> float | None:
    values = store.read(evaluator.folder / "target", key)
    return None if values is None else float(values["target_ms"])


def _refuse_out_of_reach(evaluator: TrainedEvaluator, target: float) -> None:
    """Refuses a target that hardly any architecture meets; stops measuring as soon as enough do."""
    space, met = evaluator.space, 0
    networks = [network_of(space, space.canonical(x)) for x in random_tokens(space, CHECKED)]
    # Several at once, because each call may have to wait for another search's training.
    for first in range(0, CHECKED, AT_ONCE):
        some = networks[first : first + AT_ONCE]
        found = evaluator.latencies(some)
        met += sum(found[network].latency_ms <= target for network in some)
        if met >= NEEDED:
            return
    raise UserError(
        f"{met} of {CHECKED} random architectures of {space.name} are as fast as the encoder nature ({target:.2f} ms for "
        f"{evaluator.device.batch} images of {evaluator.name}), but a search needs {NEEDED}; give a source of larger "
        "images"
    )
