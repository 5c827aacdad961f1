"""Decision Transformer: behaviour cloning conditioned on the return that follows.

A causal transformer reads the last K steps of an episode as three tokens each and predicts the actions of the data:

    g_t  = r_t + r_t+1 + ... + r_end                         the return-to-go, undiscounted
    pi   : minimise  E[ |tanh(net(g_1, s_1, a_1, ..., g_t, s_t)) - a_t|^2 ],   or the cross-entropy of discrete actions
    act  : g_1 = target return,   g_t+1 = g_t - r_t

Nothing is bootstrapped. The value of an action enters only through g, so a higher target return asks for the actions of
better episodes. `rlbench table decision-transformer` compares it with cloning and IQL.

Chen et al., 2021, https://arxiv.org/abs/2106.01345; the numeric settings are those of the authors' code for MuJoCo
(https://github.com/kzl/decision-transformer).

A stretch of the data begins at any step; steps after the end of its episode, which may be a time limit, do not count.

Differences from the authors' code: returns-to-go are divided by the largest return of the data, theirs by 1000
(`return_scale`); the target return is that of the data's best episode, whereas theirs were chosen by hand (`target_return`); GELU instead of ReLU;
biases and LayerNorms have no weight decay; the heads that predict states and returns, which the paper does not train, are left
out; a last episode that was recorded only in part counts as truncated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rlbench.agents._observing import ObservingConfig
from rlbench.backbones.heads.return_conditioned import ReturnConditioned
from rlbench.backbones.layers.normalise import obs_normaliser
from rlbench.backbones.optim import AdamW, gradient_step
from rlbench.backbones.ranges import check
from rlbench.backbones.spaces import ActionBox, action_form
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import REWARD, Action, Agent, State, evaluating
from rlbench.seeding import drawing_from

WARM_UP = 10_000
"""Updates in which the step size rises (authors' code)."""


@dataclass(frozen=True, kw_only=True)
class DecisionTransformerConfig(ObservingConfig):
    """Settings of Decision Transformer."""

    target_return: float | None = None
    """Target return when acting, undiscounted and in the units of the rewards; None: that of the best
    episode of the data set (authors' code: 12,000 or 6,000 on HalfCheetah, 3,600 or 1,800 on Hopper, 5,000 or 2,500 on Walker2d)."""
    return_scale: float | None = None
    """Returns-to-go are divided by this; None: the largest absolute return of the data set's episodes (authors' code: 1000)."""
    sequence_length: int = 20
    """Steps of a stretch, and number of steps remembered when acting (paper: K)."""
    batch_size: int = 64
    """Stretches of trajectories in one update."""
    embedding_size: int = 128
    """Size of the token embeddings."""
    blocks: int = 3
    """Blocks of the transformer (paper: layers)."""
    heads: int = 1
    """Attention heads of each block."""
    dropout: float = 0.1
    """Share of attention weights and of outputs of layers that is set to 0 in an update."""
    time_steps: int = 1000
    """Number of steps of an episode that have an embedding of their own; later steps share the last one."""
    learning_rate: float = 1e-4
    """Step size of AdamW."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    warmup_updates: int = WARM_UP
    """Updates in which the step size rises linearly; `rlbench run` takes a tenth of the updates if that is less."""
    gradient_clip: float | None = 0.25
    """Largest gradient norm; None: no limit."""
    normalise_obs: bool = True
    """Bring observations to zero mean and unit variance with the statistics of the data set."""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range, and an embedding size that is not a multiple of the heads."""
        check(self)
        if self.embedding_size % self.heads:
            raise UserError(
                f"embedding_size is {self.embedding_size} and heads is {self.heads}; give an embedding_size that is a "
                "multiple of heads"
            )


class DecisionTransformer(Agent):
    """A policy conditioned on the return that should follow."""

    Config: ClassVar[type] = DecisionTransformerConfig
    consumes = Trajectories
    config: DecisionTransformerConfig

    def build(self) -> None:
        """The network and its optimiser."""
        config, spec = self.config, self.spec
        self.form = action_form(spec.action_space, self.device)
        self.normaliser = obs_normaliser(spec, enabled=config.normalise_obs)
        self.network = ReturnConditioned(
            config.observations(spec), self.form.size, config.embedding_size,
            blocks=config.blocks, heads=config.heads, dropout=config.dropout,
            steps=config.sequence_length, time_steps=config.time_steps,
        )  # fmt: skip
        self.optimizer = AdamW(
            self.network.parameters(), config.learning_rate, decay=config.weight_decay
        )
        # Saved with the weights, because an agent that only acts has no data set.
        low, self.best_return = spec.return_range or (0.0, 0.0)
        self.scale = config.return_scale or max(abs(low), abs(self.best_return)) or 1.0

    @classmethod
    def preset(cls, task: str, updates: int) -> dict[str, Any]:
        """The step size rises in the first tenth of the run, but in no more updates than in the authors' code."""
        return {"warmup_updates": min(WARM_UP, updates // 10)}

    @property
    def target_return(self) -> float:
        """Target return when acting: the setting, or the return of the data set's best episode."""
        given = self.config.target_return
        return self.best_return if given is None else given

    @torch.no_grad()
    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        """The predicted action, or a sample if actions are discrete and `explore` is set. The state holds the last K steps."""
        out, state = self._step(obs, state)
        if isinstance(self.form, ActionBox):
            out = out.tanh()
        elif explore:
            drawn = torch.multinomial(out.softmax(-1), 1, generator=self.act_generator)
            out = F.one_hot(drawn[:, 0], self.form.size).float()
        action = self.form.from_unit(out)
        state["action"][:, -1] = self.form.to_unit(action)
        return Action(action, state={**state, "time": state["time"] + 1})

    def scores(self, obs: Tensor, state: State | None = None) -> Tensor:
        """Logits of discrete actions, or continuous actions."""
        out, _ = self._step(obs, state)
        return out if self.chooses else self.form.from_unit(out.tanh())

    def _step(self, obs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The network's output for the newest step, [B, A], and the state with that step."""
        state = self._following(obs, state or self._initial_state(obs))
        length = self.config.sequence_length
        ago = torch.arange(length - 1, -1, -1, device=self.device)
        time = state["time"].long()[:, None] - ago
        with evaluating(self):
            out: Tensor = self.network(
                (self.target_return - state["earned"]) / self.scale,
                self.normaliser(state["obs"]),
                state["action"],
                time.clamp(min=0),
                padding=time < 0,
            )[:, -1]
        return out, state

    # A function of one observation cannot use what came before.
    decide = Agent.decide

    def learn(self, experience: Trajectories) -> Mapping[str, Tensor]:
        """One step towards the actions of the data, up to the first end in each stretch."""
        batch = experience
        if batch.time is None or batch.return_to_go is None:
            raise UserError(
                "the trajectories have no `time` and `return_to_go`, which decision-transformer needs; give stretches of "
                "a data set"
            )
        if self.config.target_return is None and self.spec.return_range is None:
            raise UserError(
                "target_return is None, but the data set has no complete episode whose return could replace it; give "
                "--target-return"
            )
        over = torch.maximum(batch.terminated, batch.truncated)
        # Steps after an end belong to another episode; nothing before them reads them.
        counts = (over.cumsum(0) == over).T
        action = self.form.to_unit(batch.action).transpose(0, 1)
        with drawing_from(self.generator):  # For dropout.
            out = self.network(
                batch.return_to_go.T / self.scale,
                self.normaliser(batch.obs).transpose(0, 1),
                action,
                batch.time.T,
            )
        loss = (self._errors(out, action) * counts).sum() / counts.sum()
        self._warm_up()
        loss = gradient_step(self.optimizer, loss, self.config.gradient_clip)
        return {"policy_loss": loss}

    def _errors(self, out: Tensor, action: Tensor) -> Tensor:
        """Squared error or cross-entropy at each step, [B, T], of outputs and actions [B, T, A]."""
        if isinstance(self.form, ActionBox):
            return (out.tanh() - action).square().mean(-1)
        return -(action * out.log_softmax(-1)).sum(-1)

    def _warm_up(self) -> None:
        optimizer, updates = self.optimizer, max(self.config.warmup_updates, 1)
        share = ((optimizer.steps + 1) / updates).clamp(max=1.0)
        optimizer.learning_rate.copy_(self.config.learning_rate * share)

    def _initial_state(self, obs: Tensor) -> State:
        """The state before the first step of an episode: zeros.

        `obs`, `action` and `earned`, the rewards before each step, are those of the last K steps, the newest last; `time` is the
        number of steps before the next.
        """
        rows, length = len(obs), self.config.sequence_length
        return {
            "obs": obs.new_zeros(rows, length, *obs.shape[1:]),
            "action": torch.zeros(rows, length, self.form.size, device=self.device),
            "earned": torch.zeros(rows, length, device=self.device),
            "time": torch.zeros(rows, device=self.device),
            REWARD: torch.zeros(rows, device=self.device),
        }

    def _following(self, obs: Tensor, state: State) -> State:
        """The state with a next step, whose action is not known yet."""
        # The reward of the last step of another episode does not count.
        earned = state["earned"][:, -1] + state[REWARD] * (state["time"] > 0)
        newest = {
            "obs": obs,
            "action": torch.zeros_like(state["action"][:, -1]),
            "earned": earned,
        }
        longer = {
            name: torch.cat([state[name][:, 1:], x[:, None]], dim=1) for name, x in newest.items()
        }
        return {**state, **longer}
