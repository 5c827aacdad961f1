"""What a search found: by hand, and the sequences that agents keep."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlbench.agents import load_agent
from rlbench.architecture import Architecture, read_architecture
from rlbench.backbones.analyses._base import Findings
from rlbench.backbones.analyses.front import Front, FrontConfig
from rlbench.benchmarks.training.rollouts import RolloutDriver
from rlbench.envs.architectures.evaluate import Evaluation, Evaluator, Tokens
from rlbench.envs.architectures.objective import Objective
from rlbench.envs.architectures.search import ArchSearchEnv
from rlbench.envs.architectures.space import find_space
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.interface import Spec
from tests import searches

SPACE = find_space("mnas-nano")
FAST: Tokens = (0, 0, 0, 2, 1, 1) * 3
ALSO_FAST: Tokens = (0, 0, 0, 2, 1, 0, *FAST[6:])
"""The first block cannot lose its only layer."""
GOOD: Tokens = (1, *FAST[1:])
SLOW: Tokens = (2, *FAST[1:])
FAILED: Tokens = (3, *FAST[1:])
RESULTS = {
    FAST: Evaluation(0.5, 1.0, 10, 100, 2.0, test_accuracy=0.45),
    GOOD: Evaluation(0.6, 2.0, 20, 200, 3.0, test_accuracy=0.55),
    SLOW: Evaluation(0.55, 4.0, 30, 300, 4.0, test_accuracy=0.5),
    FAILED: Evaluation(None, None, status="diverged"),
}


class Known:
    def evaluate(self, batch: Sequence[Tokens]) -> list[Evaluation]:
        return [RESULTS[SPACE.canonical(tokens)] for tokens in batch]


class Trains(Known):
    """The accuracy of a network is its number of filters in percent."""

    def __init__(self) -> None:
        self.networks: list[Architecture] = []

    def evaluate_networks(self, networks: Sequence[Architecture]) -> list[Evaluation]:
        self.networks += networks
        return [Evaluation(network.blocks[0].filters / 100, 1.5) for network in networks]

    def close(self) -> None:
        pass


def analysed(
    tokens: Sequence[Tokens],
    best: int = 3,
    widths: tuple[float, ...] = (),
    evaluator: Evaluator | None = None,
) -> Findings:
    analysis = Front(FrontConfig(best=best, widths=widths))
    analysis.environment = lambda: ArchSearchEnv(SPACE, evaluator or Known(), Objective(2.0))
    agent = SimpleNamespace(sequences=SimpleNamespace(tokens=torch.tensor(tokens)))
    return analysis.analyse([agent], {})


def test_front_by_hand(tmp_path: Path) -> None:
    assert SPACE.canonical(ALSO_FAST) == FAST
    found = analysed([FAST, SLOW, ALSO_FAST, GOOD, FAILED, SLOW])
    fast, slow = 0.5 * 0.5**-0.07, 0.55 * 2**-0.07
    assert found.columns["tokens"].tolist() == [
        list(x) for x in (FAST, SLOW, FAST, GOOD, FAILED, SLOW)
    ]
    assert found.columns["number"].tolist() == [0, 1, 0, 2, 3, 1]
    np.testing.assert_allclose(
        found.columns["reward"], [fast, slow, fast, 0.6, 1e-3 * 4**-0.07, slow]
    )
    np.testing.assert_equal(found.columns["test_accuracy"], [0.45, 0.5, 0.45, 0.55, np.nan, 0.5])
    assert found.columns["on_front"].tolist() == [True, False, False, True, False, False]
    assert found.numbers == {
        "sequences": 6,
        "different architectures": 4,
        "target in ms": 2.0,
        "share above the target": 0.5,
        "standard deviation of log latency": pytest.approx(np.log([1, 4, 1, 2, 8, 4]).std()),
        "best reward": pytest.approx(0.6),
        "its accuracy": 0.6,
        "its test accuracy": 0.55,
        "its latency in ms": 2.0,
        "architectures on the front": 2,
        "hypervolume": pytest.approx((0.5 * 1 + 0.6 * 6) / 8),
    }
    trade_off, progress = found.panels
    (front,) = trade_off.lines
    assert (list(front.x), front.value.tolist()) == ([1.0, 2.0], [0.5, 0.6])
    by_sequences, by_architectures = progress.lines
    np.testing.assert_allclose(by_sequences.value, [fast, fast, fast, 0.6, 0.6, 0.6])
    np.testing.assert_allclose(by_architectures.value, [fast, fast, 0.6, 0.6])
    assert list(by_architectures.x) == [1, 2, 3, 4]
    for name, tokens in (("best-1", GOOD), ("best-2", FAST), ("best-3", SLOW)):
        file = tmp_path / f"{name}.json"
        file.write_text(str(found.files[file.name]))
        assert read_architecture(file) == SPACE.decode(tokens)
    assert len(found.files) == 3


def test_fewer_architectures_than_files() -> None:
    assert list(analysed([FAST, ALSO_FAST]).files) == ["best-1.json"]


def test_the_best_architecture_in_other_widths() -> None:
    evaluator, good = Trains(), SPACE.decode(GOOD).blocks[0]
    assert good.filters == 4
    found = analysed([FAST, GOOD], widths=(0.5, 3.0), evaluator=evaluator)
    assert [network.blocks[0].op for network in evaluator.networks] == [good.op] * 2
    assert found.numbers["width 3: accuracy"] == 0.12
    assert found.numbers["width 0.5: latency in ms"] == 1.5
    assert found.numbers["width 0.5: accuracy"] == 0.04, "no fewer than the rule of rounding allows"
    with pytest.raises(UserError, match="measured before, and none of other widths"):
        analysed([FAST, GOOD], widths=(0.5,))


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"widths are \(0.5, -1.0\); give numbers above 0"):
        FrontConfig(widths=(0.5, -1.0))
    with pytest.raises(UserError, match="best is 0; give 1 or more"):
        FrontConfig(best=0)
    with pytest.raises(UserError, match=r"object does not keep the architectures .* give a run of"):
        Front(FrontConfig()).analyse([object()], {})


def test_agents_keep_all_sequences_through_a_resume() -> None:
    task = Task("fake", searches.env, make_vector=searches.vector)
    kind = load_agent("nas-random")

    def made() -> tuple[RolloutDriver, object]:
        agent = kind(kind.Config(envs=2), Spec.of(searches.env()), seed=0)
        return RolloutDriver(agent, task, 0), agent

    driver, agent = made()
    proposed = []
    for _ in range(3):
        proposed.append(agent.proposals.clone())  # type: ignore[attr-defined]
        state = agent.state_dict()  # type: ignore[attr-defined]
        driver.update()
    assert torch.equal(agent.sequences.tokens, torch.cat(proposed))  # type: ignore[attr-defined]
    _, again = made()
    again.load_state_dict(state)  # type: ignore[attr-defined]
    assert torch.equal(again.sequences.tokens, torch.cat(proposed[:2]))  # type: ignore[attr-defined]
    assert (
        json.loads(json.dumps(state["sequences"]["tokens"].tolist()))
        == torch.cat(proposed[:2]).tolist()
    )
