"""Decision Transformer: what it reads, its returns-to-go when it acts, and that it follows the return it is asked for."""

import dataclasses
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.agents.decision_transformer import DecisionTransformer, DecisionTransformerConfig
from rlbench.backbones.heads.return_conditioned import ReturnConditioned
from rlbench.backbones.memories import forget
from rlbench.errors import UserError
from rlbench.experience import Trajectories, columns_of, with_columns
from rlbench.interface import Spec, rewarded
from tests.agents.case import Case
from tests.probe_envs import UNIT, in_episodes, random_trajectories

CASE = Case(
    "decision-transformer",
    small={
        "embedding_size": 8, "blocks": 1, "sequence_length": 8, "learning_rate": 1e-2, "warmup_updates": 1,
        "target_return": 1.0,
    },
    changes={
        "target_return": (3.0, {}), "return_scale": (2.0, {}), "gradient_clip": (1e-3, {}), "weight_decay": (1.0, {}),
        "heads": (2, {}), "warmup_updates": (9, {}),
    },
)  # fmt: skip
KNOWN = dataclasses.replace(UNIT, return_range=(-5.0, 20.0))
CHOICES = dataclasses.replace(KNOWN, action_space=Discrete(3, start=2))


def agent(spec: Spec = KNOWN, **settings: Any) -> DecisionTransformer:
    small = {**CASE.small, "target_return": None, **settings}
    return DecisionTransformer(DecisionTransformerConfig(**small), spec)


def network() -> ReturnConditioned:
    torch.manual_seed(0)
    return ReturnConditioned(
        2, 2, 8, blocks=2, heads=2, dropout=0.0, steps=5, time_steps=10
    ).double()


def inputs() -> list[Tensor]:
    drawn = torch.Generator().manual_seed(1)
    to_go, obs, action = (
        torch.randn(3, 5, *size, generator=drawn, dtype=torch.float64) for size in ((), (2,), (2,))
    )
    return [to_go, obs, action, torch.arange(5).expand(3, 5)]


@pytest.mark.parametrize(("which", "first"), [(0, 2), (1, 2), (2, 3), (3, 2)])
def test_an_action_reads_what_came_before_it_alone(which: int, first: int) -> None:
    """A change at step 2 changes outputs from step 2 on, the action of step 2 those from step 3 on."""
    model, given = network(), inputs()
    usual = model(*given)
    given[which] = given[which].clone()
    given[which][:, 2] += 1
    differs = (model(*given) != usual).any(-1)
    assert not differs[:, :first].any()
    assert differs[:, first:].all()


def test_padding_is_never_read() -> None:
    model, given = network(), inputs()
    padding = torch.arange(5).expand(3, 5) < torch.tensor([[0], [2], [4]])
    out = model(*given, padding=padding)
    torch.testing.assert_close(out[0], model(*given)[0])
    for row, first in ((1, 2), (2, 4)):
        alone = model(*(x[row : row + 1, first:] for x in given))
        torch.testing.assert_close(out[row : row + 1, first:], alone)


def test_late_steps_share_the_last_vector_of_time() -> None:
    model, given = network(), inputs()
    assert torch.equal(model(*given[:3], given[3] + 9), model(*given[:3], given[3] * 0 + 9))
    assert not torch.equal(model(*given[:3], given[3] + 8), model(*given[:3], given[3] + 9))


def play(dt: DecisionTransformer, batch: Trajectories) -> Tensor:
    """Its actions step by step on what a batch shows, while the actions of the batch are taken, [T, B, ...]."""
    state, chosen = None, []
    for t, obs in enumerate(batch.obs):
        found = dt.act(obs, state=state)
        chosen.append(found.action)
        assert found.state is not None
        assert torch.equal(found.state["action"][:, -1], dt.form.to_unit(found.action))
        found.state["action"][:, -1] = dt.form.to_unit(batch.action[t])
        state = rewarded(found.state, batch.reward[t])
        assert state is not None
        state = forget(state, torch.maximum(batch.terminated[t], batch.truncated[t]))
    return torch.stack(chosen)


