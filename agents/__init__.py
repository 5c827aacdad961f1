"""The agents, imported on first use so that `rlbench --help` never loads PyTorch."""

import dataclasses
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from rlbench.errors import FAILURES, UserError

if TYPE_CHECKING:
    from rlbench.agents.a2c import A2C as A2C
    from rlbench.agents.a2c import A2CConfig as A2CConfig
    from rlbench.agents.awac import AWAC as AWAC
    from rlbench.agents.awac import AWACConfig as AWACConfig
    from rlbench.agents.awr import AWR as AWR
    from rlbench.agents.awr import AWRConfig as AWRConfig
    from rlbench.agents.bc import BC as BC
    from rlbench.agents.bc import BCConfig as BCConfig
    from rlbench.agents.bcq import BCQ as BCQ
    from rlbench.agents.bcq import BCQConfig as BCQConfig
    from rlbench.agents.bear import BEAR as BEAR
    from rlbench.agents.bear import BEARConfig as BEARConfig
    from rlbench.agents.brac import BRAC as BRAC
    from rlbench.agents.brac import BRACConfig as BRACConfig
    from rlbench.agents.cql import CQL as CQL
    from rlbench.agents.cql import CQLConfig as CQLConfig
    from rlbench.agents.crr import CRR as CRR
    from rlbench.agents.crr import CRRConfig as CRRConfig
    from rlbench.agents.ibac_sni import IBACSNI as IBACSNI
    from rlbench.agents.ibac_sni import IBACSNIConfig as IBACSNIConfig
    from rlbench.agents.iql import IQL as IQL
    from rlbench.agents.iql import IQLConfig as IQLConfig
    from rlbench.agents.ppo import PPO as PPO
    from rlbench.agents.ppo import PPOConfig as PPOConfig
    from rlbench.agents.recurrent_crr import RecurrentCRR as RecurrentCRR
    from rlbench.agents.recurrent_crr import RecurrentCRRConfig as RecurrentCRRConfig
    from rlbench.agents.recurrent_ppo import RecurrentPPO as RecurrentPPO
    from rlbench.agents.recurrent_ppo import RecurrentPPOConfig as RecurrentPPOConfig
    from rlbench.agents.sac import SAC as SAC
    from rlbench.agents.sac import SACConfig as SACConfig
    from rlbench.agents.td3 import TD3 as TD3
    from rlbench.agents.td3 import TD3Config as TD3Config
    from rlbench.agents.td3_bc import TD3BC as TD3BC
    from rlbench.agents.td3_bc import TD3BCConfig as TD3BCConfig
    from rlbench.agents.vib import VIB as VIB
    from rlbench.agents.vib import VIBConfig as VIBConfig
    from rlbench.interface import Agent

# The module has the name of the agent unless another stands before the class.
_BUILT_IN = {
    "a2c": ("A2C", "advantage actor-critic: PPO with one pass over each rollout"),
    "awac": ("AWAC", "CRR with one sample as baseline: advantage-weighted actor-critic"),
    "awr": ("AWR", "cloning weighted by advantages of whole trajectories, without Q"),
    "bc": ("BC", "behaviour cloning: imitate the actions of the data"),
    "bcq": ("BCQ", "offline Q-learning among the actions of a behaviour model, slightly perturbed"),
    "bear": ("BEAR", "offline Q-learning held inside the support of the data by an MMD constraint"),
    "brac": ("BRAC", "offline actor-critic with a KL penalty to a behaviour model"),
    "cql": ("CQL", "SAC on data whose critics are pushed down away from the data"),
    "crr": ("CRR", "cloning of those actions of the data that the critic likes"),
    "ibac-sni": ("IBACSNI", "PPO with an information bottleneck and selective noise injection"),
    "iql": ("IQL", "offline Q-learning by expectiles, without asking about other actions"),
    "ppo": ("PPO", "proximal policy optimisation: on-policy, clipped"),
    "recurrent-crr": ("RecurrentCRR", "CRR with LSTM memories, for tasks that hide their state"),
    "recurrent-ppo": ("RecurrentPPO", "PPO with an LSTM memory, for tasks that hide their state"),
    "sac": ("SAC", "soft actor-critic: online or on data, off-policy, maximum entropy"),
    "td3": ("TD3", "twin delayed deterministic policy gradient: online or on data, unconstrained"),
    "sb3-a2c": ("sb3_on_policy:SB3A2C", "Stable-Baselines3: advantage actor-critic, on-policy"),
    "sb3-dqn": ("sb3:SB3DQN", "Stable-Baselines3: deep Q-network, off-policy"),
    "sb3-ppo": ("sb3_on_policy:SB3PPO", "Stable-Baselines3: proximal policy optimisation"),
    "sb3-sac": ("sb3:SB3SAC", "Stable-Baselines3: soft actor-critic, off-policy"),
    "sb3-td3": ("sb3:SB3TD3", "Stable-Baselines3: twin delayed DDPG, off-policy"),
    "td3-bc": ("TD3BC", "TD3 with the squared error of cloning: the minimal offline agent"),
    "vib": ("VIB", "classifier with an information bottleneck, weight decay or dropout"),
}


