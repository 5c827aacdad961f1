"""Policies in model files of Stable-Baselines3 as behaviour; nothing in them is unpickled.

A model file is a zip. `policy.pth` in it is a dict of tensors, which PyTorch reads without running
code; `data` is JSON, in which some values are pickles as text, which stay text. The names of the weights
identify the algorithm, and their shapes give the sizes of the layers.

The statistics of VecNormalize are in another file. PPO and A2C models record that they need them and are
refused; for SAC, TD3 and DQN models this cannot be detected.
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError  # raised by PyTorch when it refuses a file
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rlbench.errors import UserError
from rlbench.files import refuse_other_than_file

Array = NDArray[Any]
Activation = Callable[[Tensor], Tensor]
Linear = tuple[Tensor, Tensor]
Rule = Literal["squashed Gaussian", "deterministic", "Gaussian", "categorical", "greedy"]

LARGEST = 2_000_000_000
"""Largest size of an unpacked model file, in bytes; a small zip could fill the memory."""
LOG_STD_BOUNDS = (-20.0, 2.0)
"""SAC's bounds, from stable_baselines3/sac/policies.py."""
ACTIVATIONS: Mapping[str, Activation] = {
    "ReLU": torch.relu,
    "Tanh": torch.tanh,
    "ELU": functional.elu,
    "SiLU": functional.silu,
    "GELU": functional.gelu,
    "LeakyReLU": functional.leaky_relu,
    "Sigmoid": torch.sigmoid,
}


@dataclass(frozen=True)
class Family:
    """How algorithms name the weights of an MlpPolicy."""

    algorithm: str
    weights: str
    """Pattern that the names of all weights match."""
    trunk: str
    """Prefix of all layers, or of all but the last."""
    head: str | None
    """Prefix of the last layer, if it is a different one."""
    activation: str
    """SB3's default."""


ON_POLICY = "PPO or A2C"
_ENDING = r"\.(weight|bias)"
_CRITICS = rf"critic(_target)?\.qf\d+\.\d+{_ENDING}"
FAMILIES = (
    Family(
        "SAC", rf"actor\.(latent_pi\.\d+|mu|log_std){_ENDING}|{_CRITICS}",
        "actor.latent_pi", "actor.mu", "ReLU",
    ),
    Family("TD3", rf"actor(_target)?\.mu\.\d+{_ENDING}|{_CRITICS}", "actor.mu", None, "ReLU"),
    Family(
        ON_POLICY,
        rf"(mlp_extractor\.(policy|value)_net\.\d+|(action|value)_net){_ENDING}|log_std",
        "mlp_extractor.policy_net", "action_net", "Tanh",
    ),
    Family("DQN", rf"q_net(_target)?\.q_net\.\d+{_ENDING}", "q_net.q_net", None, "ReLU"),
)  # fmt: skip