@pytest.mark.parametrize("spec", [KNOWN, CHOICES], ids=["box", "discrete"])
def test_acting_step_by_step_equals_the_pass_that_it_learns_from(spec: Spec) -> None:
    """The target is the return of the data, so that returns-to-go are the same; the batch has ends of both kinds."""
    dt, batch = agent(spec, dropout=0.5), random_trajectories(UNIT, steps=6, envs=1)
    zeros = torch.zeros(6, 1)
    whole = in_episodes(dataclasses.replace(batch, terminated=zeros, truncated=zeros))
    if spec is CHOICES:
        action = torch.randint(2, 5, (6, 1), generator=torch.Generator().manual_seed(0))
        whole = dataclasses.replace(whole, action=action)
    dt.config = dataclasses.replace(dt.config, target_return=float(whole.reward.sum()))
    for _ in range(3):
        dt.learn(whole)
    acted = play(dt, whole)
    dt.network.eval()
    seen: list[Tensor] = []
    hook = dt.network.register_forward_hook(lambda module, given, out: seen.append(out))
    dt.learn(whole)  # Its pass comes before its step.
    hook.remove()
    out = seen[0].transpose(0, 1)
    expected = dt.form.from_unit(out.tanh() if spec is KNOWN else out)
    torch.testing.assert_close(acted, expected.detach(), rtol=1e-4, atol=1e-5)


def test_it_remembers_the_last_steps_alone_and_nothing_of_another_episode() -> None:
    dt, batch = agent(sequence_length=3), random_trajectories(UNIT, steps=8, envs=2)
    ends = torch.zeros(8, 2)
    ends[4, 1] = 1.0
    batch = dataclasses.replace(batch, terminated=torch.zeros(8, 2), truncated=ends)
    usual = play(dt, batch)
    long_ago = dataclasses.replace(batch, obs=batch.obs.clone())
    long_ago.obs[:3] += 1
    changed = play(dt, long_ago)
    assert torch.equal(changed[5:], usual[5:])
    assert not torch.equal(changed[4], usual[4])
    alone = with_columns(batch, {name: x[5:, 1:] for name, x in columns_of(batch).items()})
    torch.testing.assert_close(play(dt, alone), usual[5:, 1:])


def test_returns_to_go_by_hand() -> None:
    dt = agent(target_return=10.0, return_scale=2.0, sequence_length=3)
    seen: list[Tensor] = []
    dt.network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    state = None
    for reward in (1.0, 2.0, -4.0, 0.0):
        state = rewarded(dt.act(torch.zeros(1, 2), state=state).state, [reward])
    assert seen[0][0, -1:].tolist() == [5.0]
    assert seen[2][0].tolist() == [5.0, 4.5, 3.5]
    assert seen[3][0].tolist() == [4.5, 3.5, 5.5]
    assert state is not None
    state = rewarded(forget(state, torch.ones(1)), [100.0])
    dt.act(torch.zeros(1, 2), state=state)
    assert seen[4][0, -1:].tolist() == [5.0]  # The reward belonged to another episode.


def test_target_and_scale_come_from_the_data_set_and_are_saved() -> None:
    dt = agent()
    assert (dt.target_return, dt.scale) == (20.0, 20.0)
    assert agent(dataclasses.replace(KNOWN, return_range=(-50.0, 20.0))).scale == 50.0
    alone = agent(UNIT)
    assert (alone.target_return, alone.scale) == (0.0, 1.0)
    alone.load_state_dict(dt.state_dict())
    assert (alone.target_return, alone.scale) == (20.0, 20.0)
    assert agent(target_return=-3.0, return_scale=7.0).target_return == -3.0
    assert agent(return_scale=7.0).scale == 7.0


