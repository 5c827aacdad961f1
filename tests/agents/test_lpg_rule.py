"""The learned rule, and one update of agents by it: oracles, slopes, meta-gradients."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rlbench import checkpoint
from rlbench.agents import _lifetimes as lifetimes, _rule as rules
from rlbench.agents._lifetimes import Steps
from rlbench.agents._populations import Networks, Part, Population, Tables, replaced
from rlbench.agents._rule import Rule, backward_lstm, load_rule, save_rule
from rlbench.agents.lpg import LPGConfig
from rlbench.agents.lpg_meta import LPGMetaConfig
from rlbench.errors import UserError
from rlbench.experience import Trajectories

T, N, W, S, A, M = 5, 2, 3, 4, 3, 5
DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def in_double() -> Any:
    torch.set_default_dtype(DOUBLE)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def rollout(seed: int) -> Trajectories:
    """Random steps of W workers in each of N worlds with S states."""
    g = torch.Generator().manual_seed(seed)
    obs = torch.randint(S, (T + 1, N, W), generator=g)
    over = (torch.rand(T, N, W, generator=g) < 0.2).double()
    return Trajectories(
        obs[:-1], torch.randint(A, (T, N, W), generator=g), torch.randn(T, N, W, generator=g),
        over, torch.zeros_like(over), obs[1:],
    )  # fmt: skip


def steps(max_norm: float = 0.1) -> Steps:
    one = torch.ones(N)
    return Steps({"policy": 2 * one, "prediction": 4 * one}, 0.5 * one, max_norm)


def tables() -> Tables:
    return Tables({
        "policy": 0.3 * torch.randn(N, S, A), "prediction": 0.5 * torch.randn(N, S, M),
        "value": torch.randn(N, S, 1),
    })  # fmt: skip


def rule(kind: rules.Kind = "kl") -> Rule:
    """A rule whose policy targets are not 0, unlike those of a new rule."""
    made = Rule(M, 6, kind)
    nn.init.normal_(made.policy_out.weight)
    nn.init.normal_(made.policy_out.bias)
    return made


def lstm_oracle(gates: Tensor, weight: Tensor, keep: Tensor) -> Tensor:
    """The definition, step by step, with PyTorch's cell in the order input, forget, cell, output."""
    size = weight.shape[1]
    order = [0, 1, 3, 2]
    w = torch.cat([weight.chunk(4)[i] for i in order])
    h = c = torch.zeros(gates.shape[1], size)
    out = []
    for t in reversed(range(len(gates))):
        x = torch.cat([gates[t].chunk(4, -1)[i] for i in order], -1)
        state = (h * keep[t][:, None], c * keep[t][:, None])
        h, c = torch.lstm_cell(x, state, torch.eye(4 * size), w)
        out.append(h)
    return torch.stack(out[::-1])


def test_lstm_equals_pytorchs_cell_read_backwards() -> None:
    gates, weight = torch.randn(T, 4, 4 * 6), torch.randn(4 * 6, 6)
    keep = (torch.rand(T, 4) < 0.7).double()
    torch.testing.assert_close(backward_lstm(gates, weight, keep), lstm_oracle(gates, weight, keep))


def test_lstm_gradient_equals_finite_differences() -> None:
    gates = torch.randn(4, 3, 8, requires_grad=True)
    weight = torch.randn(8, 2, requires_grad=True)
    keep = (torch.rand(4, 3) < 0.7).double()
    assert torch.autograd.gradcheck(lambda g, w: backward_lstm(g, w, keep), (gates, weight))


def test_later_steps_of_another_episode_change_nothing_before_a_terminal() -> None:
    found, data = rule(), rollout(0)
    over = torch.zeros(T, N, W)
    over[2] = 1.0
    y, after = torch.randn(T, N, W, M), torch.randn(T, N, W, M)
    p = torch.rand(T, N, W)
    first = found(data.reward, over, 0.9, p, y, after)
    reward = data.reward.clone()
    reward[3:] += 5
    changed, late = after.clone(), y.clone()
    changed[2:] = torch.randn(3, N, W, M)  # The successor of a terminal step is not read either.
    late[3:] = torch.randn(2, N, W, M)
    second = found(reward, over, 0.9, p, late, changed)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a[:3], b[:3])
        assert not torch.equal(a[3:], b[3:])


