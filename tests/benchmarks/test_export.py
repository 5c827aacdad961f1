"""`rlbench export`: TorchScript and ONNX act as the agent, or nothing is written."""

import json
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlbench.benchmarks.commands import export
from rlbench.benchmarks.commands.export import ExportConfig, Inputs
from rlbench.benchmarks.tables.jobs import Job, execute
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.loading import load_run
from rlbench.cli import main
from rlbench.errors import UserError
from rlbench.interface import Action, Agent, State
from tests.agents.case import HIGH, LOW, MEAN, STD, make
from tests.agents.test_every_agent import train

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

BY_HAND: dict[str, tuple[str, dict[str, Any]]] = {
    "bc": ("bc", {}),
    "bc likelihood": ("bc", {"policy": "tanh-gaussian"}),
    "bear": ("bear", {"act_samples": 7}),
    "sac": ("sac", {}),
    "td3": ("td3", {}),
}
CASES = BY_HAND | {
    "awac": ("awac", {}),
    "awr": ("awr", {}),
    "bcq": ("bcq", {}),
    "brac": ("brac", {}),
    "cql": ("cql", {}),
    "crr": ("crr", {}),
    "crr argmax": ("crr", {"act_mode": "argmax-q", "layers": "residual", "critic": "categorical"}),
    "crr mixture": ("crr", {"policy": "mixture"}),
    "iql": ("iql", {}),
    "td3-bc": ("td3-bc", {}),
}


def inputs(agent: Agent, rows: int) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    given: Inputs = (3 * torch.randn(rows, 2, generator=generator),)
    if agent.acting_noise is not None:
        noise = torch.Generator().manual_seed(5)
        given += (torch.randn(rows, *agent.acting_noise, generator=noise),)
    return given


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    config = RunConfig(env="point-random", out=folder, updates=20, data_size=300, eval_episodes=2)
    settings = {"hidden": (8,), "vae_hidden": (8,), "batch_size": 8, "act_samples": 4}
    assert execute(Job("bear", settings, config)).error == ""
    return folder


@pytest.mark.parametrize("case", CASES)
def test_what_acts_is_what_is_exported(case: str) -> None:
    name, settings = CASES[case]
    agent = train(make(name, **settings), 5)
    given = inputs(agent, 6)
    agent.act_generator.manual_seed(5)
    expected = agent.act(given[0]).action
    torch.testing.assert_close(agent.decide(*given), expected, atol=0, rtol=0)


@pytest.mark.parametrize("case", BY_HAND)
def test_the_acting_rules_by_hand(case: str) -> None:
    name, settings = BY_HAND[case]
    agent: Any = train(make(name, **settings), 5)
    given = inputs(agent, 6)
    net = agent.policy if case in ("bc", "td3") else agent.policy.net
    seen = (given[0] - MEAN) / (STD + 1e-3) if name == "bc" else given[0]
    unit = net(seen)[:, :2].tanh()  # Log standard deviations follow the means.
    if name == "bear":
        mean, log_std = net(seen).split(2, dim=1)
        for row in range(6):
            samples = (mean[row] + log_std[row].clamp(-5, 2).exp() * given[1][row]).tanh()
            critic = agent.critic.members[0]
            values = [critic(torch.cat([seen[row], sample])).item() for sample in samples]
            unit[row] = samples[values.index(max(values))]
    low, high = torch.from_numpy(LOW), torch.from_numpy(HIGH)
    expected = low + (unit + 1) / 2 * (high - low)
    torch.testing.assert_close(agent.decide(*given), expected)


