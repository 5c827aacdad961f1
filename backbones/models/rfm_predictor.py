"""What will each agent do next? A relational forward model, its ablations and its baselines on recorded episodes.

At each step the network reads the graph of agents and items before the actions, together with its memory of earlier
steps, and predicts a distribution over the action a_i of each agent i:

    minimise  E[ -1/A sum_i log p(a_i^t | G^1, ..., G^t) ]

Gradients flow through whole episodes. The graph shows the previous action of each agent, but neither the action to
predict nor an agent's private goal, which the network has to infer.

Measures other than loss and accuracy:

    perfect steps   number of steps from the start of the episode in which the most probable actions of all agents are
                    correct. Up to the first mistake, a simulation by the model would be in the recorded state, so this
                    is also how long the model could simulate the episode without a mistake
    ece             expected calibration error: mean gap between confidence and accuracy, over ten bins of confidence

Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044; see `rlbench.backbones.layers.relational` for what is known of
it. The settings are our choice.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.backbones.models._relational import RelationalModel, alive_means
from rlbench.entities import ACTIONS
from rlbench.experience import Examples
from rlbench.measures import Measure

BINS = 10
"""Bins of confidence."""


def action_losses(logits: Tensor, action: Tensor) -> Tensor:
    """Cross-entropies in nats, [T, B, A].

    Args:
        logits: [T, B, A, 5].
        action: Actions that were taken, int64 [B, T, A].
    """
    return -logits.log_softmax(-1).gather(-1, action.transpose(0, 1)[..., None]).squeeze(-1)


def first_run(right: Tensor) -> Tensor:
    """Number of steps before the first incorrect one, [B]; `right` is bool [T, B].

    >>> first_run(torch.tensor([[True, True, False, True]]).T)
    tensor([2])
    """
    return right.long().cumprod(0).sum(0)


def mean_run(right: Tensor, alive: Tensor) -> Tensor:
    """Number of steps before the first incorrect one, averaged over all starting steps, [B].

    Args:
        right: Whether a step is correct, bool [T, B].
        alive: Steps of the episode, bool [T, B].
    """
    run, total = torch.zeros(right.shape[1], device=right.device), 0
    for ok in reversed(right & alive):
        run = (run + 1) * ok
        total = total + run
    return total / alive.sum(0)


def calibration(logits: Tensor, right: Tensor, alive: Tensor) -> Tensor:
    """For each bin of confidence: number of predictions, sum of confidences, number of correct predictions, [B, 10, 3].

    Args:
        logits: [T, B, A, 5].
        right: Whether the most probable action was taken, bool [T, B, A].
        alive: Steps of the episode, bool [T, B].
    """
    confidence = logits.softmax(-1).amax(-1)
    place = F.one_hot((confidence * BINS).long().clamp(max=BINS - 1), BINS)
    place = place * alive[..., None, None]
    values = torch.stack([torch.ones_like(confidence), confidence, right.float()], dim=-1)
    return torch.einsum("tbak,tbav->bkv", place.float(), values)


class RFMPredictor(RelationalModel):
    """The model that predicts actions."""

    measures = (
        Measure("accuracy"), Measure("loss", "nats", higher_is_better=False), Measure("perfect_steps", "steps"),
    )  # fmt: skip
    outputs = ACTIONS

    def losses(self, out: Tensor, examples: Examples) -> Tensor:
        """Cross-entropies, [T, B, A]."""
        return action_losses(out, examples["action"])

    def measure(self, examples: Examples) -> Mapping[str, Tensor]:
        """Measures of each episode, [B] each, and more for analyses.

        `perfect_steps_any` is the mean of perfect steps over all starting steps; `accuracy_by_step` [B, T] is 0
        after the end of an episode; `last_action` is the accuracy of repeating the last action; `calibration`
        [B, 10, 3] and `taken_actions` [B, 5] are counts.
        """
        logits, action = self.predict(examples).out, examples["action"].transpose(0, 1)
        alive = examples["alive"].T.bool()
        right = logits.argmax(-1) == action
        all_right = right.all(-1)
        agents = action.shape[-1]
        last = examples["obs"][:, :, :agents, -ACTIONS:].transpose(0, 1)
        repeated = (last.argmax(-1) == action) & (last.sum(-1) > 0)
        counts = F.one_hot(action, ACTIONS).sum(2) * alive[..., None]
        return {
            "accuracy": alive_means(right.float(), examples["alive"]),
            "loss": alive_means(self.losses(logits, examples), examples["alive"]),
            "perfect_steps": first_run(all_right & alive).float(),
            "perfect_steps_any": mean_run(all_right, alive),
            "accuracy_by_step": (right.float().mean(-1) * alive).T,
            "last_action": alive_means(repeated.float(), examples["alive"]),
            "calibration": calibration(logits, right, alive),
            "taken_actions": counts.sum(0),
        }

    def summary(self, columns: Mapping[str, Any]) -> Mapping[str, float]:
        """`ece`, and `majority`: the accuracy of always predicting the most frequent action."""
        count, confidence, right = columns["calibration"].sum(0).T
        frequencies = columns["taken_actions"].sum(0)
        return {
            "ece": float(abs(confidence - right).sum() / count.sum()),
            "majority": float(frequencies.max() / frequencies.sum()),
        }
