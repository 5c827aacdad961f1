"""Children of an architecture search: their parts of the images, their training, and the clock."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from rlbench.envs.architectures import children, latency
from rlbench.envs.architectures.children import (
    Child,
    ChildSettings,
    child_network,
    image_shape,
    open_task,
    pixels,
    train_child,
)
from rlbench.envs.architectures.latency import Clocks, Device, latency_of, measure
from rlbench.envs.examples import Arrays, find_source
from rlbench.errors import UserError
from tests.images import QUICK, TINY, labelled, source

BOTH = TINY.decode((2, 0, 1, 3, 0, 1))


def timeless(child: Child) -> Child:
    return dataclasses.replace(child, seconds=0.0)


def test_validation_is_the_last_part_of_the_training_split() -> None:
    given = labelled(65)
    task = open_task(Arrays(given, labelled(20, 1)), "mine", QUICK)
    # 70 % of 65 are 45, and 40 is the last multiple of 20.
    assert [len(x.label) for x in (task.train, task.validation, task.test)] == [40, 25, 20]
    np.testing.assert_array_equal(task.train.obs[:, 0], given["obs"][:40, :, :, 0])
    np.testing.assert_array_equal(task.validation.label, given["label"][40:])
    np.testing.assert_array_equal(task.test.label, labelled(20, 1)["label"])


def test_no_digit_is_in_two_parts() -> None:
    made = find_source("digits-shift")
    assert made is not None
    assert len(open_task(made(), "digits-shift", ChildSettings()).train.label) == 2000
    # Copies of an image follow each other, and validation begins with a first copy.


def test_the_digest_depends_on_images_labels_and_numbers() -> None:
    def digest(count: int = 60, settings: ChildSettings = QUICK, **changed: int) -> str:
        columns = labelled(count)
        for name, row in changed.items():
            columns[name][row] = 1 - np.sign(columns[name][row])
        return open_task(Arrays(columns, labelled(20, 1)), "mine", settings).digest

    other = dataclasses.replace(QUICK, training_share=0.4)
    found = [digest(), digest(obs=3), digest(label=50), digest(61), digest(settings=other)]
    assert len(set(found)) == 5
    assert digest() == found[0]


@pytest.mark.parametrize(
    ("obs", "label", "shape"),
    [((8, 9, 3), 0, (3, 8, 9)), ((3, 8, 9), 0, (3, 8, 9)), ((8, 9), 0, None), ((8, 9, 2), 0, None), ((8, 9, 3), 0.5, None)],
)  # fmt: skip
def test_shapes_of_images(
    obs: tuple[int, ...], label: float, shape: tuple[int, ...] | None
) -> None:
    columns = {"obs": np.zeros((4, *obs), np.uint8), "label": np.full(4, label)}
    columns["label"] = columns["label"].astype(int) if label == 0 else columns["label"]
    given = Arrays(columns, columns)
    if shape:
        assert image_shape(given, "mine") == shape
    else:
        with pytest.raises(UserError, match=r"mine has the columns .* give a source such as"):
            image_shape(given, "mine")


def test_too_few_images() -> None:
    with pytest.raises(UserError, match=r"mine has 28 training images .* at least 29 and 1"):
        open_task(source(28), "mine", QUICK)
    assert len(open_task(source(29), "mine", QUICK).train.label) == 20


def test_a_child_learns_and_is_the_same_each_time() -> None:
    settings = dataclasses.replace(QUICK, epochs=12)
    task = open_task(source(200), "mine", settings)
    child = train_child(BOTH, task, settings, 0)
    assert child.status == "ok"
    assert child.accuracy is not None
    assert child.accuracy > 0.9
    assert child.test_accuracy is not None
    assert child.test_accuracy > 0.7
    torch.manual_seed(5)
    assert timeless(train_child(BOTH, task, settings, 0)) == timeless(child)


def test_the_seed_and_every_setting_change_a_child() -> None:
    task = open_task(source(), "mine", QUICK)

    def logits(seed: int = 0, **changed: float) -> bytes:
        settings = dataclasses.replace(QUICK, **changed)  # type: ignore[arg-type]
        network = child_network(BOTH, (1, 8, 8), 2, seed)
        children._train(network, task, settings, seed)
        with torch.no_grad():
            out: bytes = network.eval()(pixels(torch.from_numpy(task.test.obs))).numpy().tobytes()
        return out

    found = [
        logits(), logits(1), logits(epochs=2), logits(batch_size=20), logits(learning_rate=0.01), logits(balanced=True),
    ]  # fmt: skip
    assert len(set(found)) == 6


def test_the_seed_decides_the_first_weights() -> None:
    (one, same, other) = (
        next(child_network(BOTH, (1, 8, 8), 2, seed).parameters()) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_last_small_batch_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counted(obs: torch.Tensor) -> torch.Tensor:
        sizes.append(len(obs))
        return pixels(obs)

    monkeypatch.setattr(children, "pixels", counted)
    train_child(BOTH, open_task(source(61), "mine", QUICK), QUICK, 0)
    assert sizes == [16, 16, 21, 20]


def test_the_input_of_a_network_does_not_depend_on_the_strides_of_the_images() -> None:
    images = open_task(source(), "mine", QUICK).train
    copied = pickle.loads(pickle.dumps(images))
    assert copied.obs.strides != images.obs.strides, "pickling changes those of a single channel"
    here, there = (pixels(torch.from_numpy(x.obs)) for x in (images, copied))
    assert torch.equal(here, there)
    assert here.stride() == there.stride() == (64, 1, 8, 1)
    assert here.max() <= 1
    torch.testing.assert_close(here, torch.from_numpy(images.obs).float() / 255)


def test_children_are_measured_in_evaluation_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def looked(network: torch.nn.Module, *_: object) -> float:
        modes.append(network.training)
        return 0.5

    monkeypatch.setattr(children, "_accuracy", looked)
    train_child(BOTH, open_task(source(), "mine", QUICK), QUICK, 0)
    assert modes == [False, False]


def test_a_child_that_diverges() -> None:
    settings = dataclasses.replace(QUICK, epochs=3, learning_rate=1e30)
    child = train_child(BOTH, open_task(source(), "mine", settings), settings, 0)
    assert (child.status, child.accuracy, child.test_accuracy) == ("diverged", None, None)
    assert child.parameters > 0


def test_a_child_that_takes_too_long_or_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(QUICK, most_seconds=0.0)
    task = open_task(source(), "mine", settings)
    child = train_child(BOTH, task, settings, 0)
    assert (child.status, child.accuracy, child.test_accuracy) == ("timeout", None, None)

    def full(*_: object) -> str:
        torch.empty(2**60)
        return "ok"

    monkeypatch.setattr(children, "_train", full)
    assert train_child(BOTH, task, QUICK, 0).status == "memory"


def test_balanced_accuracy_is_the_mean_over_the_classes_that_occur() -> None:
    obs = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    images = children.Images(obs, np.array([0, 0, 0, 0, 2, 2]))

    def network(x: torch.Tensor) -> torch.Tensor:
        chosen = torch.tensor([0, 0, 0, 1, 2, 0])[(x * 255).round().long().flatten()]
        return torch.nn.functional.one_hot(chosen, 4)

    assert children._accuracy(network, images, False) == pytest.approx(4 / 6)  # type: ignore[arg-type]
    assert children._accuracy(network, images, True) == pytest.approx((3 / 4 + 1 / 2) / 2)  # type: ignore[arg-type]


def test_training_uses_one_thread_and_puts_the_number_back() -> None:
    torch.set_num_threads(2)
    try:
        with children.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


class Fake:
    """Clocks of a computer on which pass i takes the wall and the thread times of its list."""

    def __init__(self, wall: list[float], thread: list[float]) -> None:
        self.times = list(zip(wall, thread, strict=True))
        self.passes, self.wall, self.thread = 0, 0.0, 0.0

    def run(self) -> None:
        wall, thread = self.times[self.passes % len(self.times)]
        self.passes += 1
        self.wall += wall / 1e3
        self.thread += thread / 1e3

    def measured(self) -> latency.Latency:
        return measure(self.run, Clocks(lambda: self.wall, lambda: self.thread))


ATTEMPT = latency.WARM_UP + latency.ROUNDS * latency.PASSES


def test_latency_is_the_smallest_wall_time() -> None:
    fake = Fake([3.0, 2.0, 2.5, 9.0], [2.0, 2.0, 2.0, 3.0])
    found = fake.measured()
    assert found.latency_ms == pytest.approx(2.0)
    assert found.thread_ms == pytest.approx(2.0)
    assert found.ratio == pytest.approx(2.75 / 2)
    assert not found.contended
    assert fake.passes == ATTEMPT


def test_passes_that_warm_up_do_not_count() -> None:
    warm = [0.1] * latency.WARM_UP + [2.0] * (ATTEMPT - latency.WARM_UP)
    assert Fake(warm, warm).measured().latency_ms == pytest.approx(2.0)


def test_a_busy_processor_is_measured_again_up_to_three_times() -> None:
    busy, free = [4.0] * ATTEMPT, [2.0] * ATTEMPT
    again = Fake(busy + busy + free, [2.0] * 3 * ATTEMPT)
    assert again.measured().latency_ms == pytest.approx(2.0)
    assert again.passes == 3 * ATTEMPT
    always = Fake([4.0, 3.5, 4.0], [2.0, 1.0, 1.9])
    found = always.measured()
    assert found.contended
    assert found.latency_ms == pytest.approx(1.9), "the median of the thread's time"
    assert found.wall_ms == pytest.approx(3.5)
    assert always.passes == 4 * ATTEMPT
    lucky = Fake([4.0, 0.5, 4.0], [2.0, 1.0, 1.9]).measured()
    assert lucky.contended
    assert lucky.latency_ms == pytest.approx(0.5), "one pass was not disturbed"


def test_a_network_is_measured_on_batches_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def once(run: object) -> latency.Latency:
        run()  # type: ignore[operator]
        return latency.Latency(1.0, 1.0, 1.0, 1.0, False)

    monkeypatch.setattr(latency, "measure", once)
    network = child_network(BOTH, (1, 8, 8), 2, 0)
    network.register_forward_pre_hook(
        lambda module, given: seen.append(
            (given[0].shape, module.training, torch.is_inference_mode_enabled())
        )
    )
    latency_of(network, Device.here(3, (1, 8, 8)))
    assert seen == [((3, 1, 8, 8), False, True)]


def test_a_device_is_known_by_all_that_matters() -> None:
    here = Device.here(1, (1, 8, 8))
    assert here.processor
    assert here.torch == torch.__version__
    assert here.key() == Device.here(1, (1, 8, 8)).key()
    assert here.key() != Device.here(2, (1, 8, 8)).key()
    assert here.key() != Device.here(1, (3, 8, 8)).key()
