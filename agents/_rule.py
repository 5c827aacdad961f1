"""LPG's learned update rule: an LSTM that reads a trajectory backwards and determines how an agent learns from it.

    x_t       = [r_t, d_t, gamma, pi(a_t | s_t), phi(y(s_t)), (1 - d_t) phi(y(s_t+1))]
    h_t, c_t  = LSTM(x_t, (1 - d_t) (h_t+1, c_t+1))
    pi^_t     = W_pi relu(h_t),       y^_t = softmax(W_y relu(h_t))

Nothing in x_t depends on observations or on the number of actions, so one rule serves all environments.

Oh et al., 2020, https://arxiv.org/abs/2007.08794, section 3 and appendix
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save as tensors_to_bytes
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rlbench.checkpoint import load
from rlbench.checks import same_shape
from rlbench.errors import UserError
from rlbench.files import without_hash, write_atomically

Kind = Literal["kl", "mse"]
"""Kind of predictions: categorical, compared by their KL divergence, or numbers from 0 to 1, compared by their squared
error."""
EMBEDDING = 16
"""Hidden size of phi (Jackson et al., 2023, release)."""
RULES = Path(__file__).parent / "rules"
"""Folder of the rules that come with the package."""


class Rule(nn.Module):
    """The update rule."""

    def __init__(self, prediction_size: int, hidden: int, kind: Kind = "kl") -> None:
        """Makes recurrent weights orthogonal, forget gates open, and pi^ = 0, so that no policy collapses at first.

        Args:
            prediction_size: Length of an agent's predictions (paper: m).
            hidden: Units of the LSTM (paper: 256).
            kind: Kind of the predictions.
        """
        super().__init__()
        self.kind: Kind = kind
        self.embedding = nn.Sequential(
            nn.Linear(prediction_size, EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, 1)
        )
        self.read = nn.Linear(6, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.policy_out = nn.Linear(hidden, 1)
        self.prediction_out = nn.Linear(hidden, prediction_size)
        for weight in self.recurrent.weight.chunk(4):  # Input, forget, output, cell.
            nn.init.orthogonal_(weight)
        with torch.no_grad():
            self.read.bias[hidden : 2 * hidden] = 1.0
        nn.init.zeros_(self.policy_out.weight)
        nn.init.zeros_(self.policy_out.bias)

    def forward(
        self,
        reward: Tensor,
        over: Tensor,
        discount: float,
        probability: Tensor,
        prediction: Tensor,
        next_prediction: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Targets for an agent in each step of a trajectory.

        Args:
            reward: r, [T, ...].
            over: d, 1.0 where the episode ended, [T, ...].
            discount: gamma.
            probability: pi(a | s), [T, ...].
            prediction: Logits of y(s), [T, ..., m].
            next_prediction: Logits of y for the observation after each step, before any reset, [T, ..., m].

        Returns:
            pi^, [T, ...], and logits of y^, [T, ..., m].
        """
        same_shape(reward, over, probability)
        now, after = self.embed(prediction), self.embed(next_prediction)
        keep = 1 - over
        constant = torch.full_like(reward, discount)
        x = torch.stack([reward, over, constant, probability, now, keep * after], dim=-1)
        gates = self.read(x.flatten(1, -2))
        out = backward_lstm(gates, self.recurrent.weight, keep.flatten(1)).relu()
        pi, y = self.policy_out(out), self.prediction_out(out)
        return pi.view_as(reward), y.view_as(prediction)

    def embed(self, logits: Tensor) -> Tensor:
        """Embeds predictions with phi: logits [..., m] to [...]."""
        y = logits.softmax(-1) if self.kind == "kl" else logits.sigmoid()
        embedded: Tensor = self.embedding(y).squeeze(-1)
        return embedded


def backward_lstm(gates: Tensor, weight: Tensor, keep: Tensor) -> Tensor:
    """Runs an LSTM from the last step to the first; its state is reset where an episode ends.

    Args:
        gates: Contributions of the inputs to the gates (input, forget, output, cell), [T, B, 4 H].
        weight: Recurrent weights, [4 H, H].
        keep: 0.0 where the state of the next step belongs to another episode, else 1.0, [T, B].

    Returns:
        h, [T, B, H].
    """
    hidden: Tensor = _BackwardLSTM.apply(gates, weight, keep)[0]  # type: ignore[no-untyped-call]
    return hidden


