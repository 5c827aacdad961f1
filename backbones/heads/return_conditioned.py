"""A causal transformer from returns-to-go, observations and past actions to actions.

    tokens     g_1, o_1, a_1, g_2, o_2, a_2, ...   a linear layer each, plus an embedding of the step of the episode, then LayerNorm
    output t   a linear layer of the transformer's output at o_t, which depends on g_1, o_1, a_1, ..., g_t, o_t

Chen et al., 2021, https://arxiv.org/abs/2106.01345, section 3.
"""

import torch
from torch import Tensor, nn

from rlbench.backbones.encoders._base import Observations, reader, size_of
from rlbench.backbones.layers.transformer import Transformer


class ReturnConditioned(nn.Module):
    """Actions of stretches of episodes."""

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
            width: Size of the token embeddings.
            blocks: Blocks of the transformer; their hidden layers have 4 `width` units.
            heads: Attention heads of each block.
            dropout: Share of what is set to 0 in training.
            steps: Largest number of steps of a stretch.
            time_steps: Number of steps of an episode that have an embedding of their own; later ones share the last.
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
        """Outputs [B, T, A]; output t depends on the actions before t and on nothing after t.

        Args:
            to_go: Scaled returns-to-go, [B, T].
            obs: Observations, [B, T, ...].
            action: Actions, [B, T, A].
            time: Number of steps of the episode before each step, int64 [B, T].
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
