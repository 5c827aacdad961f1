"""PPO with a bonus for observations that are new in their episode.

    e_t = f(s_t) / |f(s_t)|,    r'_t = r_t + bonus * min over i <= t of |e_{t+1} - e_i|^2

where f is an encoder that does not learn and i are the steps of the same episode. `--pretrained RUN` loads its weights from another
run, such as one of `facenet`, whose squared distances tell whether two observations belong to the same class. Without it f is
random. Evaluations count the rewards of the environment alone.

Every episode begins without memory, so the bonus does not vanish as an agent becomes familiar with its task. It suits tasks with a new
level in each episode, in which an agent should look at everything once.

Badia et al., 2020, https://arxiv.org/abs/2002.06038, section 2, for novelty within an episode by nearest neighbours; Savinov et al.,
2019, https://arxiv.org/abs/1810.02274, for a trained comparison of observations; embeddings by Schroff et al., 2015,
https://arxiv.org/abs/1503.03832

Differences from the papers: one nearest neighbour, and no kernel, threshold or novelty across episodes; the embedding is trained
before the run and not during it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from rlbench.agents._novelty import EpisodicNovelty
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.experience import Trajectories
from rlbench.interface import Learn


@dataclass(frozen=True, kw_only=True)
class NoveltyPPOConfig(PPOConfig):
    """Settings of PPO and of the bonus."""

    bonus: float = 0.01
    """Weight of the novelty, which is from 0 to 4."""
    bonus_encoder: str = "flatten"
    """Encoder whose features are compared (f), with options after a colon; it has its own weights, which do not learn."""
    bonus_memory: int = 256
    """Number of observations of each running episode that are kept from one rollout to the next, to compare new ones with."""


class NoveltyPPO(PPO):
    """PPO with a bonus for novelty."""

    Config: ClassVar[type] = NoveltyPPOConfig
    unlearned = (*PPO.unlearned, "novelty.memory", "novelty.valid")
    config: NoveltyPPOConfig

    def build(self) -> None:
        """PPO's parts, and the embeddings of running episodes."""
        config = self.config
        super().build()
        self.novelty = EpisodicNovelty(
            self.spec.observation_space, config.bonus_encoder, config.envs, config.bonus_memory
        )

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        """An update of PPO on the rewards with the bonus."""
        novelty = self.novelty(rollout)
        rewarded = replace(rollout, reward=rollout.reward + self.config.bonus * novelty)
        return {**super()._learn(step, rewarded), "novelty": novelty.mean()}
