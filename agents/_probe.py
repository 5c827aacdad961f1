"""What the predictions of LPG's agents encode: values at other discounts, read from them by a small network.

The policies of agents at the end of their lifetimes are frozen, and only the predictions continue to learn by the rule
until they converge. At the same time, values are learned by TD(lambda) at the training discount. Then a network with
one hidden layer is fitted to read the exact values at several discounts from the predictions, and another one to read
them from the TD(lambda) values. The levels for fitting and for testing are different.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, section 4.3 and figure 5
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rlbench.agents._lifetimes import Steps, judged, targets, updated
from rlbench.agents._lives import act
from rlbench.agents._populations import Networks, Population
from rlbench.agents._rule import Rule
from rlbench.experience import Lifetimes

DISCOUNTS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""gamma' at which values are read."""
MOST_UPDATES, AT_REST = 500, 1e-4
"""Maximum number of updates of the predictions, and the mean KL divergence of an update below which they have
converged."""
HIDDEN, FIT_STEPS, FIT_ROWS, FIT_RATE = 32, 3_000, 512, 1e-3
"""Hidden units of the reading network, and steps, batch size and step size of its fit."""
TRAINING_SHARE = 0.8
"""Share of the levels that the reading networks are fitted to."""


@torch.no_grad()
def settled(
    rule: Rule, lifetimes: Lifetimes, agents: Population, discount: float, mixing: float,
    critic_rate: float, rollout_steps: int, steps: Steps, generator: torch.Generator,
) -> tuple[Population, Tensor]:  # fmt: skip
    """Agents whose predictions and values have converged, and how often they visited each state meanwhile, [N, S].

    Args:
        rule: The rule, which makes the targets of the predictions.
        lifetimes: The lifetimes of the agents.
        agents: The agents; their policies do not change.
        discount: Training discount gamma, for the rule and the values.
        mixing: lambda of TD(lambda).
        critic_rate: See `Population.valued`.
        rollout_steps: Steps in a rollout.
        steps: Step sizes of the predictions.
        generator: Draws the actions.
    """
    count, states = agents.tensors()["prediction"].shape[:2]
    visits = torch.zeros((count, states), device=generator.device)
    for _ in range(MOST_UPDATES):
        rollout = act(lifetimes, agents, rollout_steps, generator)
        _, target = judged(agents, rollout, discount, mixing)
        pi, y = targets(rule, agents, rollout, discount)
        before = agents.outputs("prediction", rollout.obs).log_softmax(-1)
        agents = updated(agents, rollout, pi, y, rule.kind, steps, parts=("prediction",))
        agents = agents.valued(rollout.obs, target, critic_rate)
        after = agents.outputs("prediction", rollout.obs).log_softmax(-1)
        visits.scatter_add_(
            1,
            rollout.obs.movedim(1, 0).flatten(1),
            torch.ones_like(rollout.reward).movedim(1, 0).flatten(1),
        )
        if (before.exp() * (before - after)).sum(-1).mean() < AT_REST:
            break
    return agents, visits


@torch.no_grad()
def read_values(
    features: Tensor, exact: Tensor, weight: Tensor, generator: torch.Generator
) -> Tensor:
    """Error of networks that read exact values from features: squared error over variance at each discount, [N, G].

    The first levels are for fitting, the others for testing; values are standardised with the statistics of the levels
    for fitting. A single level leaves none for testing, so the result is NaN.

    Args:
        features: Features of each state, [N, S, F].
        exact: Values at G discounts, [G, N, S].
        weight: How often each state was visited, [N, S]; states that were never visited do not count.
        generator: Draws initial weights and batches.
    """
    fitted = max(1, int(TRAINING_SHARE * len(weight)))
    seen = weight[:fitted] > 0
    x, y = features[:fitted][seen], exact[:, :fitted][:, seen].float()
    mean, std = y.mean(1, keepdim=True), y.std(1, keepdim=True) + 1e-8
    scale = (x.mean(0), x.std(0) + 1e-8)
    count = len(exact)
    readers: Population = Networks.new(count, x.shape[1], (HIDDEN,), {"value": 1}, generator)
    x, y = (x - scale[0]) / scale[1], (y - mean) / std
    for _ in range(FIT_STEPS):
        rows = torch.randint(len(x), (FIT_ROWS,), generator=generator, device=x.device)
        obs = x[rows].expand(1, count, -1, -1)
        readers = readers.valued(obs, y[:, rows][None], FIT_RATE)
    every = ((features - scale[0]) / scale[1]).flatten(0, 1).expand(1, count, -1, -1)
    found = readers.outputs("value", every)[0, ..., 0].view(exact.shape)
    wanted = (exact.float() - mean[..., None]) / std[..., None]
    share = (weight > 0).float()
    error = ((found - wanted).square() * share).sum(-1) / share.sum(-1).clamp(min=1)
    tested = share[fitted:]
    centre = (wanted[:, fitted:] * tested).sum((1, 2)) / tested.sum()
    spread = ((wanted[:, fitted:] - centre[:, None, None]).square() * tested).sum(
        (1, 2)
    ) / tested.sum()
    return (error / spread[:, None]).T


def exact_values(lifetimes: Lifetimes, agents: Population, discounts: Sequence[float]) -> Tensor:
    """Exact values of the agents' policies at G discounts, [G, N, S]."""
    policy = agents.tensors()["policy"].softmax(-1)
    return torch.stack([lifetimes.values(policy, discount) for discount in discounts])