@pytest.mark.parametrize(
    ("case", "form"),
    [
        *((case, "_torchscript") for case in CASES),
        *(pytest.param(case, "_onnx", marks=pytest.mark.slow) for case in CASES),
    ],
)
def test_exported_policies_act_as_their_agent_in_batches_of_any_size(case: str, form: str) -> None:
    name, settings = CASES[case]
    agent = train(make(name, **settings), 5)
    _, acts = getattr(export, form)(agent, inputs(agent, 3))
    for rows in (1, 2, 50):
        given = inputs(agent, rows)
        agent.act_generator.manual_seed(5)
        expected = agent.act(given[0]).action
        torch.testing.assert_close(acts(given), expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """Once for all tests: PyTorch takes seconds to load its exporter."""
    folder = run.parent / "to"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch deprecates TorchScript, but not to our user.
        assert main(["export", str(run), "--out", str(folder)]) == 0
    return folder


def test_a_run_is_exported_with_its_description(exported: Path) -> None:
    told = json.loads((exported / "policy.json").read_text())
    assert told["inputs"] == {"obs": ["batch", 2], "noise": ["batch", 4, 2]}
    assert told["outputs"] == {"action": ["batch", 2]}
    assert (told["agent"], told["task"], told["run"]) == ("BEAR", "point-random", "run")
    differences = told["difference_from_the_agent"].values()
    assert all(each["largest"] <= 1e-5 for each in differences)
    assert told["versions"]["torch"] == torch.__version__
    assert told["versions"]["onnx"] == onnx.__version__


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
def test_both_files_act_as_the_agent(run: Path, exported: Path) -> None:
    agent, _ = load_run(run)
    session = onnxruntime.InferenceSession(str(exported / "policy.onnx"))
    assert [x.name for x in session.get_inputs()] == ["obs", "noise"]
    script: Any = torch.jit.load(str(exported / "policy.pt"))
    for rows in (1, 2, 50):
        obs, noise = inputs(agent, rows)
        agent.act_generator.manual_seed(5)
        expected = agent.act(obs).action
        torch.testing.assert_close(script(obs, noise), expected, atol=1e-5, rtol=0)
        theirs = session.run(["action"], {"obs": obs.numpy(), "noise": noise.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(theirs), expected, atol=1e-5, rtol=0)


def test_a_model_does_not_tell_where_it_was_made(exported: Path) -> None:
    here = str(Path(export.__file__).parent.parent).encode()
    assert here not in (exported / "policy.onnx").read_bytes()


def exact(agent: Agent, given: Inputs) -> tuple[bytes, Any]:
    return b"a good export", lambda x: agent.decide(*x).detach()


@pytest.mark.parametrize(
    ("acts", "sentence"),
    [
        (lambda x, good: good(x) + 2e-5, r"from its agent.s actions by up to .*e-05"),
        (lambda x, good: good(x)[:2], r"gives actions of shape \[2, 2\], but its agent gives"),
        (lambda x, good: 1 / 0, r"cannot be made of BEAR \(ZeroDivisionError, see --debug\)"),
        (lambda x, good: import_module("onnx.none"), r"pip install --upgrade onnx onnxscript onnx"),
    ],
)
@pytest.mark.parametrize("form", ["_torchscript", "_onnx"])
def test_a_policy_that_acts_otherwise_is_refused_and_nothing_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, acts: Any, sentence: str
) -> None:
    monkeypatch.setattr(export, "_torchscript", exact)
    monkeypatch.setattr(export, "_onnx", exact)
    export.make(ExportConfig(run, tmp_path / "good"))
    assert (tmp_path / "good" / "policy.onnx").read_bytes() == b"a good export"

    def off(agent: Agent, given: Inputs) -> Any:
        blob, good = exact(agent, given)
        return blob, lambda x: acts(x, good)

    monkeypatch.setattr(export, form, off)
    with pytest.raises(UserError, match=sentence):
        export.make(ExportConfig(run, tmp_path / "to"))
    assert not (tmp_path / "to").exists()


def test_not_a_number_is_refused() -> None:
    agent, actions = make("sac"), torch.zeros(3, 2)
    with pytest.raises(UserError, match="actions by up to nan"):
        export._compare("x", agent, inputs(agent, 3), actions, actions * torch.nan)


class Likes(Agent):
    """Values an action by its first number."""

    def __init__(self) -> None:
        pass

    def act(self, obs: Tensor, *, explore: bool = False, state: State | None = None) -> Action:
        raise AssertionError

    def learn(self, experience: Any) -> dict[str, Tensor]:
        raise AssertionError

    def acting_value(self, obs: Tensor, action: Tensor, noise: Tensor | None) -> Tensor:
        return action[:, 0]


def test_only_samples_of_equal_value_are_ties() -> None:
    given, expected = (torch.zeros(3, 1),), torch.tensor([[300.0, 0.0]]).repeat(3, 1)
    alike = expected + torch.tensor([[0.0, 0.0], [2e-4, 0.7], [0.0, 0.5]])
    assert export._compare("x", Likes(), given, expected, alike) == export.Difference(0.0, 2)
    better = expected + torch.tensor([[0.0, 0.0], [0.1, 0.7], [0.0, 0.5]])
    with pytest.raises(UserError, match="actions by up to"):
        export._compare("x", Likes(), given, expected, better)
    sac = make("sac")
    with pytest.raises(UserError, match="actions by up to"):
        export._compare("x", sac, inputs(sac, 3), expected, alike)


def test_many_ties_are_no_accident() -> None:
    expected = torch.zeros(1000, 2)
    few, many = expected.clone(), expected.clone()
    few[:50, 1] = many[:51, 1] = 0.5
    given = (torch.zeros(1000, 1),)
    assert export._compare("x", Likes(), given, expected, few) == export.Difference(0.0, 50)
    with pytest.raises(UserError, match=r"actions by up to 0\.5"):
        export._compare("x", Likes(), given, expected, many)


def test_an_agent_without_decide_is_refused_in_one_sentence() -> None:
    agent = make("recurrent-crr")  # It has an `act` of its own.
    with pytest.raises(UserError, match="RecurrentCRR cannot be exported; give it a method `decid"):
        export._torchscript(agent, inputs(agent, 3))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_sentence(
    run: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"exporting needs {package}; install it with pip install"):
        export.make(ExportConfig(run))
