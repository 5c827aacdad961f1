"""The agents, imported on first use so that `rlbench --help` never loads PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlbench.names import NameTable

if TYPE_CHECKING:
    from rlbench.agents.a2c import A2C as A2C, A2CConfig as A2CConfig
    from rlbench.agents.awac import AWAC as AWAC, AWACConfig as AWACConfig
    from rlbench.agents.awr import AWR as AWR, AWRConfig as AWRConfig
    from rlbench.agents.bc import BC as BC, BCConfig as BCConfig
    from rlbench.agents.bcq import BCQ as BCQ, BCQConfig as BCQConfig
    from rlbench.agents.bear import BEAR as BEAR, BEARConfig as BEARConfig
    from rlbench.agents.brac import BRAC as BRAC, BRACConfig as BRACConfig
    from rlbench.agents.count_ppo import CountPPO as CountPPO, CountPPOConfig as CountPPOConfig
    from rlbench.agents.cql import CQL as CQL, CQLConfig as CQLConfig
    from rlbench.agents.crr import CRR as CRR, CRRConfig as CRRConfig
    from rlbench.agents.decision_transformer import (
        DecisionTransformer as DecisionTransformer,
        DecisionTransformerConfig as DecisionTransformerConfig,
    )
    from rlbench.agents.dqn import DQN as DQN, DQNConfig as DQNConfig
    from rlbench.agents.ibac_sni import IBACSNI as IBACSNI, IBACSNIConfig as IBACSNIConfig
    from rlbench.agents.imitation_ppo import (
        ImitationPPO as ImitationPPO,
        ImitationPPOConfig as ImitationPPOConfig,
    )
    from rlbench.agents.iql import IQL as IQL, IQLConfig as IQLConfig
    from rlbench.agents.lpg import LPG as LPG, LPGConfig as LPGConfig
    from rlbench.agents.lpg_meta import LPGMeta as LPGMeta, LPGMetaConfig as LPGMetaConfig
    from rlbench.agents.nas import NAS as NAS, NASConfig as NASConfig
    from rlbench.agents.nas_evolution import (
        NASEvolution as NASEvolution,
        NASEvolutionConfig as NASEvolutionConfig,
    )
    from rlbench.agents.nas_local import NASLocal as NASLocal, NASLocalConfig as NASLocalConfig
    from rlbench.agents.nas_random import NASRandom as NASRandom, NASRandomConfig as NASRandomConfig
    from rlbench.agents.novelty_ppo import (
        NoveltyPPO as NoveltyPPO,
        NoveltyPPOConfig as NoveltyPPOConfig,
    )
    from rlbench.agents.ppo import PPO as PPO, PPOConfig as PPOConfig
    from rlbench.agents.recurrent_crr import (
        RecurrentCRR as RecurrentCRR,
        RecurrentCRRConfig as RecurrentCRRConfig,
    )
    from rlbench.agents.recurrent_ppo import (
        RecurrentPPO as RecurrentPPO,
        RecurrentPPOConfig as RecurrentPPOConfig,
    )
    from rlbench.agents.rfm import RFM as RFM, RFMConfig as RFMConfig
    from rlbench.agents.sac import SAC as SAC, SACConfig as SACConfig
    from rlbench.agents.style_ppo import StylePPO as StylePPO, StylePPOConfig as StylePPOConfig
    from rlbench.agents.success_ppo import (
        SuccessPPO as SuccessPPO,
        SuccessPPOConfig as SuccessPPOConfig,
    )
    from rlbench.agents.td3 import TD3 as TD3, TD3Config as TD3Config
    from rlbench.agents.td3_bc import TD3BC as TD3BC, TD3BCConfig as TD3BCConfig
    from rlbench.agents.tickets_ppo import (
        TicketsPPO as TicketsPPO,
        TicketsPPOConfig as TicketsPPOConfig,
    )
    from rlbench.interface import Agent

AGENTS = NameTable(
    "agent",
    __name__,
    {
        "a2c": ("a2c:A2C", "advantage actor-critic: PPO with one pass over each rollout"),
        "awac": ("awac:AWAC", "CRR with one sample as baseline: advantage-weighted actor-critic"),
        "awr": ("awr:AWR", "cloning weighted by advantages of whole trajectories, without Q"),
        "bc": ("bc:BC", "behaviour cloning: imitate the actions of the data"),
        "bcq": (
            "bcq:BCQ",
            "offline Q-learning among the actions of a behaviour model, slightly perturbed",
        ),
        "bear": (
            "bear:BEAR",
            "offline Q-learning constrained to the support of the data by the MMD",
        ),
        "brac": ("brac:BRAC", "offline actor-critic with a KL penalty to a behaviour model"),
        "count-ppo": (
            "count_ppo:CountPPO",
            "PPO with a bonus for rarely seen observations, from pseudo-counts of a PixelCNN",
        ),
        "cql": ("cql:CQL", "offline SAC whose critics are pushed down on actions outside the data"),
        "crr": ("crr:CRR", "clones the actions of the data set that the critic rates highly"),
        "decision-transformer": (
            "decision_transformer:DecisionTransformer",
            "a causal transformer that predicts the actions of the data from the return that follows them",
        ),
        "dqn": (
            "dqn:DQN",
            "deep Q-network, off-policy, discrete actions: double, duelling, prioritised, n-step",
        ),
        "ibac-sni": (
            "ibac_sni:IBACSNI",
            "PPO with an information bottleneck and selective noise injection",
        ),
        "imitation-ppo": (
            "imitation_ppo:ImitationPPO",
            "PPO rewarded by the similarity of its pose to a demonstration seen by another camera",
        ),
        "iql": ("iql:IQL", "offline Q-learning by expectiles, only on actions of the data"),
        "lpg": ("lpg:LPG", "on-policy; learns by an update rule that was itself learned"),
        "nas": (
            "nas:NAS",
            "search for network architectures by reinforcement learning: MnasNet's controller",
        ),
        "nas-evolution": (
            "nas_evolution:NASEvolution",
            "search for architectures by regularised evolution",
        ),
        "nas-local": (
            "nas_local:NASLocal",
            "search for architectures by local search, with restarts",
        ),
        "nas-random": ("nas_random:NASRandom", "random search for architectures"),
        "novelty-ppo": (
            "novelty_ppo:NoveltyPPO",
            "PPO with a bonus for observations that are new in their episode",
        ),
        "ppo": ("ppo:PPO", "proximal policy optimisation: on-policy, clipped"),
        "recurrent-crr": (
            "recurrent_crr:RecurrentCRR",
            "CRR with memories (LSTM or any other), for tasks that hide their state",
        ),
        "recurrent-ppo": (
            "recurrent_ppo:RecurrentPPO",
            "PPO with a memory (LSTM or any other), for tasks that hide their state",
        ),
        "rfm": (
            "rfm:RFM",
            "A2C for multi-agent games, with predictions of the other agents' next actions",
        ),
        "sac": ("sac:SAC", "soft actor-critic: online or on data, off-policy, maximum entropy"),
        "td3": (
            "td3:TD3",
            "twin delayed deterministic policy gradient: online or on data, unconstrained",
        ),
        "style-ppo": ("style_ppo:StylePPO", "PPO on frames that a style network redraws"),
        "success-ppo": (
            "success_ppo:SuccessPPO",
            "PPO rewarded by a trained classifier of success in place of the environment",
        ),
        "tickets-ppo": (
            "tickets_ppo:TicketsPPO",
            "PPO whose encoder is pruned again and again: finds a lottery ticket",
        ),
        "sb3-a2c": ("sb3_on_policy:SB3A2C", "Stable-Baselines3: advantage actor-critic, on-policy"),
        "sb3-dqn": ("sb3:SB3DQN", "Stable-Baselines3: deep Q-network, off-policy"),
        "sb3-ppo": ("sb3_on_policy:SB3PPO", "Stable-Baselines3: proximal policy optimisation"),
        "sb3-sac": ("sb3:SB3SAC", "Stable-Baselines3: soft actor-critic, off-policy"),
        "sb3-td3": ("sb3:SB3TD3", "Stable-Baselines3: twin delayed DDPG, off-policy"),
        "td3-bc": (
            "td3_bc:TD3BC",
            "TD3 with the squared error of cloning: the minimal offline agent",
        ),
    },
    group="rlbench.agents",
)
RULES = {
    "lpg-small": "for rollouts of 20 steps or more; the default",
    "lpg-short": "for rollouts of 5 steps (--rollout-steps 5)",
}
"""LPG's update rules that come with the package, for `--rule`."""

META_LEARNERS = NameTable(
    "meta-learner",
    __name__,
    {
        "lpg-meta": (
            "lpg_meta:LPGMeta",
            "meta-trains LPG's update rule over many lifetimes in parallel",
        )
    },
)


def load_agent(name: str) -> "type[Agent]":
    """The class of an agent.

    Args:
        name: A built-in name, the name of an entry point of the group `rlbench.agents`, or
            `package.module:Class`.

    Raises:
        UserError: There is no such agent, or it cannot be imported.
    """
    from rlbench.custom import checked_class
    from rlbench.interface import Agent

    return checked_class(AGENTS.load(name), Agent, name)  # type: ignore[type-abstract]


def __getattr__(name: str) -> Any:
    """A class or its settings, such as BEAR and BEARConfig."""
    name_of_class = name.removesuffix("Config")
    module = AGENTS.module_of(name_of_class) or META_LEARNERS.module_of(name_of_class)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
