"""PPO with rounds of pruning: what is kept, where it restarts, and that other runs take the ticket."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.agents.tickets_ppo import TicketsPPO, TicketsPPOConfig
from rlbench.benchmarks.training.loading import load_run
from rlbench.benchmarks.training.pretrained import encoders_of, load_pretrained
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.experience import Trajectories
from rlbench.interface import Spec
from tests.agents import test_ppo
from tests.agents.case import ROLLOUT, Case, experience
from tests.networks import same

ENCODER = "one-hot-grid"
GRID = Box(0, 10, (7, 7, 3), np.uint8)
SPEC = Spec(GRID, Discrete(3))
SMALL: dict[str, Any] = {
    "hidden": (8,),
    "batch_size": 12,
    "epochs": 2,
    "learning_rate": 0.01,
    **ROLLOUT,
}
CASE = Case(
    "tickets-ppo",
    small={**SMALL, "encoder": "mlp:units=8", "round_updates": 2, "rounds": 1},
    changes={
        **test_ppo.CASE.changes, "encoder": ("mlp:units=9", {}), "keep": (0.3, {}), "criterion": ("random", {}),
        "rounds": (2, {"round_updates": 1}), "round_updates": (1, {}), "rewind_updates": (1, {}),
    },
    spaces=(Box, Discrete),
)  # fmt: skip


def rollout(agent: TicketsPPO, seed: int) -> Trajectories:
    """Random steps of the agent."""
    found = experience(agent, seed)
    assert isinstance(found, Trajectories)
    return found


def make(**settings: Any) -> TicketsPPO:
    given = {**SMALL, "encoder": ENCODER, "rounds": 2, "round_updates": 2, "keep": 0.5, **settings}
    return TicketsPPO(TicketsPPOConfig(**given), SPEC, seed=0)


def trained(updates: int, **settings: Any) -> TicketsPPO:
    agent = make(**settings)
    for seed in range(updates):
        agent.learn(rollout(agent, seed))
    return agent


def matrices(agent: TicketsPPO) -> list[Tensor]:
    encoder = agent.network.encoder
    assert encoder is not None
    return [x.detach().clone() for x in encoder.parameters() if x.dim() > 1]


def test_the_largest_weights_of_each_layer_restart_from_their_first_values() -> None:
    whole = trained(3, round_updates=9)
    first, before, after = matrices(make()), matrices(whole), matrices(trained(3))
    for early, last, restarted in zip(first, before, after, strict=True):
        kept = restarted != 0
        assert kept.sum() == round(0.5 * early.numel())
        assert torch.equal(restarted[kept], early[kept])
        assert last[kept].abs().min() >= last[~kept].abs().max()
    biases = [
        [x for x in agent._encoder.parameters() if x.dim() == 1] for agent in (make(), trained(3))
    ]
    assert all(torch.equal(a, b) and a.any() for a, b in zip(*biases, strict=True))


def test_pruned_weights_stay_0_and_every_round_prunes_more() -> None:
    after = [trained(updates) for updates in (3, 4, 5, 12)]
    zeros = [[x == 0 for x in matrices(agent)] for agent in after]
    assert all(torch.equal(a, b) for a, b in zip(zeros[0], zeros[1], strict=True))
    assert all((b >= a).all() for a, b in zip(zeros[1], zeros[2], strict=True))
    sizes = [x.numel() for x in zeros[0]]
    shares = [sum(int(x.sum()) for x in each) / sum(sizes) for each in zeros]
    # There are two prunings and no third one.
    assert shares == pytest.approx([0.5, 0.5, 0.75, 0.75], abs=0.01)
    assert not all(torch.equal(a, b) for a, b in zip(matrices(after[0]), matrices(after[1]), strict=True))  # fmt: skip


def test_the_optimiser_begins_anew_with_each_round() -> None:
    agent = trained(2)
    assert agent.learn(rollout(agent, 2))["kept"] == pytest.approx(0.5, abs=0.01)
    assert not agent.optimizer.means.any()
    assert not agent.optimizer.squares.any()
    assert float(agent.optimizer.steps) == 0


def test_weights_restart_from_those_after_some_updates() -> None:
    early, restarted = matrices(trained(1)), matrices(trained(3, rewind_updates=1))
    for wanted, found in zip(early, restarted, strict=True):
        assert torch.equal(found[found != 0], wanted[found != 0])
    assert not torch.equal(early[0], matrices(make())[0])


def test_a_random_ticket_has_as_many_weights() -> None:
    random, largest = trained(3, criterion="random"), trained(3)
    for a, b in zip(matrices(random), matrices(largest), strict=True):
        assert (a == 0).sum() == (b == 0).sum()
        assert not torch.equal(a == 0, b == 0)


def test_another_agent_takes_the_ticket_and_not_the_trained_weights(tmp_path: Path) -> None:
    out = tmp_path / "ticket"
    words = f"--env MiniGrid-Empty-5x5-v0 --encoder {ENCODER} --envs 2 --rollout-steps 4 --hidden 8 --rounds 1 --round-updates 1 --updates 3"
    assert main(["run", "tickets-ppo", *words.split(), "--eval-episodes", "1", "--out", str(out)]) == 0  # fmt: skip
    spec = Spec(Box(0, 255, (7, 7, 3), np.uint8), Discrete(7))
    agent = PPO(PPOConfig(**{**SMALL, "encoder": ENCODER}), spec)
    load_pretrained(agent, str(out))
    source, _ = load_run(out)
    (taken,) = encoders_of(agent)
    assert same(taken.state_dict(), source.ticket.state_dict())
    assert not same(taken.state_dict(), source.network.encoder.state_dict())
    assert 0.6 < float(source._kept()) < 0.68


def test_a_network_that_is_given_is_where_weights_restart(tmp_path: Path) -> None:
    agent, given = make(), make(learning_rate=0.02)
    given.learn(rollout(given, 0))
    state = given.network.encoder
    assert state is not None
    for encoder in encoders_of(agent):
        encoder.load_state_dict(state.state_dict())
    wanted = matrices(agent)
    for seed in range(3):
        agent.learn(rollout(agent, seed))
    for early, found in zip(wanted, matrices(agent), strict=True):
        assert torch.equal(found[found != 0], early[found != 0])
    assert agent.ticket is not None
    assert same(agent.ticket.state_dict(), agent._encoder.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": None}, r"encoder is None and freeze is False, but tickets-ppo prunes an encoder that learns; give one"),
        ({"freeze": True}, r"freeze is True"),
        ({"encoder": "flatten"}, r"the encoder flatten has no weights that can be pruned; give another, such as one-hot-grid"),
        ({"encoder": "grod"}, r"there is no encoder 'grod'; did you mean grid"),
        ({"encoder": "classes:of=flatten"}, r"no matrices or kernels to prune"),
        ({"rewind_updates": 2}, r"rewind_updates is 2, but a round has 2 updates; give fewer"),
        ({"keep": 0.0}, r"keep is 0.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_pruned_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)
