"""`rlbench export`: exports the acting policy of a run for use without this suite.

    policy.pt     TorchScript: torch.jit.load("policy.pt")(obs)
    policy.onnx   ONNX: onnxruntime.InferenceSession("policy.onnx").run(None, {"obs": obs})
    policy.json   inputs, outputs and origin of the policy

Normalisation of observations and scaling of actions are included. An agent that acts randomly takes
standard normal noise as a second input, so that the caller controls the randomness.
"""

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from gymnasium.spaces import Discrete
from torch import Tensor, nn

from rlbench.benchmarks.training.faults import named_as_users
from rlbench.benchmarks.training.loading import load_run, refuse_other_than_agents
from rlbench.benchmarks.training.logged import curves_of
from rlbench.benchmarks.training.run_folder import RunFolder
from rlbench.benchmarks.training.versions import versions
from rlbench.benchmarks.zoo import output_folder
from rlbench.envs.contract import Checked
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.interface import Agent
from rlbench.meta_learner import MetaLearner
from rlbench.terminal import say
from rlbench.trust import TrustOption

CHECKED = 1_000
"""Observations on which an exported policy is compared with its agent."""
TOLERANCE = 1e-5
"""Largest difference allowed between their actions, in units of the action space."""
ROUNDING = 2e-6
"""Relative error of a float32 value after a few layers."""
MOST_TIES = CHECKED // 20
"""Largest number of ties. A trained BEAR had 9 in 1,000, with Q at 334 and a float32 spacing of 3e-5;
many more cannot be due to rounding."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")
"""Packages that write ONNX, translate to ONNX, and run it for the check."""


@dataclass(frozen=True)
class ExportConfig:
    """Export the acting policy of a run to TorchScript and ONNX, or the rule of a run of lpg-meta."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, or zoo:NAME."""
    out: Path | None = None
    """Folder to write to; by default `export` in the folder of the run."""
    trust: TrustOption = False


Inputs = tuple[Tensor, ...]


def make(options: ExportConfig) -> None:
    """Exports the policy, checks it and writes the files."""
    learner, task = load_run(options.run, trust=options.trust)
    folder = options.out or output_folder(options.run) / "export"
    if isinstance(learner, MetaLearner):
        written = learner.export(folder, _origin(options.run))
        say(f"{folder}: {', '.join(path.name for path in written)}")
        return
    _need_onnx()
    agent = refuse_other_than_agents(learner, options.run)
    inputs, expected = _example(agent, task)
    files, differences = {}, {}
    for name, export in (("policy.pt", _torchscript), ("policy.onnx", _onnx)):
        try:
            files[name], run = export(agent, inputs)
            exported = run(inputs)
        except UserError:
            raise
        except ModuleNotFoundError as error:
            raise UserError(
                f"this PyTorch needs other versions of ONNX ({error}); install them with "
                f"pip install --upgrade {' '.join(NEEDED)}"
            ) from error
        except Exception as error:  # PyTorch and ONNX each raise their own exceptions.
            raise UserError(
                f"{name} cannot be made of {type(agent).__name__} ({type(error).__name__}, see "
                "--debug); let its `decide` use only PyTorch, in the same way for every input"
            ) from error
        differences[name] = _compare(name, agent, inputs, expected, exported)
    for name, blob in files.items():
        write_atomically(folder / name, blob)
    text = json.dumps(_description(options.run, agent, task, differences), indent=1) + "\n"
    write_atomically(folder / "policy.json", text.encode())
    largest = max(difference.largest for difference in differences.values())
    say(f"{folder}: policy.pt, policy.onnx, policy.json")
    say(f"actions within {largest:.1g} of the agent's on {CHECKED:,} observations")


def _origin(path: Path) -> dict[str, Any]:
    """How an exported rule was made and what it scored, as plain JSON values."""
    folder = RunFolder(path)
    config = folder.config()
    return {
        "learner": config["learner"],
        "run": config["run"],
        "versions": config["versions"],
        "seconds": folder.seconds(),
        "scores": curves_of(folder.last_evaluation()),
    }


@dataclass(frozen=True)
class Difference:
    """Differences between exported actions and the agent's actions."""

    largest: float
    """Largest difference in units of the action space, over observations without ties."""
    ties: int
    """Observations for which rounding decides between two samples of equal value."""


def _compare(
    name: str, agent: Agent, inputs: Inputs, expected: Tensor, exported: Tensor
) -> Difference:
    """Compares actions, [B, A] or [B] each.

    Raises:
        UserError: They differ by more than rounding.
    """
    if exported.shape != expected.shape:
        raise UserError(
            f"{name} gives actions of shape {list(exported.shape)}, but its agent gives "
            f"{list(expected.shape)}; nothing was written; let its `decide` keep the batch dimension"
        )
    distance = (exported - expected).abs().float().reshape(len(expected), -1).amax(dim=1)
    ties = _ties(agent, inputs, expected, exported) & (distance > TOLERANCE)
    if ties.sum() <= MOST_TIES:
        distance = distance.masked_fill(ties, 0.0)
    if not (largest := float(distance.max())) <= TOLERANCE:
        raise UserError(
            f"{name} differs from its agent's actions by up to {largest:.2g}, but only {TOLERANCE:g} is "
            "allowed; nothing was written; please report this"
        )
    return Difference(largest, int(ties.sum()))


