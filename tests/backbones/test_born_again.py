"""Born-again networks: losses by hand, what each generation learns from, and when generations begin."""

import math
from typing import Any

import pytest
import torch

from rlbench.backbones.models.born_again import (
    BornAgain,
    BornAgainConfig,
    confidence_weights,
    permuted,
    soft_losses,
)
from rlbench.errors import UserError
from rlbench.interface import evaluating
from tests.backbones.test_ways_of_training import SPEC, batch

SETTINGS: dict[str, Any] = {
    "encoder": "mlp:units=8", "learning_rate": 0.1, "cycle_updates": 4, "batch_size": 8,
}  # fmt: skip


def trained(updates: int, **settings: Any) -> BornAgain:
    model = BornAgain(BornAgainConfig(**SETTINGS | settings), SPEC, seed=0)
    for seed in range(updates):
        model.learn(batch("born-again", seed))
    return model


def predictions_of(model: BornAgain, generation: int, obs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.generations[generation](obs).softmax(-1)
    return found


def predictions(model: BornAgain, generation: int) -> torch.Tensor:
    with evaluating(model):
        return predictions_of(model, generation, batch("born-again", 9)["obs"])


def test_soft_losses_are_cross_entropies_with_the_teachers_probabilities() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    teacher = torch.tensor([[0.6, 0.4]])
    expected = -(0.6 * math.log(0.25) + 0.4 * math.log(0.75))
    assert soft_losses(logits, teacher).tolist() == pytest.approx([expected])


def test_the_gradient_is_the_difference_of_the_probabilities() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    teacher = torch.rand(3, 4).softmax(-1)
    (gradient,) = torch.autograd.grad(soft_losses(logits, teacher).sum(), logits)
    assert torch.allclose(gradient, logits.softmax(-1) - teacher, atol=1e-6)


def test_weights_have_the_mean_one_and_follow_the_largest_probability() -> None:
    weights = confidence_weights(torch.tensor([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]))
    assert weights.mean().item() == pytest.approx(1)
    assert (weights / weights[1]).tolist() == pytest.approx([1.6, 1.0, 1.8])


def test_permuted_predictions_keep_their_largest_value_and_all_others_somewhere() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.rand(200, 5, generator=generator).softmax(-1)
    found = permuted(teacher, torch.rand(200, 5, generator=generator))
    assert torch.equal(found.argmax(1), teacher.argmax(1))
    assert torch.equal(found.amax(1), teacher.amax(1))
    assert torch.equal(found.sort(1).values, teacher.sort(1).values)
    # Each of the 4! orders of the others is about equally likely: a value stays in its place in a quarter of the rows.
    others = torch.arange(5) != teacher.argmax(1)[:, None]
    assert (found == teacher)[others].float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_equal_probabilities_are_permuted_without_moving_the_first_of_them() -> None:
    teacher = torch.full((4, 3), 1 / 3)
    assert torch.equal(permuted(teacher, torch.rand(4, 3)), teacher)


def test_generations_begin_with_new_weights_at_their_time() -> None:
    first = trained(4)
    begun = trained(5)
    assert (first.generation, begun.generation) == (0, 1)
    ended, last = begun.generations[0].state_dict(), first.whole.state_dict()
    assert all(torch.equal(ended[name], x) for name, x in last.items())
    again = trained(8)
    assert torch.equal(predictions(begun, 0), predictions(again, 0))
    assert trained(40).generation == 2


def test_without_a_teacher_all_generations_learn_from_labels() -> None:
    runs = [trained(8, objective=x) for x in ("labels", "soft", "cwtm", "dkpp")]
    firsts = [predictions(model, 0) for model in runs]
    assert all(torch.equal(x, firsts[0]) for x in firsts)
    heads = [model.head.weight.detach() for model in runs]
    assert all(not torch.equal(heads[i], heads[j]) for i in range(4) for j in range(i))


def test_the_first_generation_learns_from_the_scores_of_a_teacher_if_they_are_given() -> None:
    model = trained(0, teacher="scores", temperature=2.0, label_weight=0.5)
    examples = batch("born-again", 1)
    logits = model.scores(examples["obs"])
    teacher = (examples["scores"].float() / 2).softmax(-1)
    cross = torch.nn.functional.cross_entropy(logits, examples["label"])
    expected = 4 * soft_losses(logits / 2, teacher).mean() + 0.5 * cross
    assert float(model._loss(logits, examples)) == pytest.approx(float(expected))
    labels = trained(2, teacher="scores", objective="labels")
    assert torch.equal(labels.head.weight, trained(2).head.weight)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("missing", "teacher is 'missing', which does not exist; give a column with 3 numbers"),
        ("factors", r"teacher is 'factors', which is Box\(0, 2, \(2,\), int64\); give"),
        ("other", "teacher is 'other', which is Discrete"),
    ],
)
def test_a_teacher_has_a_score_for_each_class(teacher: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trained(0, teacher=teacher)


@pytest.mark.parametrize(("objective", "expected"), [("soft", True), ("cwtm", False)])
def test_a_temperature_softens_teacher_and_student(objective: str, expected: bool) -> None:
    usual, soft = (trained(8, objective=objective, temperature=x).head.weight for x in (1.0, 3.0))
    assert (not torch.equal(usual, soft)) == expected


def test_each_generation_learns_from_the_one_before_it_with_permutations_of_its_own() -> None:
    model = trained(9, objective="dkpp")
    assert model.generation == 2
    examples = batch("born-again", 20)
    teacher = predictions_of(model, 1, examples["obs"])
    drawn = torch.Generator()
    drawn.set_state(model.generator.get_state())
    noise = torch.rand(teacher.shape, generator=drawn)
    logits = model.scores(examples["obs"]).detach()
    expected = soft_losses(logits, permuted(teacher, noise)).mean()
    assert float(model._loss(logits, examples)) == pytest.approx(float(expected), rel=1e-5)


def test_a_generation_begins_with_new_weights_and_without_momentum() -> None:
    model = trained(4)
    before = {k: x.clone() for k, x in model.generations[1].state_dict().items()}
    model._begin(0)
    begun = model.whole.state_dict()
    assert all(torch.equal(begun[k], x) for k, x in before.items())
    assert not torch.equal(begun["1.weight"], model.generations[0].state_dict()["1.weight"])
    assert not model.optimizer.velocities.any()


def test_the_loss_of_a_later_generation_is_the_one_of_its_objective() -> None:
    model = trained(5, label_weight=0.5)
    examples = batch("born-again", 20)
    teacher = predictions_of(model, 0, examples["obs"])
    logits = model.scores(examples["obs"]).detach()
    cross = torch.nn.functional.cross_entropy(logits, examples["label"])
    expected = soft_losses(logits, teacher).mean() + 0.5 * cross
    assert model.learn(examples)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_measures_are_of_each_generation_and_of_their_mean() -> None:
    model, examples = trained(9), batch("born-again", 30)
    with torch.no_grad(), evaluating(model):
        found = model.measure(examples)
        each = [predictions_of(model, k, examples["obs"]) for k in (0, 1)]
        each.append(model.scores(examples["obs"]).softmax(-1))
    label = examples["label"]
    for k in range(3):
        assert torch.equal(found[f"accuracy_{k}"], (each[k].argmax(1) == label).float())
    ensemble = torch.stack(each).mean(0)
    assert torch.equal(found["ensemble"], (ensemble.argmax(1) == label).float())
    assert torch.equal(found["accuracy"], found["accuracy_2"])