class SB3Policy:
    """A policy of a model file; see `Behaviour`."""

    def __init__(self, file: Path, observation_space: Space[Any], action_space: Space[Any]) -> None:
        """Reads the weights.

        Args:
            file: A file saved by `model.save` of Stable-Baselines3.
            observation_space: Observation space of the task.
            action_space: Action space of the task.

        Raises:
            UserError: The file cannot be read, is no MlpPolicy of SAC, TD3, DDPG, PPO, A2C or DQN,
                or does not fit the spaces.
        """
        weights, about = read_model(file)
        family = family_of(file, weights, about)
        self.algorithm = family.algorithm
        self._activation = ACTIVATIONS[activation_of(file, family, about)]
        self._layers = layers_of(weights, family)
        self._log_std: Tensor | Linear | None = weights.get("log_std")
        if family.algorithm == "SAC":
            self._log_std = _linear(weights, "actor.log_std")
        self._space = action_space
        self._rule: Rule = _rule(family, discrete=isinstance(action_space, spaces.Discrete))
        self._check_sizes(file, observation_space)

    def draw(self, generator: np.random.Generator, steps: int) -> Array:
        """See `Behaviour`; [T, N] for a Discrete space of N actions."""
        size = len(self._layers[-1][1])
        if self._rule == "categorical":
            return generator.gumbel(size=(steps, size)).astype(np.float32)
        if self._rule in ("deterministic", "greedy"):
            return np.zeros((steps, size), dtype=np.float32)
        return generator.standard_normal((steps, size), dtype=np.float32)

    @torch.no_grad()
    def act(self, obs: Array, noise: Array) -> Array:
        """See `Behaviour`; int64 [V] for a Discrete space. Zero noise gives the mode."""
        latent = torch.from_numpy(obs.astype(np.float32))
        for weight, bias in self._layers[:-1]:
            latent = self._activation(functional.linear(latent, weight, bias))
        output = functional.linear(latent, *self._layers[-1])
        if isinstance(self._log_std, tuple):
            log_std = functional.linear(latent, *self._log_std).clamp(*LOG_STD_BOUNDS)
            output = output + log_std.exp() * torch.from_numpy(noise)
        elif self._log_std is not None:
            output = output + self._log_std.exp() * torch.from_numpy(noise)
        return self._to_space(output, noise)

    def _to_space(self, output: Tensor, noise: Array) -> Array:
        """Actions from the output of the last layer, [V, N]."""
        if not isinstance(self._space, spaces.Box):
            chosen: Array = (output + torch.from_numpy(noise)).argmax(dim=1).numpy()
            return chosen
        low, high = (torch.as_tensor(x, dtype=torch.float32) for x in self._bounds)
        if self._rule != "Gaussian":
            output = low + (output.tanh() + 1) * (high - low) / 2
        action: Array = output.clamp(low, high).numpy()
        return action

    @property
    def _bounds(self) -> tuple[Array, Array]:
        assert isinstance(self._space, spaces.Box)
        return self._space.low, self._space.high

    def _check_sizes(self, file: Path, observation_space: Space[Any]) -> None:
        inner, outer = self._layers[0][0].shape[1], len(self._layers[-1][1])
        size = self._space.n if isinstance(self._space, spaces.Discrete) else self._space.shape
        fits_rule = isinstance(self._space, spaces.Discrete) == (self._rule in _DISCRETE)
        fits_std = (self._log_std is None) == (self._rule not in ("squashed Gaussian", "Gaussian"))
        if (
            observation_space.shape != (inner,)
            or size not in (outer, (outer,))
            or not (fits_rule and fits_std)
        ):
            raise UserError(
                f"{file} is a policy of {self.algorithm} from {inner} numbers to {outer}, but the "
                f"task has the spaces {observation_space} and {self._space}; give the task that it "
                "was trained on, whose observations must be vectors and whose actions must be vectors or Discrete"
            )


_DISCRETE = ("categorical", "greedy")


def _rule(family: Family, *, discrete: bool) -> Rule:
    """How the output of the last layer is turned into actions."""
    rules: dict[str, Rule] = {
        "SAC": "squashed Gaussian",
        "TD3": "deterministic",
        ON_POLICY: "categorical" if discrete else "Gaussian",
        "DQN": "greedy",
    }
    return rules[family.algorithm]


