"""PPO that learns from frames in several styles, so that its policy should depend less on colours and textures.

    s'_v = f_{v mod (K + 1)}(s_v),   f_0(s) = s,   f_1, ..., f_K: the styles of a trained `style-network`

The environment with number v shows its observations in the style v mod (K + 1) throughout the run: one in K + 1 environments shows them
as they are. Evaluations, and all acting without exploration, use observations as they are. Everything else is PPO. `--pretrained RUN`
loads the style network from a run of `style-network`; without it, the style network is untrained.

Geirhos et al., 2019, https://arxiv.org/abs/1811.12231, for training with redrawn pictures against a bias to textures; Tobin et al., 2017,
https://arxiv.org/abs/1703.06907, for environments with random appearances; Johnson et al., 2016, https://arxiv.org/abs/1603.08155, for the network

Differences from the papers: a few fixed styles in place of thousands of paintings, because one network has to draw them while the agent acts; the
style belongs to the environment, so that consecutive observations look alike and PPO's ratios begin at 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rlbench.agents._on_policy import led_out
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.encoders._base import freeze
from rlbench.backbones.encoders.painter import STYLES, Painter
from rlbench.backbones.layers.augment import check_images
from rlbench.backbones.ranges import SIZE, Range
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Action, Learn


@dataclass(frozen=True, kw_only=True)
class StylePPOConfig(PPOConfig):
    """Settings of PPO and of the style network."""

    encoder: str | None = "impala"
    """Encoder shared by policy and value; see docs/encoders.md."""
    envs: int = 8
    """Number of environments in parallel (paper: N), more than there are styles."""
    styles: int = 3
    """Number of styles of the style network; its run must have the same number."""
    painter_width: int = 16
    """Channels of the style network, as `width` of its run."""
    painter_blocks: int = 2
    """Residual blocks of the style network, as `blocks` of its run."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "styles": SIZE, "painter_width": SIZE, "painter_blocks": SIZE,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and styles that no environment has."""
        super().__post_init__()
        if self.envs <= self.styles:
            raise UserError(
                f"envs is {self.envs}, but there are {self.styles} styles and the original observations; give at least "
                f"{self.styles + 1} environments, or fewer --styles"
            )


class StylePPO(PPO):
    """PPO on frames in several styles."""

    Config: ClassVar[type] = StylePPOConfig
    config: StylePPOConfig

    def build(self) -> None:
        """PPO's parts and the style network, which does not learn."""
        config, space = self.config, self.spec.observation_space
        check_images(space, STYLES, "use an environment")
        super().build()
        self.painter = Painter(
            tuple(space.shape or ()), config.styles, config.painter_width, config.painter_blocks
        )
        freeze(self.painter)

    @torch.no_grad()
    def restyled(self, obs: Tensor) -> Tensor:
        """Observations [V, ...] of all environments, each in its style, with the same dtype."""
        style = torch.arange(len(obs), device=obs.device) % (self.config.styles + 1)
        redrawn = style > 0
        made = obs.clone()
        made[redrawn] = self.painter.paint(obs[redrawn], style[redrawn] - 1).round().to(obs.dtype)
        return made

    def explore(self, obs: Tensor) -> Action:
        """A sample of the policy on restyled observations."""
        return super().explore(self.restyled(obs))

    def _learn(self, step: Learn, rollout: Trajectories) -> Mapping[str, Tensor]:
        """An update of PPO on restyled observations."""
        # One time step at once, as in `explore`, so that rounding is the same.
        final = rollout.final_obs.clone()
        for t in led_out(rollout).any(dim=1).nonzero()[:, 0].tolist():
            final[t] = self.restyled(rollout.final_obs[t])
        obs = torch.stack([self.restyled(x) for x in rollout.obs])
        return super()._learn(step, replace(rollout, obs=obs, final_obs=final))