def _place(name: str) -> tuple[str, str]:
    """Module and class of a built-in agent."""
    module, _, class_name = _BUILT_IN[name][0].rpartition(":")
    return f"{__name__}.{module or name.replace('-', '_')}", class_name


_MODULES = {
    attribute: module
    for module, class_name in map(_place, _BUILT_IN)
    for attribute in (class_name, f"{class_name}Config")
}

__all__ = [
    "A2C",
    "AWAC",
    "AWR",
    "BC",
    "BCQ",
    "BEAR",
    "BRAC",
    "CQL",
    "CRR",
    "IBACSNI",
    "IQL",
    "PPO",
    "SAC",
    "TD3",
    "TD3BC",
    "VIB",
    "A2CConfig",
    "AWACConfig",
    "AWRConfig",
    "BCConfig",
    "BCQConfig",
    "BEARConfig",
    "BRACConfig",
    "CQLConfig",
    "CRRConfig",
    "IBACSNIConfig",
    "IQLConfig",
    "PPOConfig",
    "RecurrentCRR",
    "RecurrentCRRConfig",
    "RecurrentPPO",
    "RecurrentPPOConfig",
    "SACConfig",
    "TD3BCConfig",
    "TD3Config",
    "VIBConfig",
    "agent_names",
    "load_agent",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def agent_names() -> dict[str, str]:
    """Names for the command line with a one-line description; imports no agent."""
    plugins = {name: f"from {_package(entry)}" for name, entry in _plugins().items()}
    return plugins | {name: description for name, (_, description) in _BUILT_IN.items()}


def load_agent(name: str) -> "type[Agent]":
    """The class of an agent.

    Args:
        name: A built-in name, the name of an entry point of the group `rlbench.agents`, or
            `package.module:Class`.

    Raises:
        UserError: There is no such agent, or it cannot be imported.
    """
    if name in _BUILT_IN:
        place = ":".join(_place(name))
    elif ":" in name:
        place = name
    elif name in (plugins := _plugins()):
        place = plugins[name].value
    else:
        close = get_close_matches(name.lower(), agent_names(), n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UserError(
            f"there is no agent {name!r}; {hint}`rlbench list` shows all, and package.module:Class "
            "names one of your own"
        )
    return _import(name, place)


def _import(name: str, place: str) -> "type[Agent]":
    module_name, _, class_name = place.partition(":")
    try:
        module = import_module(module_name)
    except UserError:  # It says itself what it needs.
        raise
    except FAILURES as error:  # A plug-in's module may fail in any way.
        raise UserError(
            f"agent {name!r}: cannot import the module {module_name!r} "
            f"({type(error).__name__}: {error}); install it or correct the name"
        ) from error
    from rlbench.interface import Agent

    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise UserError(
            f"agent {name!r}: {class_name!r} in the module {module_name!r} is "
            f"{'missing' if found is None else 'no subclass of rlbench.interface.Agent'}; "
            "expected package.module:Class"
        )
    lacking = _lacking(found)
    if lacking:
        raise UserError(
            f"agent {name!r}: the class {class_name} {lacking}; see rlbench.interface.Agent"
        )
    return found


def _lacking(agent: "type[Agent]") -> str:
    """What a class lacks to be an agent, in words; empty if it is one."""
    from rlbench.interface import Trajectories, Transitions

    config = getattr(agent, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        return f"has the Config {config}, expected a frozen dataclass of its settings"
    missing = dataclasses.MISSING
    bare = [
        field.name
        for field in dataclasses.fields(config)
        if field.init and field.default is missing and field.default_factory is missing
    ]
    if bare:
        return f"has a Config without a default for {', '.join(bare)}, so give one to every setting"
    consumes = getattr(agent, "consumes", None)
    if consumes not in (Transitions, Trajectories):
        return f"has consumes = {consumes}, expected Transitions or Trajectories"
    methods = sorted(agent.__abstractmethods__)
    return f"has no method {' and '.join(methods)}" if methods else ""


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="rlbench.agents")}


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module
