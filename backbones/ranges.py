"""Valid ranges of settings.

A value out of range could divide by 0, take the logarithm of 0, or silently leave a part of an agent
untrained. `check` refuses it before anything is built.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import Any

from rlbench.errors import UserError
from rlbench.fields import check_types


@dataclass(frozen=True)
class Range:
    """The values that a setting may take."""

    holds: Callable[[Any], bool]
    """Whether a value is in the range; NaN never is, because comparisons with it are false."""
    words: str
    """The valid values in words, for the error message."""


COUNT = Range(lambda x: all(n >= 1 for n in (x if isinstance(x, tuple) else (x,))), "1 or more")
"""Range of a number, or of each number of a tuple, such as layer sizes."""
FINITE = Range(isfinite, "a finite number")
NOT_NEGATIVE = Range(lambda x: 0 <= x < inf, "a finite number, 0 or more")
POSITIVE = Range(lambda x: 0 < x < inf, "a finite number above 0")
LIMIT = Range(lambda x: x > 0, "a number above 0")
"""Range of a bound, which may be infinite."""
SHARE = Range(lambda x: 0 <= x <= 1, "a number from 0 to 1")
BELOW_ONE = Range(lambda x: 0 <= x < 1, "0 or more and below 1")
INSIDE = Range(lambda x: 0 < x < 1, "a number above 0 and below 1")
TWO = Range(lambda x: x >= 2, "2 or more")
BOUNDS = Range(lambda x: x[0] <= x[1], "the lower bound first")
INTERVAL = Range(lambda x: x[0] < x[1], "two different numbers, the smaller one first")

SEVERAL = Range(
    lambda x: len(x) > 0 and all(0 <= n < inf for n in x),
    "one or more finite numbers, each 0 or more",
)

_NAMES = {
    COUNT: "act_samples advantage_samples agent_hidden agent_updates batch_size code code_size "
    "constraint_samples critics cycle_updates data_size decay_updates divergence_samples embedding_size "
    "envs epochs eval_episodes exploration_updates hidden input_layers lifetimes log_every memory_size neighbours penalty_samples "
    "output_layers policy_decay_updates policy_every population predictor_updates replay_size rollout_steps samples "
    "seeds sequence_length steps_per_update target_every target_samples threads tournament updates "
    "vae_hidden workers",
    FINITE: "divergence_threshold gap_threshold kl_threshold mmd_threshold sigma_offset "
    "target_entropy_scale",
    NOT_NEGATIVE: "activation_penalty alpha alpha_learning_rate beta cloning_alpha "
    "conservatism critic_learning_rate divergence_weight entropy_coefficient exploration_noise learning_rate "
    "checkpoint_every eval_every final_learning_rate noise_clip perturbation policy_entropy policy_learning_rate policy_penalty policy_rate "
    "prediction_entropy prediction_penalty prediction_rate prediction_spread prediction_weight "
    "predictor_learning_rate random_steps seed snapshot_every "
    "std_penalty target_noise "
    "target_noise_clip vae_learning_rate value_clip_range value_coefficient warmup_updates "
    "weight_decay",
    POSITIVE: "act_temperature alpha_min clip_range fixed_alpha initial_temperature kernel_width "
    "evolution_noise rms_prop_epsilon std",
    LIMIT: "agent_max_norm alpha_max gradient_clip kl_limit max_grad_norm predictor_max_grad_norm max_norm max_weight target_kl",
    SHARE: "critic_rate discount exploration_end exploration_start gae_lambda mixing mixture soft_clip target_rate",
    BELOW_ONE: "baseline_decay dropout momentum",
    INSIDE: "expectile",
    TWO: "atoms prediction_size",
    BOUNDS: "log_std_bounds",
    INTERVAL: "value_range",
    SEVERAL: "a2c_entropies a2c_rates bandit_rates bandit_weights",
}
RANGES = {name: each for each, names in _NAMES.items() for name in names.split()}
"""Range of each setting by its name, which means the same in every agent."""


def check(settings: Any, **others: Range) -> None:
    """Refuses settings of a wrong type or out of range; None, which switches a setting off, is in every range.

    Args:
        settings: A dataclass.
        others: Ranges that differ from those in `RANGES`, by name.

    Raises:
        UserError: A setting has another type, or is out of range.
    """
    check_types(settings)
    ranges = RANGES | others
    for name in (field.name for field in fields(settings) if field.name in ranges):
        value = getattr(settings, name)
        if value is not None and not ranges[name].holds(value):
            raise UserError(f"{name} is {value}; give {ranges[name].words}")


def within(what: str, each: Range, **values: Any) -> None:
    """Refuses options of a network that are out of range.

    Args:
        what: The network, in errors.
        each: Range of all of them.
        **values: The options by name.

    Raises:
        UserError: One is.
    """
    for name, value in values.items():
        if not each.holds(value):
            raise UserError(f"{name} of {what} is {value}; give {each.words}")
