"""The page of the trained agents and models, docs/zoo.md."""

from rlbench.agents import RULES
from rlbench.benchmarks import zoo
from rlbench.benchmarks.zoo.cards import card

TEXT = """# Trained agents and models

The package comes with small trained agents, models and update rules, so nothing has to be downloaded:

```bash
rlbench zoo list
rlbench zoo card iql-hopper-medium
rlbench evaluate zoo:iql-hopper-medium
rlbench watch zoo:ppo-cartpole
```

{table}

The result of an agent is its mean over 100 episodes, and that of a model is measured on all of its test examples, both with the weights in the package. A score
is 0 for a random policy and 100 for an expert, as in D4RL. The agents `...-medium` learned offline, from [data](data.md) that this suite generates, not from D4RL's files.
All training runs were short: these are examples, not the best results that a method can reach.
A card shows all settings, the hash of the data, the versions and the command of the training run.

An agent or model can be given as `zoo:NAME` wherever a command takes the folder of a finished run:

| to | type |
|---|---|
| use it in a Python program | `agent = rlbench.load("zoo:ppo-cartpole")` |
| train it further, or another agent with the same networks | `rlbench run iql --env hopper-medium --data none --hidden 128 128 --pretrained zoo:iql-hopper-medium` |
| begin with a trained encoder | `rlbench run ppo --env minigrid-empty-5 --encoder nature --pretrained zoo:room-pairs` |
| begin with a trained text encoder | `rlbench run ppo --env BabyAI-GoToLocalS5N2-v0 --encoder parts:image=one-hot-grid,text=transformer --pretrained zoo:missions` |
| read images through a trained network | `rlbench run ppo --env minigrid-empty-5 --encoder codes:zoo:minigrid-codes` |
| analyse it | `rlbench analyse adversarial zoo:ppo-cartpole --budgets 1 3` |
| copy it to a folder, as a finished run | `rlbench zoo get ppo-cartpole` |

The update rules `lpg-...` are not runs; the agent [`lpg`](agents/lpg.md) learns with one of them: `rlbench run lpg --env CartPole-v1 --rule lpg-small`.

No command changes the package: `watch`, `export` and `analyse`, which write into the folder of a run, write into a copy in `runs/NAME` instead. A copy contains the
weights, but neither optimisers nor random generators, so it cannot be resumed; `--pretrained` starts a new run from its weights.
In a checkout of the repository, `python -m docs.make_zoo runs/zoo` trains all agents and models again.

## Models of Stable-Baselines3

`rlbench zoo import` converts a model file of Stable-Baselines3, for example one of [RL Baselines3 Zoo](https://huggingface.co/sb3), to a finished run of the agent
`sb3-ppo`, `sb3-a2c`, `sb3-dqn`, `sb3-sac` or `sb3-td3` (also for DDPG), and evaluates it. It needs the extra `sb3`.

```bash
rlbench zoo import ppo-CartPole-v1.zip --env CartPole-v1 --out runs/from-sb3
rlbench watch runs/from-sb3
rlbench analyse adversarial runs/from-sb3
```

The agent takes the same actions as the model. Only weights and plain settings are read, and nothing is unpickled. Models with image networks, gSDE or custom policies are
refused, and so are PPO and A2C models that were trained with `VecNormalize`, even if only rewards were normalised, because its statistics are in a pickle file. For SAC,
TD3, DDPG and DQN such a normalisation cannot be detected, and a low return in the evaluation is the only sign of it. Settings of the training, such as the learning rate,
are not read, and config.json contains the defaults of the agent. So tables and plots show each converted model as a method of its own.

A model file with continuous actions can also record a [data set](data.md); it need not be converted for this:

```bash
rlbench data make Pendulum-v1 --policy sac-Pendulum-v1.zip --size 20000
```
"""


def page() -> str:
    """The page, with a row for each trained agent, model and update rule."""
    found = [card(name) for name in (*zoo.names(), *sorted(RULES))]
    rows = [f"| `{x.name}` | {x.about} | {x.headline} | {x.bytes / 1e6:.2f} |" for x in found]
    return TEXT.format(
        table="\n".join(["| name | description | result | size (MB) |", "|---|---|---|---|", *rows])
    )
