"""Valid ranges of settings.

A value out of range could divide by 0, take the logarithm of 0, or silently leave a part of an agent
untrained. `check` refuses it before anything is built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
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


MOST = 1_000_000
"""Largest size and largest weight: larger ones need more memory than there is, or overflow in float32."""
LEAST = 1e-9
"""Smallest divisor; much smaller ones are 0 in float32."""
LONGEST = 10**15
"""Largest number of updates: larger ones do not fit in the integers of files."""

COUNT = Range(lambda x: 1 <= x <= LONGEST, "1 or more, up to 10^15")
"""Range of a number of updates, steps, transitions or examples."""
SIZE = Range(
    lambda x: all(1 <= n <= MOST for n in (x if isinstance(x, tuple) else (x,))),
    f"1 or more, up to {MOST:,}",
)
"""Range of anything that an update holds in memory or repeats; for a tuple, such as layer sizes, of each number."""
FEW = Range(lambda x: 1 <= x <= 1_000, "1 or more, up to 1,000")
"""Range of a number of threads, or of runs at once."""
SEED = Range(lambda x: 0 <= x < 2**63, "0 or more, below 2^63")
PERIOD = Range(lambda x: 0 <= x <= LONGEST, "0 or more, up to 10^15")
"""Range of a number that may be 0, such as updates between snapshots."""
FINITE = Range(lambda x: abs(x) <= MOST, f"a number from {-MOST:,} to {MOST:,}")
NOT_NEGATIVE = Range(lambda x: 0 <= x <= MOST, f"a number from 0 to {MOST:,}")
POSITIVE = Range(lambda x: LEAST <= x <= MOST, f"a number from {LEAST:g} to {MOST:,}")
LIMIT = Range(lambda x: x >= LEAST, f"a number of {LEAST:g} or more")
"""Range of a bound, which may be infinite."""
RATE = Range(lambda x: 0 <= x <= 1, "a number from 0 to 1")
"""Range of a learning rate."""
DECAYING = Range(lambda x: LEAST <= x <= 1, f"a number from {LEAST:g} to 1")
"""Range of a learning rate that decays by a factor."""
SHARE = Range(lambda x: 0 <= x <= 1, "a number from 0 to 1")
BELOW_ONE = Range(lambda x: 0 <= x < 1, "0 or more and below 1")
INSIDE = Range(lambda x: 0 < x < 1, "a number above 0 and below 1")
TWO = Range(lambda x: 2 <= x <= MOST, f"2 or more, up to {MOST:,}")
BOUNDS = Range(
    lambda x: -30 <= x[0] <= x[1] <= 30, "two numbers from -30 to 30, the lower bound first"
)
"""Range of bounds of a logarithm."""
INTERVAL = Range(
    lambda x: -MOST <= x[0] < x[1] <= MOST,
    f"two different numbers from {-MOST:,} to {MOST:,}, the smaller one first",
)
SEVERAL = Range(
    lambda x: len(x) > 0 and all(0 <= n <= MOST for n in x),
    f"one or more numbers from 0 to {MOST:,}",
)

_NAMES = {
    COUNT: "correction_updates cycle_updates data_size decay_updates exploration_updates log_every policy_decay_updates policy_every "
    "replay_size steps target_every trials updates",
    SIZE: "act_samples adversary_hidden advantage_samples agent_hidden agent_updates batch_size blocks bonus_memory code code_size "
    "constraint_samples critics divergence_samples embedding_size envs episodes epochs eval_episodes heads hidden input_layers lifetimes "
    "memory_size n_step neighbours output_layers penalty_samples population predictor_updates rollout_steps samples sequence_length "
    "steps_per_update target_samples time_steps tournament vae_hidden width workers",
    FEW: "seeds threads",
    SEED: "seed",
    PERIOD: "checkpoint_every eval_every jobs snapshot_every warmup_updates",
    FINITE: "divergence_threshold gap_threshold kl_threshold mmd_threshold sigma_offset "
    "target_entropy_scale target_return",
    NOT_NEGATIVE: "activation_penalty alpha alpha_learning_rate beta bonus cloning_alpha conservatism divergence_weight "
    "entropy_coefficient exploration_noise noise_clip random_steps perturbation policy_entropy policy_penalty policy_rate "
    "prediction_entropy prediction_penalty prediction_rate prediction_spread prediction_weight "
    "std_penalty target_noise target_noise_clip value_clip_range value_coefficient weight_decay",
    POSITIVE: "act_temperature alpha_min priority_floor clip_range fixed_alpha initial_temperature kernel_width "
    "evolution_noise return_scale rms_prop_epsilon std",
    LIMIT: "agent_max_norm alpha_max error_clip gradient_clip kl_limit max_grad_norm predictor_max_grad_norm max_norm max_weight target_kl",
    RATE: "critic_learning_rate final_learning_rate learning_rate policy_learning_rate "
    "predictor_learning_rate vae_learning_rate",
    SHARE: "correction critic_rate discount exploration_end exploration_start gae_lambda mixing mixture priority_exponent soft_clip target_rate",
    BELOW_ONE: "baseline_decay data_share dropout momentum",
    INSIDE: "expectile",
    TWO: "atoms prediction_size",
    BOUNDS: "log_std_bounds",
    INTERVAL: "value_range",
    SEVERAL: "a2c_entropies a2c_rates bandit_rates bandit_weights",
}
RANGES = {name: each for each, names in _NAMES.items() for name in names.split()}
"""Range of each setting by its name, which means the same in every agent."""


def ranges_of(kind: type[Any]) -> Mapping[str, Range]:
    """The ranges of the settings of a dataclass by name; its attribute `ranges` replaces some of those in `RANGES`."""
    return RANGES | getattr(kind, "ranges", {})


def check(settings: Any) -> None:
    """Refuses settings of a wrong type or out of range; None, which switches a setting off, is in every range.

    Args:
        settings: A dataclass; see `ranges_of`.

    Raises:
        UserError: A setting has another type, or is out of range.
    """
    check_types(settings)
    ranges = ranges_of(type(settings))
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
        UserError: An option is out of range.
    """
    for name, value in values.items():
        if not each.holds(value):
            raise UserError(f"{name} of {what} is {value}; give {each.words}")
