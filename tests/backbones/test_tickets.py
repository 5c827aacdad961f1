"""Lottery tickets and supermasks: criteria, actions and masks by hand, what survives training, and tickets in other runs."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from rich.console import Console
from torch import nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.pruning import (
    Criterion,
    Kept,
    Pruned,
    largest,
    pruned_masks,
    restarted,
    score,
    stopped,
)
from rlbench.backbones.models.supermask import Supermask, SupermaskConfig, drawn_weights
from rlbench.backbones.models.tickets import Tickets, TicketsConfig, pruned_weights
from rlbench.backbones.optim import SGD, Adam, gradient_step
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from tests.backbones.test_ways_of_training import SPEC, batch

SETTINGS: dict[str, Any] = {
    "encoder": "mlp:units=8-6", "rounds": 2, "round_updates": 3, "keep": 0.5, "keep_output": 1.0, "learning_rate": 0.01,
}  # fmt: skip
FIRST, LAST = torch.tensor([1.0, -2.0, 3.0, -0.5]), torch.tensor([2.0, 1.0, 2.5, -0.25])


def trained(updates: int, **settings: Any) -> Tickets:
    model = Tickets(TicketsConfig(**SETTINGS | settings), SPEC, seed=0)
    for seed in range(updates):
        model.learn(batch("tickets", seed))
    return model


@pytest.mark.parametrize(
    ("criterion", "order"),
    [
        ("large_final", [2, 0, 1, 3]), ("small_final", [3, 1, 0, 2]), ("large_init", [2, 1, 0, 3]), ("small_init", [3, 0, 1, 2]),
        ("magnitude_increase", [0, 3, 2, 1]), ("movement", [1, 0, 2, 3]), ("magnitude_increase_same_sign", [0, 3, 2, 1]),
        ("large_final_same_sign", [2, 0, 3, 1]), ("large_final_diff_sign", [1, 0, 2, 3]), ("magnitude_increase_diff_sign", [1, 0, 2, 3]),
        ("large_init_large_final", [2, 0, 1, 3]), ("small_init_small_final", [3, 0, 1, 2]),
    ],
)  # fmt: skip
def test_criteria_order_weights_as_by_hand(criterion: Criterion, order: list[int]) -> None:
    scores = score(criterion, FIRST, LAST, FIRST)
    assert scores.argsort(descending=True, stable=True).tolist() == order


def test_random_scores_are_the_noise() -> None:
    assert torch.equal(score("random", FIRST, LAST, LAST), LAST)


def test_only_kept_weights_are_kept_again() -> None:
    mask = torch.tensor([True, False, True, True])
    assert largest(torch.tensor([1.0, 9.0, 3.0, 2.0]), mask, 2).tolist() == [
        False,
        False,
        True,
        True,
    ]
    worst = torch.full((4,), -torch.inf)
    assert largest(worst, mask, 3).tolist() == mask.tolist()


def test_layers_are_pruned_each_for_itself_or_together() -> None:
    scores = [torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5.0, 6.0, 7.0, 8.0]), torch.ones(2)]
    masks = [torch.ones_like(x, dtype=torch.bool) for x in scores]
    alone = pruned_masks(scores, masks, (0.5, 0.5, 1.0), together=False)
    assert [x.int().tolist() for x in alone] == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1]]
    together = pruned_masks(scores, masks, (0.5, 0.5, 1.0), together=True)
    # The first layer would lose everything, but keeps one weight.
    assert [x.int().tolist() for x in together] == [[0, 0, 0, 1], [1, 1, 1, 1], [1, 1]]


@pytest.mark.parametrize("action", get_args(Kept))
def test_kept_weights_restart_as_their_action_says(action: Kept) -> None:
    mask, new = torch.tensor([True, True, True, False]), torch.tensor([-7.0, 8.0, -9.0, 1.0])
    noise = torch.tensor([0.9, 0.1, 0.6, 0.3])
    values = restarted(action, FIRST, mask, new, noise)[mask].tolist()
    std = FIRST.std().item()
    expected = {
        "rewind": [1, -2, 3], "reinit": [-7, 8, -9], "reshuffle": [-2, 3, 1], "signed_reinit": [7, -8, 9],
        "signed_reshuffle": [2, -3, 1], "signed_constant": [std, -std, std], "rand_signed_constant": [-std, std, -std],
    }  # fmt: skip
    assert values == pytest.approx(expected[action])


@pytest.mark.parametrize("action", get_args(Pruned))
def test_pruned_weights_stop_as_their_action_says(action: Pruned) -> None:
    shrunk_to_zero = [1.0, 0.0, 0.0, 0.0]
    expected = {
        "zero": [0.0] * 4, "freeze_init": FIRST.tolist(), "freeze_init_zero_mask": shrunk_to_zero, "freeze_init_zero_all": shrunk_to_zero,
    }  # fmt: skip
    assert stopped(action, FIRST, LAST).tolist() == expected[action]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_pruned_weights_survive_training_unchanged(optimizer: str) -> None:
    model = trained(8, optimizer=optimizer)
    kept = [float(x.float().mean()) for x in model.masks.masks]
    assert kept == pytest.approx([0.25, 0.25, 1.0], abs=0.02)
    for weight, mask in zip(pruned_weights(model.network), model.masks.masks, strict=True):
        assert (weight[~mask] == 0).all()
        assert (weight[mask] != 0).all()


def test_each_round_restarts_from_the_early_weights() -> None:
    model = trained(4)  # One update after the first pruning.
    fresh = Tickets(TicketsConfig(**SETTINGS), SPEC, seed=0)
    for ticket, first, mask in zip(
        pruned_weights(model.ticket), pruned_weights(fresh.network), model.masks.masks, strict=True
    ):
        assert torch.equal(ticket, first * mask)
    assert model.optimizer.steps == 1  # type: ignore[union-attr]
    late = trained(4, rewind_updates=2)
    early = trained(2)
    for own, first in zip(pruned_weights(late.early), pruned_weights(early.network), strict=True):
        assert torch.equal(own, first)


def test_after_the_last_pruning_the_network_trains_on() -> None:
    assert torch.equal(trained(9).masks.masks[0], trained(20).masks.masks[0])
    assert not torch.equal(trained(6).masks.masks[0], trained(7).masks.masks[0])


def test_frozen_weights_stay_at_their_early_values() -> None:
    model = trained(9, pruned="freeze_init")
    for weight, first, mask in zip(
        pruned_weights(model.network), pruned_weights(model.early), model.masks.masks, strict=True
    ):
        assert torch.equal(weight[~mask], first[~mask])
        assert not torch.equal(weight[mask], first[mask])


@pytest.mark.parametrize("action", ["freeze_init_zero_mask", "freeze_init_zero_all"])
def test_weights_that_moved_towards_zero_stop_there(action: str) -> None:
    before, model = trained(3, pruned=action), trained(4, pruned=action)
    for first, last, ticket, mask in zip(
        pruned_weights(model.early), pruned_weights(before.network), pruned_weights(model.ticket), model.masks.masks, strict=True
    ):  # fmt: skip
        shrunk = last.abs() < first.abs()
        gone = ~mask if action == "freeze_init_zero_mask" else torch.ones_like(mask)
        assert torch.equal(ticket == 0, shrunk & gone)
        assert torch.equal(ticket[~(shrunk & gone)], first[~(shrunk & gone)])
        if mask.all():
            continue
        assert (shrunk & gone).any()
        assert (~shrunk & ~mask).any()


def test_random_tickets_have_the_densities_of_those_by_magnitude() -> None:
    found = [
        [int(x.sum()) for x in trained(4, together=True, criterion=x).masks.masks]
        for x in ("large_final", "random")
    ]
    assert found[0] == found[1]
    assert found[0][0] / (64 * 8) != pytest.approx(found[0][1] / (8 * 6), abs=1e-3)


def test_supermask_is_the_accuracy_of_the_ticket() -> None:
    model, given = trained(8), batch("tickets", 50)
    found = model.measure(given)
    right = (model.ticket(given["obs"]).argmax(1) == given["label"]).float()
    assert torch.equal(found["supermask"], right)
    assert torch.equal(found["prediction"], model.network(given["obs"]).argmax(1))


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="rewind_updates is 3, but a round has 3 updates"):
        trained(0, rewind_updates=3)
    with pytest.raises(UserError, match="has no matrices or kernels to prune"):
        trained(0, encoder="flatten")
    with pytest.raises(UserError, match=r"keep is 0\.0; give a number above 0, up to 1"):
        trained(0, keep=0.0)


@pytest.mark.parametrize(
    "name", ["mlp:units=8-6,zeros=keep", "conv4:layers=2,width=4,norm=gn,zeros=keep"]
)
def test_zeros_stay_zero_in_training(name: str) -> None:
    for make in (lambda x: Adam(x, 0.1), lambda x: SGD(x, 0.1, 0.9)):
        encoder = make_encoder(name, (8, 8, 1))
        weights = [x for x in encoder.parameters() if x.dim() > 1]
        masks = [torch.rand_like(x) < 0.5 for x in weights]
        with torch.no_grad():
            for weight, mask in zip(weights, masks, strict=True):
                weight.mul_(mask)
        optimizer = make(list(encoder.parameters()))
        for seed in range(3):
            features = encoder(batch("tickets", seed)["obs"])
            gradient_step(optimizer, features.square().mean())
        for weight, mask in zip(weights, masks, strict=True):
            assert torch.equal(weight != 0, mask)


def test_a_ticket_is_taken_by_another_run_and_keeps_its_zeros(tmp_path: Path) -> None:
    settings = TicketsConfig(**{**SETTINGS, "batch_size": 20})
    usual: dict[str, Any] = {"env": "digits", "data_size": 60, "eval_every": 0, "log_every": 1}
    found = RunConfig(updates=9, out=tmp_path / "ticket", **usual)
    Run("tickets", settings, found, Console(quiet=True)).start()
    ticket: Any = load_run(tmp_path / "ticket")[0]
    once = TicketsConfig(**{**SETTINGS, "encoder": "mlp:units=8-6,zeros=keep", "batch_size": 20, "round_updates": 9})  # fmt: skip
    config = RunConfig(
        updates=3, out=tmp_path / "other", pretrained=str(tmp_path / "ticket"), **usual
    )
    Run("tickets", once, config, Console(quiet=True)).start()
    other: Any = load_run(tmp_path / "other")[0]
    for mine, theirs in zip(
        pruned_weights(other.network), pruned_weights(ticket.ticket)[:-1], strict=False
    ):
        assert torch.equal(mine == 0, theirs == 0)
        assert (theirs == 0).any()
        assert not torch.equal(mine, theirs)
    first = pruned_weights(other.early)[:-1]
    assert all(
        torch.equal(x, y) for x, y in zip(first, pruned_weights(ticket.ticket), strict=False)
    )


def test_drawn_weights_pass_the_gradient_of_their_probability() -> None:
    weight, noise = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.4, 0.6, 0.1])
    scores = torch.tensor([0.0, 0.0, 1.0], requires_grad=True)
    found = drawn_weights(weight, scores, noise, rescale=False)
    assert found.tolist() == [1.0, 0.0, 3.0]
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    p = scores.detach().sigmoid()
    assert torch.allclose(gradient, weight * p * (1 - p))
    assert drawn_weights(weight, scores, noise, rescale=True).tolist() == pytest.approx(
        [1.5, 0, 4.5]
    )


def test_a_supermask_never_changes_its_weights() -> None:
    model = Supermask(SupermaskConfig(encoder="mlp:units=8-6", batch_size=8), SPEC, seed=0)
    before = [x.clone() for x in model.network.parameters()]
    for seed in range(4):
        model.learn(batch("supermask", seed))
    assert all(torch.equal(x, y) for x, y in zip(before, model.network.parameters(), strict=True))
    for weight in pruned_weights(model.network):
        assert weight.abs().unique().numel() == 1
    assert all((x != 0).any() for x in model.mask_scores)


def test_a_supermask_is_evaluated_with_the_mean_of_several_masks() -> None:
    model, given = Supermask(SupermaskConfig(encoder="mlp:units=8", samples=3), SPEC, seed=0), batch("supermask")  # fmt: skip
    state = model.measure_generator.get_state()
    found = model.measure(given)
    model.measure_generator.set_state(state)
    every = [model.logits(given["obs"], model.measure_generator)[0].softmax(1) for _ in range(3)]
    mean = torch.stack(every).mean(0)
    assert torch.equal(found["prediction"], mean.argmax(1))
    expected = -mean.gather(1, given["label"][:, None])[:, 0].log()
    assert torch.allclose(found["loss"], expected, atol=1e-5)


def test_networks_whose_statistics_depend_on_the_mask_are_refused() -> None:
    with pytest.raises(UserError, match="whose statistics change with the mask"):
        Supermask(SupermaskConfig(encoder="conv4:width=4,layers=2,norm=bn"), SPEC)
    assert isinstance(Supermask(SupermaskConfig(), SPEC).network, nn.Sequential)
