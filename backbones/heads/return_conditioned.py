"""A causal transformer from returns-to-go, observations and past actions to actions.

    tokens     g_1, o_1, a_1, g_2, o_2, a_2, ...   a linear layer each, plus a vector for the step of the episode, then LayerNorm
    output t   a linear layer of the transformer at o_t, which reads g_1, o_1, a_1, ..., g_t, o_t

Chen et al., 2021, https://arxiv.org/abs/2106.01345, section 3.
"""

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Observations, reader, size_of
from rlbench.backbones.layers.transformer import Transformer


class ReturnConditioned(nn.Module):
    """Reads stretches of episodes."""

    def __init__(
        self,
        observations: Observations,
        actions: int,
        width: int,
        *,
        blocks: int,
        heads: int,
        dropout: float,
        steps: int,
        time_steps: int,
    ) -> None:
        """Draws the weights: of the transformer as in BERT, of everything else as PyTorch does.

        Args:
            observations: Length of the observations, or their encoder.
            actions: Length of an action, A.
            width: Length of the tokens' vectors.
            blocks: Blocks of the transformer, whose inner layers have 4 `width` units.
            heads: Attention heads of each block.
            dropout: Share of what is set to 0 in training.
            steps: Most steps of a stretch.
            time_steps: Steps of an episode that have a vector of their own; later ones share the last.
        """
        super().__init__()
        self.reader = reader(observations)
        self.of_return = nn.Linear(1, width)
        self.of_obs = nn.Linear(size_of(observations), width)
        self.of_action = nn.Linear(actions, width)
        self.of_time = nn.Embedding(time_steps, width)
        self.norm = nn.LayerNorm(width)
        self.transformer = Transformer(
            width,
            blocks,
            heads,
            4 * width,
            3 * steps,
            causal=True,
            dropout=dropout,
            positions=False,
        )
        self.head = nn.Linear(width, actions)

    def forward(
        self,
        to_go: Tensor,
        obs: Tensor,
        action: Tensor,
        time: Tensor,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Outputs [B, T, A], of which number t depends on actions before t and on nothing after t.

        Args:
            to_go: Scaled returns-to-go, [B, T].
            obs: Observations, [B, T, ...].
            action: Actions, [B, T, A].
            time: Steps of the episode before each, int64 [B, T].
            padding: True at steps that do not exist, bool [B, T]; nothing reads them.
        """
        tokens = torch.stack(
            [
                self.of_return(to_go[..., None]),
                self.of_obs(self.reader(obs)),
                self.of_action(action),
            ],
            dim=2,
        )
        place = self.of_time(time.clamp(max=self.of_time.num_embeddings - 1))
        x = self.norm(tokens + place[:, :, None]).flatten(1, 2)
        out = self.transformer(x, None if padding is None else padding.repeat_interleave(3, dim=1))
        return self.head(out[:, 1::3])  # type: ignore[no-any-return]