@torch.no_grad()
def _ties(agent: Agent, inputs: Inputs, expected: Tensor, exported: Tensor) -> Tensor:
    """Whether the agent's values of both actions are equal up to rounding, bool [B].

    Then the last bits of the values decide which of many samples is the best.
    """
    obs, noise = inputs[0], inputs[1] if len(inputs) > 1 else None
    one, other = (agent.acting_value(obs, actions, noise) for actions in (expected, exported))
    if one is None or other is None:
        return torch.zeros(len(obs), dtype=torch.bool)
    return torch.isclose(one, other, rtol=ROUNDING, atol=ROUNDING)


class _Rule(nn.Module):
    """`Agent.decide` as a module with the agent's parameters."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self._decide = agent.decide
        # Registered, because tracing would treat their weights as constants that require gradients.
        for name, value in vars(agent).items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)

    def forward(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        return self._decide(obs, noise)


def _example(agent: Agent, task: Task) -> tuple[Inputs, Tensor]:
    """Observations under random actions on the task, noise, and the agent's actions."""
    env = Checked(task.make(), task.name)
    env.action_space.seed(0)
    obs = env.reset(seed=0)
    seen = []
    for _ in range(CHECKED):
        seen.append(obs.astype(np.float32))
        obs, _, terminated, truncated = env.step(env.action_space.sample())
        if terminated or truncated:
            obs = env.reset()
    inputs: Inputs = (torch.from_numpy(np.stack(seen)),)
    if agent.acting_noise is not None:
        # The same random numbers as in `act` with this seed.
        generator = torch.Generator().manual_seed(0)
        inputs += (torch.randn(CHECKED, *agent.acting_noise, generator=generator),)
    agent.act_generator.manual_seed(0)
    with named_as_users(type(agent)):
        return inputs, agent.act(inputs[0]).action


def _torchscript(agent: Agent, inputs: Inputs) -> tuple[bytes, Callable[[Inputs], Tensor]]:
    """The archive, and a function that runs it."""
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch advises torch.export, whose archives need Python to run.
        warnings.simplefilter("ignore", DeprecationWarning)
        rule, few = _Rule(agent).eval(), _few(inputs)
        traced = torch.jit.freeze(torch.jit.trace(rule, few, check_trace=False))
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
        again = torch.jit.load(io.BytesIO(buffer.getvalue()))
    return buffer.getvalue(), lambda given: again(*given)


def _onnx(agent: Agent, inputs: Inputs) -> tuple[bytes, Callable[[Inputs], Tensor]]:
    """The model, and a function that runs it."""
    import onnx
    import onnxruntime

    names = ["obs", "noise"][: len(inputs)]
    batch = {0: torch.export.Dim("batch")}
    for chatty in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        file = Path(folder) / "policy.onnx"
        torch.onnx.export(
            _Rule(agent).eval(), _few(inputs), file, input_names=names, output_names=["action"],
            dynamic_shapes=(batch,) * len(inputs), dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip
        model = onnx.load(file)
    for node in model.graph.node:
        del node.metadata_props[:]  # Source locations and paths of this machine.
    blob = model.SerializeToString()
    session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])

    def run(given: Inputs) -> Tensor:
        fed = {name: x.numpy() for name, x in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    return blob, run


def _few(inputs: Inputs) -> Inputs:
    """Two rows for the export; the check uses many rows to show that any batch size works."""
    return tuple(x[:2] for x in inputs)


def _description(
    run: Path, agent: Agent, task: Task, differences: dict[str, Difference]
) -> dict[str, Any]:
    inputs = {"obs": ["batch", *(agent.spec.observation_space.shape or ())]}
    if agent.acting_noise is not None:
        inputs["noise"] = ["batch", *agent.acting_noise]
    return {
        "agent": type(agent).__name__,
        "task": task.name,
        "run": run.resolve().name,
        "dtype": "float32",
        "inputs": inputs,
        "outputs": {"action": ["batch", *(agent.spec.action_space.shape or ())]},
        "action_dtype": "int64" if isinstance(agent.spec.action_space, Discrete) else "float32",
        "noise": "standard normal, drawn anew for each call" if "noise" in inputs else None,
        "difference_from_the_agent": {name: asdict(x) for name, x in differences.items()},
        "versions": versions() | {name: version(name) for name in NEEDED},
    }


def _need_onnx() -> None:
    for name in NEEDED:
        try:
            import_module(name)
        except ModuleNotFoundError:
            raise UserError(
                f"exporting needs {name}; install it with pip install 'rlbench[export]'"
            ) from None