class _BackwardLSTM(torch.autograd.Function):
    """The LSTM with a hand-written gradient: no graph for each step, and one matrix product for the weights.

    It also runs a group of G LSTMs at once, with gates [T, G, B, 4 H], weights [G, 4 H, H] and keep [T, G, B].
    """

    @staticmethod
    def forward(gates: Tensor, weight: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        """h, activations of the gates, c and tanh(c) of all steps."""
        size, transposed = weight.shape[-1], weight.mT
        acts = torch.empty_like(gates)
        hidden, cell, bounded = gates.new_empty((3, *gates.shape[:-1], size)).unbind()
        h = c = torch.zeros_like(hidden[0])
        for t in reversed(range(len(gates))):
            now, k = acts[t], keep[t][..., None]
            torch.matmul(h * k, transposed, out=now)
            now += gates[t]
            now[..., : 3 * size].sigmoid_()
            now[..., 3 * size :].tanh_()
            i, f, o, g = now.split(size, -1)
            c = torch.mul(f, c * k, out=cell[t]).addcmul_(i, g)
            h = torch.mul(o, torch.tanh(c, out=bounded[t]), out=hidden[t])
        return hidden, acts, cell, bounded

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """Saves what the gradient needs."""
        _, weight, keep = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(weight, keep, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of gates and weights."""
        weight, keep, hidden, acts, cell, bounded = ctx.saved_tensors
        size = weight.shape[-1]
        i, f, o, g = acts.split(size, -1)
        reset = keep[..., None]
        before_h, before_c = (
            torch.cat([x[1:], torch.zeros_like(x[:1])]) * reset for x in (hidden, cell)
        )
        # Factors of the gradients of h and c, for all steps at once.
        into_cell, carried = o * (1 - bounded.square()), f * reset
        by_cell = torch.cat([g * i * (1 - i), before_c * f * (1 - f), i * (1 - g.square())], dim=-1)
        by_hidden = bounded * o * (1 - o)
        total = torch.empty_like(acts)
        dh = dc = torch.zeros_like(grad[0])
        for t in range(len(grad)):
            dh = grad[t] + dh
            dc = torch.addcmul(dc, dh, into_cell[t])
            now, factor = total[t], by_cell[t]
            torch.mul(factor[..., : 2 * size].unflatten(-1, (2, size)), dc[..., None, :],
                      out=now[..., : 2 * size].unflatten(-1, (2, size)))  # fmt: skip
            torch.mul(dh, by_hidden[t], out=now[..., 2 * size : 3 * size])
            torch.mul(dc, factor[..., 2 * size :], out=now[..., 3 * size :])
            dh, dc = (now @ weight) * reset[t], dc * carried[t]
        return total, total.flatten(0, -2).T @ before_h.flatten(0, -2), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> Any:
        """Runs a group of LSTMs; their gradients are not needed."""
        axes = (1, 0, 1)
        grouped = [
            x.unsqueeze(axis).expand(*x.shape[:axis], info.batch_size, *x.shape[axis:])
            if dim is None
            else x.movedim(dim, axis)
            for x, dim, axis in zip(inputs, in_dims, axes, strict=True)
        ]
        return _BackwardLSTM.apply(*grouped), (1, 1, 1, 1)  # type: ignore[no-untyped-call]


def prediction_loss(prediction: Tensor, target: Tensor, kind: Kind) -> Tensor:
    """Distance between predictions y and targets y^: KL(y || y^) or squared error; logits [..., m] to [...]."""
    same_shape(prediction, target)
    if kind == "mse":
        return (prediction.sigmoid() - target.sigmoid()).square().sum(-1)
    log_y = prediction.log_softmax(-1)
    return (log_y.exp() * (log_y - target.log_softmax(-1))).sum(-1)


def entropy(logits: Tensor, kind: Kind = "kl") -> Tensor:
    """Entropy of categorical distributions, or of m independent Bernoulli ones; logits [..., m] to [...]."""
    if kind == "mse":
        p = logits.sigmoid()
        return (F.softplus(logits) - p * logits).sum(-1)
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def prediction_norm(target: Tensor, kind: Kind) -> Tensor:
    """||y^||^2 of targets; logits [..., m] to [...]."""
    y = target.softmax(-1) if kind == "kl" else target.sigmoid()
    return y.square().sum(-1)


def save_rule(rule: Rule, path: Path, card: Mapping[str, Any]) -> list[Path]:
    """Writes a rule as safetensors, and its card next to it as JSON.

    Args:
        rule: The rule.
        path: File that ends in .safetensors.
        card: How the rule was made and what it scores, in plain values.

    Returns:
        The paths of both files.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in rule.state_dict().items()}
    write_atomically(path, tensors_to_bytes(state, metadata={"prediction": rule.kind}))
    text = json.dumps(card, indent=1) + "\n"
    write_atomically(path.with_suffix(".json"), text.encode())
    return [path, path.with_suffix(".json")]


def shipped_rules() -> list[str]:
    """Names of the rules that come with the package."""
    return sorted(path.stem for path in RULES.glob("*.safetensors"))


def located(name: str) -> str:
    """The name of a rule for settings: a file or folder with its whole path, so that it is found from any folder."""
    return os.path.abspath(name) if name not in shipped_rules() and os.path.exists(name) else name


def load_rule(name: str) -> Rule:
    """Loads a rule.

    Args:
        name: Name of a shipped rule, or a file or run folder of a rule that lpg-meta trained.

    Raises:
        UserError: There is no such rule, or the file or folder holds something else.
    """
    path = RULES / f"{name}.safetensors" if name in shipped_rules() else Path(name)
    # Not `path.is_file`, which raises an error for a name that is too long.
    if os.path.isdir(path):
        return _rule_of_run(path)
    if not os.path.isfile(path):
        raise UserError(
            f"there is no rule {name!r}; give {' or '.join(shipped_rules())}, or a file or run folder of a "
            "rule that lpg-meta trained"
        )
    try:
        with safe_open(path, "pt") as file:
            kind = (file.metadata() or {}).get("prediction", "kl")
        return made_rule(load_file(path), "mse" if kind == "mse" else "kl")
    except (KeyError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise UserError(
            f"{path} holds no LPG rule ({str(error).splitlines()[0]}); give a file that `rlbench export` "
            "wrote for a run of lpg-meta"
        ) from None


def _rule_of_run(path: Path) -> Rule:
    """The rule of a run of lpg-meta, at its last checkpoint."""
    saved = sorted((path / "checkpoint").glob("update-*.json"))
    state = load(saved[-1].with_suffix(""))["learner"] if saved else {}
    if "rule" not in state or "population" not in state:
        raise UserError(f"{path} holds no rule; give the folder of a run of lpg-meta")
    try:
        config = without_hash(json.loads((path / "config.json").read_bytes()))
        kind = config["learner"]["settings"]["prediction"]
    except (KeyError, ValueError, TypeError, OSError):
        raise UserError(
            f"{path / 'config.json'} is missing or damaged; restore it from a copy"
        ) from None
    return made_rule(state["rule"], kind)


def same_form(rule: Rule, like: Rule, name: str) -> Rule:
    """Returns a loaded rule if it has the same sizes and kind as another one.

    Args:
        rule: The loaded rule.
        like: A rule with the sizes and kind of this run.
        name: Name or path of the loaded rule.

    Raises:
        UserError: Its sizes or kind differ.
    """
    if _form(rule) != _form(like):
        raise UserError(
            f"the rule {name} has {_form(rule)}, but this run has {_form(like)}; use the options of the rule"
        )
    return rule


def _form(rule: Rule) -> str:
    """Sizes and kind of a rule as command-line options of lpg-meta."""
    hidden, size = rule.policy_out.in_features, rule.prediction_out.out_features
    return f"--hidden {hidden} --prediction-size {size} --prediction {rule.kind}"


def made_rule(state: Mapping[str, Tensor], kind: Kind) -> Rule:
    """Makes a rule with the weights `state`.

    Raises:
        KeyError, ValueError, RuntimeError: The weights do not belong to a rule, or are not finite.
    """
    if state["prediction_out.bias"].dim() != 1 or state["recurrent.weight"].dim() != 2:
        raise ValueError("its tensors have the wrong shapes")
    if not all(x.isfinite().all() for x in state.values()):
        raise ValueError("a weight is not finite")
    rule = Rule(len(state["prediction_out.bias"]), state["recurrent.weight"].shape[1], kind)
    rule.load_state_dict(state)
    return rule
