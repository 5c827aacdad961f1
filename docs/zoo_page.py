"""The page of the trained agents, docs/zoo.md."""

from rlbench.agents import RULES
from rlbench.benchmarks import zoo
from rlbench.benchmarks.zoo.cards import card

TEXT = """# Trained agents

The package comes with small trained agents, encoders and update rules. Nothing is downloaded:

```bash
rlbench zoo list
rlbench zoo card iql-hopper-medium
rlbench evaluate zoo:iql-hopper-medium
rlbench watch zoo:ppo-cartpole
```

{table}

Agents have played 100 episodes, and models have been measured on all of their test examples, with the weights that are here. Data are `generated`, by this suite, and
are not D4RL's. Each card shows all settings, the hash of the data, the versions and the command that makes it; the commands
are short trainings and the agents examples, not the best that a method reaches.

`zoo:NAME` can be given wherever a command takes the folder of a finished run:

| to | type |
|---|---|
| act with it in your own program | `agent = rlbench.load("zoo:ppo-cartpole")` |
| continue to train it, or another agent with the same networks | `rlbench run iql --env hopper-medium --data none --hidden 128 128 --pretrained zoo:iql-hopper-medium` |
| begin with a trained encoder | `rlbench run ppo --env minigrid-empty-5 --encoder nature --pretrained zoo:room-pairs` |
| read images through a trained network | `rlbench run ppo --env MiniGrid-Empty-5x5-v0 --encoder objects:zoo:minigrid-objects` |
| analyse it | `rlbench analyse adversarial zoo:ppo-cartpole --budgets 0.1 0.5` |
| copy it to a folder, as a finished run | `rlbench zoo get ppo-cartpole` |

What a command writes goes to a copy in `runs/NAME`. A copy contains the weights, but neither optimisers nor random generators, so it cannot be resumed;
`--pretrained` starts a new run from it. `python -m docs.make_zoo` trains all of them again.

## Models of Stable-Baselines3

`rlbench zoo import` converts a model file of Stable-Baselines3, for example one of [RL Baselines3 Zoo](https://huggingface.co/sb3), to the finished run of the agent
`sb3-ppo`, `sb3-a2c`, `sb3-dqn`, `sb3-sac` or `sb3-td3` (also for DDPG), and evaluates it. It needs the extra `sb3`.

```bash
rlbench zoo import ppo-CartPole-v1.zip --env CartPole-v1 --out runs/from-sb3
rlbench watch runs/from-sb3
rlbench analyse adversarial runs/from-sb3
rlbench data make CartPole-v1 --policy ppo-CartPole-v1.zip --size 20000
```

The agent's actions are those of the model. Only weights are read, and nothing is unpickled. Models with image networks, gSDE or custom policies are refused, and so are
PPO and A2C models whose observations were normalised by `VecNormalize`, because its statistics are in a pickle file. For other algorithms this cannot be
detected: their returns show it.
"""


def page() -> str:
    """The page with one row for each name."""
    found = [card(name) for name in (*zoo.names(), *sorted(RULES))]
    rows = [f"| `{x.name}` | {x.about} | {x.headline} | {x.bytes / 1e6:.1f} |" for x in found]
    return TEXT.format(
        table="\n".join(["| name | what it is | result | MB |", "|---|---|---|---|", *rows])
    )
