"""Pure functions by which the agents of a population learn from a rollout, by a learned rule or by A2C.

A slope is the gradient of a loss with respect to logits, in closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlbench.agents._populations import Part, Population, Rates
from rlbench.agents._rule import Kind, Rule, entropy, prediction_norm
from rlbench.agents._values import lambda_returns
from rlbench.checks import same_shape
from rlbench.experience import Trajectories

Read = Callable[..., tuple[Tensor, Tensor]]
"""One rule, or one for each agent, with the arguments and results of `Rule.forward`."""


def sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Actions of categorical policies: logits [..., A] to int64 [...]."""
    # The argmax of p / E, with E exponential, is distributed as p.
    noise = torch.empty_like(logits).exponential_(generator=generator)
    return (logits - noise.log()).argmax(-1)


def chosen(x: Tensor, action: Tensor) -> Tensor:
    """Entries of x, [..., A], at the actions, int64 [...]; the result is [...]."""
    return x.gather(-1, action[..., None]).squeeze(-1)


def policy_slope(logits: Tensor, action: Tensor, advantage: Tensor, bonus: float = 0.0) -> Tensor:
    """Gradient of -log pi(a) A - bonus H(pi) with respect to the logits, [..., A].

    Args:
        logits: Logits of the policies, [..., A].
        action: a, int64 [...].
        advantage: A, or the rule's pi^, [...].
        bonus: Weight of the entropy.
    """
    same_shape(action, advantage)
    log_pi = logits.log_softmax(-1)
    pi = log_pi.exp()
    one_hot = torch.zeros_like(pi).scatter(-1, action[..., None], 1.0)
    slope = (pi - one_hot) * advantage[..., None]
    if bonus:
        slope = slope + bonus * pi * (log_pi - (pi * log_pi).sum(-1, keepdim=True))
    return slope


def prediction_slope(prediction: Tensor, target: Tensor, kind: Kind) -> Tensor:
    """Gradient of KL(y || y^), or of the squared error, with respect to the logits of y; all are logits [..., m]."""
    same_shape(prediction, target)
    if kind == "mse":
        y = prediction.sigmoid()
        return 2 * (y - target.sigmoid()) * y * (1 - y)
    log_y = prediction.log_softmax(-1)
    y, apart = log_y.exp(), log_y - target.log_softmax(-1)
    return y * (apart - (y * apart).sum(-1, keepdim=True))


@dataclass(frozen=True)
class Steps:
    """Step sizes and gradient clipping of the agents."""

    rates: Rates
    """Step sizes of policy and predictions, [N] each."""
    prediction_weight: Tensor
    """Weight of the prediction loss (paper: alpha_y), [N]."""
    max_norm: float
    """Largest gradient norm."""


def targets(
    rule: Rule | Read,
    agents: Population,
    rollout: Trajectories,
    discount: float,
    *,
    detach: bool = False,
) -> tuple[Tensor, Tensor]:
    """The rule's targets for a rollout: pi^ [T, N, W] and logits of y^ [T, N, W, m].

    The predictions that the rule reads are not detached from the graph: only through them do the targets y^ of one
    update affect the policies after later updates.

    Args:
        rule: The rule.
        agents: The agents that acted.
        rollout: Their rollout, [T, N, W].
        discount: gamma.
        detach: Whether to detach the predictions nevertheless.
    """
    with torch.no_grad():
        pi = agents.outputs("policy", rollout.obs).softmax(-1)
        probability = chosen(pi, rollout.action)
    y = agents.outputs("prediction", rollout.obs)
    after = agents.outputs("prediction", rollout.final_obs)
    if detach:
        y, after = y.detach(), after.detach()
    return rule(rollout.reward, rollout.terminated, discount, probability, y, after)


def updated(
    agents: Population, rollout: Trajectories, pi: Tensor, y: Tensor, kind: Kind, steps: Steps,
    parts: tuple[Part, ...] = ("policy", "prediction"),
) -> Population:  # fmt: skip
    """Agents after one gradient step on the mean of -log pi(a|s) pi^ + alpha_y D(y, y^), with pi^ and y^ constant.

    Args:
        agents: The agents that acted.
        rollout: Their rollout, [T, N, W].
        pi: pi^, [T, N, W].
        y: Logits of y^, [T, N, W, m].
        kind: Kind of the predictions.
        steps: Step sizes and gradient clipping.
        parts: The parts that learn.
    """
    slopes: dict[Part, Tensor] = {}
    if "policy" in parts:
        logits = agents.outputs("policy", rollout.obs)
        slopes["policy"] = policy_slope(logits, rollout.action, pi)
    if "prediction" in parts:
        slope = prediction_slope(agents.outputs("prediction", rollout.obs), y, kind)
        slopes["prediction"] = slope * steps.prediction_weight[:, None, None]
    return agents.moved(rollout.obs, slopes, steps.rates, steps.max_norm)


@torch.no_grad()
def judged(
    critics: Population, rollout: Trajectories, discount: float, mixing: float
) -> tuple[Tensor, Tensor]:
    """GAE advantages, and the TD(lambda) returns that values are trained on, [T, N, W] each."""
    value = critics.outputs("value", rollout.obs).squeeze(-1)
    after = critics.outputs("value", rollout.final_obs).squeeze(-1)
    target = lambda_returns(
        rollout.reward, rollout.terminated, rollout.truncated, after, discount, mixing
    )
    return target - value, target


def normalised(advantage: Tensor) -> Tensor:
    """Advantages [T, N, W], normalised to mean 0 and standard deviation 1 for each agent."""
    centred = advantage - advantage.mean((0, 2), keepdim=True)
    return centred / (centred.square().mean((0, 2), keepdim=True).sqrt() + 1e-8)


def regularisers(
    agents: Population, rollout: Trajectories, pi: Tensor, y: Tensor, kind: Kind
) -> dict[str, Tensor]:
    """Means over a rollout: entropies of policy and predictions after an update, and norms of its targets.

    Args:
        agents: The agents after the update.
        rollout: The rollout that they learned from, [T, N, W].
        pi: pi^, [T, N, W].
        y: Logits of y^, [T, N, W, m].
        kind: Kind of the predictions.
    """
    return {
        "policy_entropy": entropy(agents.outputs("policy", rollout.obs)).mean(),
        "prediction_entropy": entropy(agents.outputs("prediction", rollout.obs), kind).mean(),
        "policy_target": pi.square().mean(),
        "prediction_norm": prediction_norm(y, kind).mean(),
    }
