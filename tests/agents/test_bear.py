"""BEAR: the target, the order of the update, what may reach what, and acting."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.agents.bear import BEAR, PROFILES, BEARConfig, mmd
from rlbench.experience import Transitions
from tests.agents.case import Case
from tests.networks import copies, unchanged
from tests.probe_envs import UNIT, random_batch

# A capped weight shows in the step after; a threshold that is never met drives alpha up.
RISING = {"mmd_threshold": -1.0, "alpha_learning_rate": 1.0}
CASE = Case(
    "bear",
    small={"hidden": (16,), "vae_hidden": (16,), "warmup_updates": 1, "act_samples": 5},
    changes={
        "log_std_bounds": ((0.5, 0.6), {}),
        "target_actions": ("target-policy", {}),
        "policy_value": ("max", {}),
        "soft_clip": (0.1, {}),
        "std_penalty": (3.0, {}),
        "warmup_updates": (0, {}),
        "constraint": ("kl", {}),
        "mmd_threshold": (0.5, {}),
        "kl_threshold": (5.0, {"constraint": "kl"}),
        "kernel": ("gaussian", {}),
        "mmd_estimator": ("unbiased", {}),
        "noise_clip": (0.1, {}),
        "alpha_mode": ("fixed", {}),
        "fixed_alpha": (3.0, {"alpha_mode": "fixed"}),
        "alpha_min": (0.9, RISING | {"mmd_threshold": 10.0}),
        "alpha_max": (1.1, RISING),
    },
    fast={
        "hidden": (32, 32), "vae_hidden": (32,), "target_rate": 0.1, "warmup_updates": 20,
        "policy_learning_rate": 5e-3, "critic_learning_rate": 1e-2, "vae_learning_rate": 5e-3,
        "target_samples": 3, "alpha_mode": "fixed", "fixed_alpha": 0.1,
    },
)  # fmt: skip

SMALL: dict[str, Any] = {"hidden": (8,), "vae_hidden": (8,), "warmup_updates": 0}


def agent(**settings: Any) -> BEAR:
    return BEAR(BEARConfig(**SMALL | settings), UNIT)


class Stub(nn.Module):
    """Critics that are functions of observation and action."""

    def __init__(self, *values: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.functions = values

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return torch.stack([f(obs, action) for f in self.functions])

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.functions[0](obs, action)


def target_of(bear: BEAR, **changes: Tensor) -> Tensor:
    bear.generator.manual_seed(0)
    return bear._target(dataclasses.replace(random_batch(UNIT), **changes))


def test_target_lies_between_the_critics() -> None:
    bear, batch = agent(), random_batch(UNIT)
    bear.target_critic = Stub(  # type: ignore[assignment]
        lambda obs, action: torch.zeros(action.shape[:2]),
        lambda obs, action: torch.ones(action.shape[:2]),
    )
    none, all_ = torch.zeros(32), torch.ones(32)
    # Discount 0.5 of the world, 0.75 * 0 + 0.25 * 1.
    torch.testing.assert_close(target_of(bear, terminated=none), batch.reward + 0.5 * 0.25)
    torch.testing.assert_close(
        target_of(bear, terminated=none, truncated=all_), batch.reward + 0.125
    )
    assert torch.equal(target_of(bear, terminated=all_), batch.reward)


def test_target_takes_the_best_of_each_state_of_its_own_samples() -> None:
    bear, batch = agent(target_samples=10), random_batch(UNIT)

    def first_action(obs: Tensor, action: Tensor) -> Tensor:
        assert action.shape == (32, 10, 2)
        return action[..., 0]

    bear.target_critic = Stub(first_action, first_action)  # type: ignore[assignment]
    got = target_of(bear, terminated=torch.zeros(32))
    bear.generator.manual_seed(0)
    with torch.no_grad():
        actions = bear.policy.sample_raw(batch.next_obs, 10, bear.generator).tanh()
    torch.testing.assert_close(got, batch.reward + 0.5 * actions[..., 0].max(dim=1).values)


def test_the_target_uses_the_target_critic_and_the_named_policy() -> None:
    for setting, follows in (("policy", True), ("target-policy", False)):
        bear = agent(target_actions=setting)
        before = target_of(bear)
        for network in (bear.critic, bear.policy):
            assert torch.equal(before, target_of(bear))
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.zero_()
        assert torch.equal(before, target_of(bear)) is not follows


def learn_with_frozen(bear: BEAR, *frozen: str) -> dict[str, Tensor]:
    """One update in which the named parts take no step."""
    for name in frozen:
        getattr(bear, f"{name}_optimizer").learning_rate.zero_()
    return dict(bear.learn(random_batch(UNIT)))


@pytest.mark.parametrize("part", ["vae", "critic", "policy"])
def test_each_optimiser_moves_its_own_network_only(part: str) -> None:
    bear = agent()
    before = copies(getattr(bear, part))
    learn_with_frozen(bear, part)
    assert unchanged(getattr(bear, part), before)
    learn_with_frozen(bear, *({"vae", "critic", "policy"} - {part}))
    assert unchanged(getattr(bear, part), before)
    bear = agent()
    bear.learn(random_batch(UNIT))
    assert not unchanged(getattr(bear, part), before)


def policy_after(bear: BEAR, *, updates: int = 1, frozen: tuple[str, ...] = ()) -> list[Tensor]:
    for _ in range(updates):
        learn_with_frozen(bear, *frozen)
    return copies(bear.policy)


def test_warm_up_trains_the_critics_and_keeps_them_out_of_the_policy() -> None:
    def policy_with_critic(scale: float, warmup: int) -> list[Tensor]:
        bear = agent(warmup_updates=warmup)
        with torch.no_grad():
            for parameter in bear.critic.parameters():
                parameter.mul_(scale)
        before = copies(bear.critic)
        bear.learn(random_batch(UNIT))
        assert not unchanged(bear.critic, before)
        return copies(bear.policy)

    def equal(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    assert equal(policy_with_critic(1.0, 1), policy_with_critic(-3.0, 1))
    assert not equal(policy_with_critic(1.0, 0), policy_with_critic(-3.0, 0))


def test_warm_up_ends_after_its_updates() -> None:
    with_warm_up, without = agent(warmup_updates=2), agent(warmup_updates=10)
    for same in (True, True, False):
        metrics = [dict(bear.learn(random_batch(UNIT))) for bear in (with_warm_up, without)]
        assert torch.equal(metrics[0]["policy_loss"], metrics[1]["policy_loss"]) is same


def test_the_policy_keeps_its_constraint_after_warm_up() -> None:
    # A bug seen elsewhere: the step of alpha cancelled the constraint's gradient.
    free = policy_after(agent(alpha_mode="fixed", fixed_alpha=1e-9))
    held = policy_after(agent(alpha_mode="fixed", fixed_alpha=100.0))
    learned = policy_after(agent(alpha_mode="learned"))
    one = policy_after(agent(alpha_mode="fixed", fixed_alpha=1.0))
    assert any(not torch.equal(a, b) for a, b in zip(free, held, strict=True))
    # Alpha starts at 1, so the first step is that of the fixed weight 1, bit for bit.
    assert all(torch.equal(a, b) for a, b in zip(learned, one, strict=True))


def test_the_policy_sees_the_critics_after_their_step() -> None:
    bear = agent(alpha_mode="fixed", fixed_alpha=1e-9)
    batch = random_batch(UNIT)
    bear.learn(batch)
    before, state = copies(bear.critic), bear.generator.get_state()
    bear.critic_optimizer.learning_rate.fill_(0.1)
    value = bear.learn(batch)["q_policy"]
    assert not unchanged(bear.critic, before)
    assert bear.updates == 2
    # Recompute with the critics as they are now, before which the policy sampled.
    again = agent(alpha_mode="fixed", fixed_alpha=1e-9)
    again.learn(batch)
    again.generator.set_state(state)
    again.vae(batch.obs, batch.action, again.generator)
    again._target(batch)
    again.critic.load_state_dict(bear.critic.state_dict())
    torch.testing.assert_close(again._distance_and_value(batch.obs)[1].mean().detach(), value)


@pytest.mark.parametrize(("threshold", "direction"), [(-1.0, 1), (10.0, -1)])
def test_alpha_moves_by_its_rate_towards_the_constraint(threshold: float, direction: int) -> None:
    bear = agent(mmd_threshold=threshold, alpha_learning_rate=0.01)
    bear.learn(random_batch(UNIT))
    assert bear.log_alpha.item() == pytest.approx(direction * 0.01, rel=1e-3)


def test_alpha_stays_within_its_bounds_and_says_so() -> None:
    rising = agent(mmd_threshold=-1.0, alpha_learning_rate=5.0, alpha_max=3.0)
    falling = agent(mmd_threshold=10.0, alpha_learning_rate=5.0, alpha_min=0.5)
    for bear, bound, at_cap in ((rising, 3.0, 1.0), (falling, 0.5, 0.0)):
        assert bear.learn(random_batch(UNIT))["alpha_at_cap"] == 0.0
        metrics = bear.learn(random_batch(UNIT))
        assert metrics["alpha"].item() == pytest.approx(bound)
        assert metrics["alpha_at_cap"] == at_cap


def test_a_fixed_alpha_stays() -> None:
    bear = agent(alpha_mode="fixed", fixed_alpha=7.0)
    for _ in range(3):
        assert bear.learn(random_batch(UNIT))["alpha"].item() == pytest.approx(7.0)


def test_target_networks_follow_slowly() -> None:
    bear = agent(target_rate=0.25, target_actions="target-policy")
    assert bear.target_policy is not None
    pairs = ((bear.target_critic, bear.critic), (bear.target_policy, bear.policy))
    before = [copies(target) for target, _ in pairs]
    bear.learn(random_batch(UNIT))
    for old, (target, source) in zip(before, pairs, strict=True):
        for a, b, c in zip(old, target.parameters(), source.parameters(), strict=True):
            torch.testing.assert_close(b, 0.75 * a + 0.25 * c)


def test_the_behaviour_model_learns_the_actions_of_the_data() -> None:
    bear = agent(vae_learning_rate=1e-2, vae_hidden=(32,))
    batch = random_batch(UNIT, rows=128)
    batch = dataclasses.replace(batch, action=0.5 * batch.obs.sign())
    for _ in range(150):
        bear.learn(batch)
    raw = bear.vae.sample_raw(batch.obs, 4, 0.5, bear.generator)
    error = (raw.tanh() - batch.action[:, None]).abs().mean()
    assert error < 0.25


def test_the_mmd_compares_raw_samples() -> None:
    # Raw actions of 3 and more, where tanh would see no distance.
    bear, obs = agent(constraint_samples=3), torch.randn(5, 2)
    with torch.no_grad():
        list(bear.vae.decoder.parameters())[-1].fill_(3.0)
        list(bear.policy.parameters())[-1].fill_(6.0)
    bear.generator.manual_seed(0)
    distance, _ = bear._distance_and_value(obs)
    bear.generator.manual_seed(0)
    behaviour = bear.vae.sample_raw(obs, 3, 0.5, bear.generator)
    policy = bear.policy.sample_raw(obs, 3, bear.generator)
    torch.testing.assert_close(distance, mmd(behaviour, policy, bear.config))
    assert distance.min() > 0.3


@pytest.mark.parametrize("how", ["first", "min", "max", "mean"])
def test_critics_see_squashed_actions_and_are_averaged_over_samples(how: Any) -> None:
    bear, obs = agent(policy_value=how, constraint_samples=3), torch.randn(5, 2)
    with torch.no_grad():
        list(bear.policy.parameters())[-1].fill_(1.5)  # where tanh changes actions
    bear.critic = Stub(  # type: ignore[assignment]
        lambda obs, action: action[..., 0],
        lambda obs, action: action[..., 1].square(),
    )
    bear.generator.manual_seed(0)
    _, value = bear._distance_and_value(obs)
    bear.generator.manual_seed(0)
    bear.vae.sample_raw(obs, 3, 0.5, bear.generator)
    action = bear.policy.sample_raw(obs, 3, bear.generator).tanh()
    one, two = action[..., 0], action[..., 1].square()
    if how == "first":
        wanted = torch.minimum(one[:, 0], two[:, 0])
    else:
        each = torch.stack([one.mean(1), two.mean(1)])
        wanted = {"min": each.amin(0), "max": each.amax(0), "mean": each.mean(0)}[how]
    torch.testing.assert_close(value, wanted)


def test_the_std_penalty_compares_the_critics_means_over_the_samples() -> None:
    plain, held = (agent(policy_value="min", std_penalty=x) for x in (0.0, 2.0))
    values = []
    for bear in (plain, held):
        bear.critic = Stub(  # type: ignore[assignment]
            lambda obs, action: action[..., 0], lambda obs, action: 3 * action[..., 0]
        )
        bear.generator.manual_seed(0)
        values.append(bear._distance_and_value(torch.zeros(4, 2))[1])
    bear.generator.manual_seed(0)
    bear.vae.sample_raw(torch.zeros(4, 2), 4, 0.5, bear.generator)
    mean = bear.policy.sample_raw(torch.zeros(4, 2), 4, bear.generator).tanh()[..., 0].mean(1)
    # Two critics, m and 3 m: half their distance is |m|.
    wanted = values[0] - 2 * (mean.square() + 1e-6).sqrt()
    torch.testing.assert_close(values[1], wanted)


def test_the_kl_constraint_is_the_likelihood_of_behaviour_samples() -> None:
    bear, obs = agent(constraint="kl", constraint_samples=3), torch.randn(5, 2)
    bear.generator.manual_seed(0)
    distance, _ = bear._distance_and_value(obs)
    bear.generator.manual_seed(0)
    behaviour = bear.vae.sample_raw(obs, 3, 0.5, bear.generator)
    expected = -bear.policy.log_density(bear.policy(obs), behaviour).mean(dim=1)
    torch.testing.assert_close(distance, expected)
    assert distance.shape == (5,)


def test_the_kl_constraint_raises_the_likelihood_of_behaviour_samples() -> None:
    bear = agent(
        constraint="kl", warmup_updates=1000, policy_learning_rate=0.01, vae_learning_rate=0.0
    )
    first = bear.learn(random_batch(UNIT))["kl"]
    for _ in range(30):
        last = bear.learn(random_batch(UNIT))["kl"]
    assert last < first - 0.5


def test_behaviour_samples_far_outside_keep_the_kl_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    bear = agent(constraint="kl")
    far = torch.full((32, 4, 2), 1e6)
    monkeypatch.setattr(bear.vae, "sample_raw", lambda *_: far)
    assert bear.learn(random_batch(UNIT))["kl"].abs() < 1e4


def test_act_takes_the_best_sample_by_the_first_critic() -> None:
    bear, obs = agent(act_samples=50), torch.randn(6, 2)
    bear.critic = Stub(  # type: ignore[assignment]
        lambda obs, action: -(action[..., 0] - 0.3).abs(),
        lambda obs, action: action[..., 0],
    )
    start = bear.act_generator.get_state()
    action = bear.act(obs).action
    bear.act_generator.set_state(start)
    with torch.no_grad():
        samples = bear.policy.sample_raw(obs, 50, bear.act_generator).tanh()
    best = (samples[..., 0] - 0.3).abs().argmin(dim=1)
    assert torch.equal(action, samples[torch.arange(6), best])
    assert action.shape == (6, 2)


def test_acting_is_a_function_of_the_seed() -> None:
    obs = torch.randn(3, 2)
    assert torch.equal(agent().act(obs).action, agent().act(obs).action)


def test_presets_follow_the_authors() -> None:
    assert BEAR.preset("halfcheetah-medium", 1_000_000)["kernel"] == "gaussian"
    assert BEAR.preset("HalfCheetah-v5", 1_000_000)["kernel"] == "gaussian"
    for task in ("hopper-random", "walker2d-expert", "ant-medium", "my_package:factory"):
        assert BEAR.preset(task, 1_000_000)["kernel"] == "laplacian"
    assert BEAR.preset("hopper-medium", 1_000_000)["warmup_updates"] == 40_000
    assert BEAR.preset("hopper-medium", 500_000)["warmup_updates"] == 40_000
    assert BEAR.preset("hopper-medium", 10_000)["warmup_updates"] == 800


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_profiles_are_settings_that_run(profile: str) -> None:
    config = BEARConfig(**PROFILES[profile])
    assert config != BEARConfig()
    batch: Transitions = random_batch(UNIT, rows=4)
    assert BEAR(config, UNIT).learn(batch)["critic_loss"].isfinite()


def test_a_resumed_run_has_alpha_model_targets_and_moments() -> None:
    bear, stranger = agent(target_actions="target-policy"), agent(target_actions="target-policy")
    for seed in range(3):
        bear.learn(random_batch(UNIT, seed=seed))
    state = bear.state_dict()
    assert {
        "log_alpha", "vae", "target_critic", "target_policy", "vae_optimizer", "critic_optimizer",
        "policy_optimizer", "alpha_optimizer", "updates", "generator", "act_generator",
    } <= set(state)  # fmt: skip
    stranger.load_state_dict(state)
    mine, other = (dict(b.learn(random_batch(UNIT, seed=9))) for b in (bear, stranger))
    assert all(torch.equal(mine[key], other[key]) for key in mine)
