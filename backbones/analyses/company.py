"""How much do other agents matter for an agent's return, moment by moment, and in which direction?

Two models predict the return of each agent from now on: one from the whole graph, one from the graph without edges between
agents. The value of company of agent j in a step, a measure of social influence, is the difference

    U_j = G_whole,j - G_without,j

If neither model is biased, U is 0 on average. It is positive if an agent is about to get more reward than the items alone
suggest, and negative if others will take what it could have taken. Curves are means around the steps in which an agent takes
an item together with another agent, alone, or alone with another agent close to the item (contested).

Tacchetti et al., 2019, https://arxiv.org/abs/1809.11044, speak of the "intensity and valence" of social influence in their
abstract; measuring them by this difference is our choice. The model without edges is trained separately: removing the edges
of a trained model would answer a different question, because that model has never seen such graphs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlbench.backbones.analyses._base import Analysis, Findings
from rlbench.backbones.analyses._events import LATE, Episodes, Sums
from rlbench.backbones.analyses.edges import findings
from rlbench.errors import UserError
from rlbench.experience import Examples

WITHOUT = "rfm-noaa"
"""The network without edges between agents."""


@dataclass(frozen=True, kw_only=True)
class CompanyConfig:
    """Settings of the analysis of the value of company."""

    close: int = 2
    """An item is contested if another agent is at most this far from it, in cells, when it is taken."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range."""
        if self.close < 0:
            raise UserError(f"close is {self.close}; give 0 or more")


class Company(Analysis):
    """The value of company around events."""

    Config: ClassVar[type] = CompanyConfig
    runs = (
        "a run of rfm-returns",
        f"a run of rfm-returns on the same task with --network {WITHOUT}",
    )
    config: CompanyConfig

    def analyse(self, learners: Sequence[Any], examples: Mapping[str, Examples]) -> Findings:
        """See `Analysis`."""
        (given,) = examples.values()
        for learner, what in zip(learners, self.runs, strict=True):
            if not hasattr(learner, "returns"):
                raise UserError(f"{type(learner).__name__} does not predict returns; give {what}")
        if (network := learners[1].config.network) != WITHOUT:
            raise UserError(
                f"the second run has the network {network}, whose agents may see each other; give {self.runs[1]} second"
            )
        whole, without = (x.returns(given).transpose(0, 1).cpu().numpy() for x in learners)
        episodes = Episodes.of(given)
        value = whole - without
        found = {}
        for name, (example, step, agent) in events(episodes, self.config.close).items():
            values = episodes.around(value, example, step, agent)
            rows = len(episodes.obs)
            found[f"value of company: {name}"] = Sums.of(values, example, rows)
            found[f"value of company: {name}, before"] = Sums.of(
                values[:, LATE].mean(1), example, rows
            )
        all_steps = np.where(episodes.alive, value.mean(-1), np.nan)
        found["value of company: all steps"] = Sums(
            np.nansum(all_steps, 1), np.isfinite(all_steps).sum(1).astype(float)
        )
        return findings(found)


JOINT, ALONE, CONTESTED = "taken together", "taken alone", "taken alone, contested"


def events(episodes: Episodes, close: int) -> dict[str, tuple[Any, ...]]:
    """Example, step and agent of each event, int64 [M] each, by the name of the kind of event."""
    taken = episodes.taken
    together = (taken.sum(2) > 1)[:, :, None] & taken
    alone = taken & ~together
    near = episodes.distance[..., episodes.agents :] <= close
    # Only other agents: the distance of the agent itself is subtracted.
    disputed = alone & ((near.sum(2)[:, :, None] - near) > 0)
    masks = {JOINT: together, ALONE: alone & ~disputed, CONTESTED: disputed}
    return {name: episodes.events(mask.any(-1)) for name, mask in masks.items()}