def test_a_new_rule_moves_no_policy() -> None:
    data = rollout(0)
    y = torch.randn(T, N, W, M)
    pi, _ = Rule(M, 6)(data.reward, data.terminated, 0.9, torch.rand(T, N, W), y, y)
    assert torch.equal(pi, torch.zeros(T, N, W))


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_slopes_equal_gradients_of_the_losses(kind: rules.Kind) -> None:
    logits = torch.randn(7, A, requires_grad=True)
    action, advantage = torch.randint(A, (7,)), torch.randn(7)
    log_pi = logits.log_softmax(-1)
    loss = -(lifetimes.chosen(log_pi, action) * advantage) - 0.3 * rules.entropy(logits)
    expected = torch.autograd.grad(loss.sum(), logits)[0]
    found = lifetimes.policy_slope(logits.detach(), action, advantage, 0.3)
    torch.testing.assert_close(found, expected)
    y, target = torch.randn(7, M, requires_grad=True), torch.randn(7, M)
    expected = torch.autograd.grad(rules.prediction_loss(y, target, kind).sum(), y)[0]
    torch.testing.assert_close(lifetimes.prediction_slope(y.detach(), target, kind), expected)


def test_losses_by_hand() -> None:
    half, quarter = torch.zeros(2), torch.tensor([0.25, 0.75]).log()
    kl = rules.prediction_loss(half, quarter, "kl")
    assert float(kl) == pytest.approx(0.5 * torch.tensor(4 / 3).log().item())  # 0.1438
    assert float(rules.prediction_loss(half, torch.tensor([0.0, 1e3]), "mse")) == pytest.approx(
        0.25
    )
    assert float(rules.entropy(half)) == pytest.approx(torch.tensor(2.0).log().item())
    assert float(rules.entropy(half, "mse")) == pytest.approx(2 * torch.tensor(2.0).log().item())
    odds = torch.tensor([3.0]).log()  # Probabilities 3/4 and 1/4.
    assert float(rules.entropy(odds, "mse")) == pytest.approx(0.5623, abs=1e-4)
    assert float(rules.prediction_norm(half, "kl")) == pytest.approx(0.5)
    assert float(rules.prediction_norm(half, "mse")) == pytest.approx(0.5)


def autograd_step(
    agents: Tables, data: Trajectories, pi: Tensor, y: Tensor, max_norm: float
) -> Tables:
    """One update by autograd on the loss as it is written, agent by agent."""
    entries: dict[Part, Tensor] = dict(agents.entries)
    world = torch.arange(N)[:, None]
    for part in ("policy", "prediction"):
        table = agents.entries[part].clone().requires_grad_()
        out = table[world, data.obs]
        if part == "policy":
            terms = -lifetimes.chosen(out.log_softmax(-1), data.action) * pi
        else:
            terms = 0.5 * rules.prediction_loss(out, y, "kl")
        gradient = torch.autograd.grad(terms.mean((0, 2)).sum(), table)[0]
        norm = gradient.flatten(1).norm(dim=1)[:, None, None]
        rate = {"policy": 2.0, "prediction": 4.0}[part]
        entries[part] = agents.entries[part] - rate * gradient * (max_norm / norm).clamp(max=1)
    return Tables(entries)


@pytest.mark.parametrize("max_norm", [0.05, 100.0])
def test_updates_of_tables_equal_autograd(max_norm: float) -> None:
    agents, data = tables(), rollout(0)
    pi, y = torch.randn(T, N, W), torch.randn(T, N, W, M)
    found = lifetimes.updated(agents, data, pi, y, "kl", steps(max_norm)).tensors()
    expected = autograd_step(agents, data, pi, y, max_norm).tensors()
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x)
    only = lifetimes.updated(agents, data, pi, y, "kl", steps(), parts=("prediction",)).tensors()
    assert torch.equal(only["policy"], agents.tensors()["policy"])
    assert not torch.equal(only["prediction"], agents.tensors()["prediction"])


def meta_objective(
    found: Rule, start: Population, data: list[Trajectories], probability: list[Tensor], **how: Any
) -> Tensor:
    """Mean of log pi_K A after K = 3 updates; probabilities that the rule reads are kept in a list."""
    agents = start
    for k, part in enumerate(data[:-1]):
        if len(probability) <= k:
            pi = agents.outputs("policy", part.obs).softmax(-1)
            probability.append(lifetimes.chosen(pi, part.action).detach())
        y = agents.outputs("prediction", part.obs)
        after = agents.outputs("prediction", part.final_obs)
        pi, target = found(part.reward, part.terminated, 0.9, probability[k], y, after)
        agents = lifetimes.updated(agents, part, pi, target, found.kind, steps(**how))
    log_pi = agents.outputs("policy", data[-1].obs).log_softmax(-1)
    return (lifetimes.chosen(log_pi, data[-1].action) * data[-1].reward).mean()