def read_model(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights, and the plain values stored with them."""
    refuse_other_than_file(file)
    try:
        with zipfile.ZipFile(file) as archive:
            _refuse_large(archive)
            blob, text = archive.read("policy.pth"), archive.read("data")
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            _refuse_large(archive)
        weights = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
        about = json.loads(text)
    except FileNotFoundError:
        raise UserError(
            f"there is no file {file}; give the .zip that model.save of stable-baselines3 wrote"
        ) from None
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, KeyError, ValueError, RuntimeError, EOFError,
            UnpicklingError) as error:  # fmt: skip
        raise UserError(
            f"{file} cannot be read as a model file of stable-baselines3 ({type(error).__name__}); "
            "give the .zip that model.save wrote"
        ) from None
    if not (isinstance(weights, dict) and all(_is_weight(*item) for item in weights.items())):
        raise refusal(file, "its policy.pth holds more than weights")
    if not isinstance(about, dict):
        raise refusal(file, "its data are not settings")
    weights = {name: x.float() for name, x in weights.items()}
    if not all(bool(x.isfinite().all()) for x in weights.values()):
        raise refusal(file, "some of its weights are nan or infinite")
    return weights, about


def _refuse_large(archive: zipfile.ZipFile) -> None:
    if sum(part.file_size for part in archive.infolist()) > LARGEST:
        raise zipfile.LargeZipFile


def _is_weight(name: Any, value: Any) -> bool:
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
    return isinstance(name, str) and plain and not value.is_complex()


def family_of(file: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> Family:
    """The family of a model.

    Raises:
        UserError: It has unknown parts.
    """
    policy = about.get("policy_class")
    module = policy.get("__module__", "") if isinstance(policy, dict) else ""
    if not str(module).startswith("stable_baselines3."):
        raise refusal(file, "its policy is a custom class")
    extractor = str(_policy_settings(about).get("features_extractor_class", "FlattenExtractor"))
    for family in FAMILIES:
        if weights and all(re.fullmatch(family.weights, name) for name in weights):
            try:
                layers = layers_of(weights, family)
            except KeyError as error:
                raise refusal(file, f"the weights {error} are missing") from None
            if not _fit_together(layers):
                raise refusal(file, "the shapes of its weights do not fit together")
            gsde = weights.get("log_std", torch.zeros(0)).dim() != 1
            if gsde or "FlattenExtractor" not in extractor:
                break
            # Off-policy algorithms always keep the original observation, so theirs is no evidence.
            if family.algorithm == ON_POLICY and about.get("_last_original_obs") is not None:
                raise refusal(file, "it was trained with VecNormalize, whose statistics are in another file")  # fmt: skip
            return family
    raise refusal(file, "it has other parts (images, other extractors, gSDE)")


def refusal(file: Path, why: str) -> UserError:
    """An error about a model file that cannot be used, for `why`."""
    return UserError(
        f"{file} cannot be used: {why}; give an MlpPolicy of SAC, TD3, DDPG, PPO, A2C or DQN that "
        "was trained on plain observations"
    )


def _policy_settings(about: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = about.get("policy_kwargs")
    return settings if isinstance(settings, dict) else {}


def activation_of(file: Path, family: Family, about: Mapping[str, Any]) -> str:
    """The name of the activation that the settings give in plain text, or the algorithm's default."""
    named = str(_policy_settings(about).get("activation_fn", family.activation))
    name = named.removeprefix("<class 'torch.nn.modules.activation.").removesuffix("'>")
    if name not in ACTIVATIONS:
        raise refusal(file, f"its activation is {named}")
    return name


def layers_of(weights: Mapping[str, Tensor], family: Family) -> list[Linear]:
    """Weights and biases of the layers from observation to output."""
    pattern = rf"{re.escape(family.trunk)}\.(\d+)\.weight"
    found = (re.fullmatch(pattern, name) for name in weights)
    places = sorted(int(match[1]) for match in found if match)
    names = [f"{family.trunk}.{place}" for place in places]
    return [_linear(weights, name) for name in (*names, *([family.head] if family.head else []))]


def _fit_together(layers: list[Linear]) -> bool:
    """Whether each layer has a matrix [out, in] and biases [out], and reads what the layer before it returns."""
    return all(x.dim() == 2 and bias.shape == x.shape[:1] for x, bias in layers) and all(
        x.shape[0] == following.shape[1] for (x, _), (following, _) in pairwise(layers)
    )


def _linear(weights: Mapping[str, Tensor], name: str) -> Linear:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