def test_steps_after_an_end_do_not_count() -> None:
    batch = random_trajectories(UNIT, steps=6, envs=3)
    ends = torch.zeros(2, 6, 3)
    ends[0, 2, 0] = ends[1, 3, 1] = 1.0
    batch = dataclasses.replace(batch, terminated=ends[0], truncated=ends[1])
    dt = agent(dropout=0.0)
    out = dt.network(batch.return_to_go.T / 20, batch.obs.transpose(0, 1), batch.action.transpose(0, 1), batch.time.T)  # type: ignore[union-attr]  # fmt: skip
    error = (out.tanh() - batch.action.transpose(0, 1)).square().mean(-1)
    by_hand = (error[0, :3].sum() + error[1, :4].sum() + error[2].sum()) / 13
    torch.testing.assert_close(dt.learn(batch)["policy_loss"], by_hand)


def test_discrete_actions_by_cross_entropy() -> None:
    batch = random_trajectories(UNIT, steps=4, envs=3)
    zeros = torch.zeros(4, 3)
    action = torch.randint(2, 5, (4, 3))
    batch = dataclasses.replace(batch, action=action, terminated=zeros, truncated=zeros)
    dt = agent(CHOICES, dropout=0.0)
    out = dt.network(batch.return_to_go.T / 20, batch.obs.transpose(0, 1), dt.form.to_unit(action).transpose(0, 1), batch.time.T)  # type: ignore[union-attr]  # fmt: skip
    expected = torch.nn.functional.cross_entropy(out.flatten(0, 1), action.T.flatten() - 2)
    torch.testing.assert_close(dt.learn(batch)["policy_loss"], expected)
    chosen = {int(x) for x in dt.act(torch.zeros(200, 2), explore=True).action}
    assert chosen == {2, 3, 4}
    assert len(dt.act(torch.zeros(200, 2)).action.unique()) == 1


def test_the_step_size_rises_along_a_line() -> None:
    dt, rates = agent(warmup_updates=4, learning_rate=1e-2), []
    for seed in range(5):
        dt.learn(random_trajectories(UNIT, seed=seed))
        rates.append(float(dt.optimizer.learning_rate))
    assert rates == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])
    assert DecisionTransformer.preset("x", 5_000) == {"warmup_updates": 500}
    assert DecisionTransformer.preset("x", 10**6) == {"warmup_updates": 10_000}


def test_errors_are_one_sentence() -> None:
    batch = random_trajectories(UNIT)
    with pytest.raises(UserError, match="embedding_size is 8 and heads is 3; give"):
        agent(heads=3)
    with pytest.raises(UserError, match="target_return is None, but the data set has no complete"):
        agent(UNIT).learn(batch)
    with pytest.raises(UserError, match="the trajectories have no `time` and `return_to_go`"):
        agent().learn(dataclasses.replace(batch, time=None))
    with pytest.raises(UserError, match="cannot be exported"):
        agent().decide(torch.zeros(1, 2))


def line(envs: int, seed: int) -> Trajectories:
    """Episodes of 4 steps; each takes one action, drawn once, at all steps, and earns it. What they see is nothing."""
    drawn = torch.Generator().manual_seed(seed)
    action = (torch.rand(1, envs, 1, generator=drawn) * 2 - 1).expand(4, -1, -1).clone()
    ends = torch.zeros(4, envs)
    ends[-1] = 1.0
    obs = torch.zeros(4, envs, 2)
    batch = Trajectories(obs, action, action[..., 0], ends, torch.zeros(4, envs), obs)
    return in_episodes(batch)


def test_it_earns_the_return_that_it_is_asked_for() -> None:
    spec = Spec(Box(-1, 1, (2,)), Box(-1, 1, (1,)), return_range=(-4.0, 4.0))
    dt = agent(spec, embedding_size=32, sequence_length=4, learning_rate=3e-3, dropout=0.0)
    for seed in range(150):
        dt.learn(line(32, seed))
    for target in (-3.0, 0.0, 2.0):
        dt.config = dataclasses.replace(dt.config, target_return=target)
        state, total = None, 0.0
        for _ in range(4):
            chosen = dt.act(torch.zeros(1, 2), state=state)
            reward = float(chosen.action)
            state, total = rewarded(chosen.state, [reward]), total + reward
        assert total == pytest.approx(target, abs=0.7)