@pytest.mark.parametrize("kind", ["kl", "mse"])
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_meta_gradient_equals_finite_differences(kind: rules.Kind, max_norm: float) -> None:
    found, start = rule(kind), tables()
    probability: list[Tensor] = []
    data = [rollout(seed) for seed in range(4)]
    value = meta_objective(found, start, data, probability, max_norm=max_norm)
    parameters = dict(found.named_parameters())
    gradients = torch.autograd.grad(value, list(parameters.values()))
    for (name, x), gradient in zip(parameters.items(), gradients, strict=True):
        assert gradient.abs().max() > 0, name
        at = int(gradient.abs().argmax())
        around = []
        for change in (1e-5, -1e-5):
            with torch.no_grad():
                x.view(-1)[at] += change
                around.append(
                    float(meta_objective(found, start, data, probability, max_norm=max_norm))
                )
                x.view(-1)[at] -= change
        slope = (around[0] - around[1]) / 2e-5
        assert float(gradient.view(-1)[at]) == pytest.approx(slope, rel=1e-3), name


def test_targets_of_predictions_get_a_gradient_only_through_predictions() -> None:
    found, start = rule(), tables()
    for detach, expected in ((False, True), (True, False)):
        agents: Population = start
        for seed in range(2):
            pi, y = lifetimes.targets(found, agents, rollout(seed), 0.9, detach=detach)
            agents = lifetimes.updated(agents, rollout(seed), pi, y, "kl", steps(1e6))
        data = rollout(2)
        log_pi = agents.outputs("policy", data.obs).log_softmax(-1)
        gain = (lifetimes.chosen(log_pi, data.action) * data.reward).mean()
        head = found.prediction_out.weight
        (gradient,) = torch.autograd.grad(gain, [head], allow_unused=True)
        assert (gradient is not None and bool(gradient.abs().max() > 0)) == expected


def test_probabilities_that_the_rule_reads_have_no_gradient() -> None:
    start = Tables({part: x.requires_grad_() for part, x in tables().entries.items()})
    pi, _ = lifetimes.targets(rule(), start, rollout(0), 0.9)
    by_policy, by_prediction = torch.autograd.grad(
        pi.sum(), [start.entries["policy"], start.entries["prediction"]], allow_unused=True
    )
    assert by_policy is None
    assert by_prediction.abs().max() > 0


def test_linear_networks_on_one_hot_states_give_the_meta_gradient_of_tables() -> None:
    found, start = rule(), tables()
    weights = {f"{part}.0.weight": x for part, x in start.entries.items()}
    networks = Networks(weights, {})
    data = [rollout(seed) for seed in range(4)]
    eye = torch.eye(S)
    vectors = [replace(x, obs=eye[x.obs], final_obs=eye[x.final_obs]) for x in data]
    probability: list[Tensor] = []
    parameters = list(found.parameters())
    one = meta_objective(found, start, data, probability)
    two = meta_objective(found, networks, vectors, probability)
    torch.testing.assert_close(one, two)
    for a, b in zip(
        torch.autograd.grad(one, parameters), torch.autograd.grad(two, parameters), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_updates_of_networks_equal_pytorchs_adam() -> None:
    generator = torch.Generator().manual_seed(0)
    agents = Networks.new(N, 3, (4,), {"policy": A}, generator)
    agents = agents.with_tensors({k: x.double() for k, x in agents.tensors().items()})
    obs = torch.randn(T, N, W, 3)
    rates: dict[Part, Tensor] = {"policy": torch.full((N,), 0.01)}
    names = list(agents.weights)
    copies = [agents.weights[k].clone().requires_grad_() for k in names]
    theirs = torch.optim.Adam(copies, lr=0.01)
    for step in range(3):
        slope = torch.randn(T, N, W, A)
        out = Networks(dict(zip(names, copies, strict=True)), {}).outputs("policy", obs)
        theirs.zero_grad()
        (out * slope / (T * W)).sum().backward()
        theirs.step()
        agents = agents.moved(obs, {"policy": slope}, rates, float("inf"))
        for name, x in zip(names, copies, strict=True):
            torch.testing.assert_close(
                agents.weights[name], x.detach(), atol=1e-6, rtol=0, msg=str(step)
            )


def test_values_of_tables_move_towards_the_mean_target_of_visited_states() -> None:
    start = Tables({"value": torch.tensor([[[0.0], [0.0], [8.0]]])})
    obs = torch.tensor([[[0, 1]], [[0, 0]]])  # [T = 2, N = 1, W = 2]
    target = torch.tensor([[[1.0, 5.0]], [[2.0, 6.0]]])
    found = start.valued(obs, target, 0.5).entries["value"].flatten()
    assert found.tolist() == [1.5, 2.5, 8.0]


def test_replaced_agents_are_new_and_the_others_stay() -> None:
    old, new = tables(), tables()
    mixed = replaced(old, torch.tensor([True, False]), new).tensors()
    for name, x in old.tensors().items():
        assert torch.equal(mixed[name][0], new.tensors()[name][0])
        assert torch.equal(mixed[name][1], x[1])


def test_samples_have_the_probabilities_of_the_policy() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(40_000, 3)
    found = lifetimes.sample(logits, torch.Generator().manual_seed(0)).bincount() / 40_000
    torch.testing.assert_close(found, torch.tensor([0.2, 0.5, 0.3]), atol=0.01, rtol=0)


def test_advantages_by_hand() -> None:
    critics = Tables({"value": torch.tensor([[[1.0], [2.0], [4.0]]])})
    data = Trajectories(
        torch.tensor([[[0]], [[1]]]), torch.zeros(2, 1, 1, dtype=torch.int64),
        torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[[0.0]], [[1.0]]]), torch.zeros(2, 1, 1),
        torch.tensor([[[1]], [[2]]]),
    )  # fmt: skip
    advantage, target = lifetimes.judged(critics, data, 0.5, 0.5)
    # The last step ends, so G_1 = 3; G_0 = 1 + 0.5 (0.5 * 2 + 0.5 * 3).
    assert target.flatten().tolist() == [2.25, 3.0]
    assert advantage.flatten().tolist() == [1.25, 1.0]
    both = lifetimes.normalised(
        torch.tensor([[[1.0, 3.0], [10.0, 30.0]]])
    )  # Two agents, each by its own scale.
    torch.testing.assert_close(both[:, 0], both[:, 1])
    scaled = lifetimes.normalised(torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]]))
    assert scaled.mean() == 0
    assert float(scaled.square().mean()) == pytest.approx(1.0, abs=1e-6)


def test_a_saved_rule_is_read_again(tmp_path: Path) -> None:
    for kind in ("kl", "mse"):
        kept = rule(kind).float()
        save_rule(kept, tmp_path / "mine.safetensors", {"seed": 1})
        found = load_rule(str(tmp_path / "mine.safetensors"))
        assert found.kind == kind
        for a, b in itertools.zip_longest(kept.parameters(), found.parameters()):
            assert torch.equal(a, b)


def test_other_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no rule 'nothing'; give lpg-short or lpg-small"):
        load_rule("nothing")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="holds no LPG rule"):
        load_rule(str(tmp_path / "bad.safetensors"))
    with pytest.raises(UserError, match="holds no rule; give the folder of a run of lpg-meta"):
        load_rule(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("prediction_out.bias", torch.tensor(1.0)),
        ("recurrent.weight", torch.zeros(3)),
        ("policy_out.bias", torch.tensor([float("nan")])),
        ("policy_out.bias", torch.zeros(2)),
    ],
)
def test_odd_tensors_are_refused_in_one_sentence(tmp_path: Path, name: str, wrong: Tensor) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(Rule(M, 6).state_dict() | {name: wrong}, path)
    with pytest.raises(UserError, match="holds no LPG rule"):
        load_rule(str(path))


def test_the_name_of_a_rule_may_have_any_length() -> None:
    with pytest.raises(UserError, match="there is no rule 'xxx"):
        load_rule("x" * 5_000)
    with pytest.raises(UserError, match=r"there is no rule '\.\./rules/lpg-small'"):
        load_rule("../rules/lpg-small")


def test_a_rule_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_rule(rule().float(), tmp_path / "mine.safetensors", {})
    monkeypatch.chdir(tmp_path)
    kept = [LPGConfig(rule="mine.safetensors").rule, LPGMetaConfig(rule="mine.safetensors").rule]
    monkeypatch.chdir("/")
    for name in kept:
        load_rule(str(name))
    assert LPGConfig().rule == "lpg-small"


def test_step_sizes_of_the_rule_that_fall_exponentially_are_above_0() -> None:
    with pytest.raises(UserError, match=r"learning_rate is 0\.0; give a number from 1e-09 to 1"):
        LPGMetaConfig(learning_rate=0.0)
    with pytest.raises(UserError, match=r"final_learning_rate is 0\.0; give a number from"):
        LPGMetaConfig(final_learning_rate=0.0)


def test_a_run_folder_without_settings_is_refused_in_one_sentence(tmp_path: Path) -> None:
    checkpoint.save(
        tmp_path / "checkpoint" / "update-000000001",
        {"learner": {"rule": Rule(M, 6).state_dict(), "population": {}}},
    )
    for text in (None, "{", "{}"):
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config\.json is missing or damaged"):
            load_rule(str(tmp_path))
