"""`rlbench export`: the acting policy of a run for use without this suite.

    policy.pt     TorchScript: torch.jit.load("policy.pt")(obs)
    policy.onnx   ONNX: onnxruntime.InferenceSession("policy.onnx").run(None, {"obs": obs})
    policy.json   inputs, outputs and where the policy comes from

Normalisation of observations and scaling of actions are inside. An agent whose acting is random takes
its standard normal noise as a second input, so that the caller decides the randomness.
"""

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from rlbench.benchmarks.runner import load_run
from rlbench.benchmarks.versions import versions
from rlbench.envs.tasks import Task
from rlbench.errors import UserError
from rlbench.files import write_atomically
from rlbench.interface import Agent

CHECKED = 1_000
"""Observations on which an exported policy is compared with its agent."""
TOLERANCE = 1e-5
"""By how much their actions may differ, in units of the action space."""
ROUNDING = 2e-6
"""Relative error of a float32 value that came through a few layers."""


@dataclass(frozen=True)
class ExportConfig:
    """Write the acting policy of a run as TorchScript and ONNX."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    out: Path | None = None
    """Folder to write to; by default `export` in the folder of the run."""


Inputs = tuple[Tensor, ...]


def make(asked: ExportConfig) -> None:
    """Exports, checks, writes."""
    _need_onnx()
    agent, task = load_run(asked.run)
    inputs, expected = _example(agent, task)
    files, differences = {}, {}
    for name, (blob, run) in (
        ("policy.pt", _torchscript(agent, inputs)),
        ("policy.onnx", _onnx(agent, inputs)),
    ):
        files[name], differences[name] = blob, _compare(name, agent, inputs, expected, run(inputs))
    folder = asked.out or asked.run / "export"
    for name, blob in files.items():
        write_atomically(folder / name, blob)
    text = json.dumps(_description(asked.run, agent, task, differences), indent=1) + "\n"
    write_atomically(folder / "policy.json", text.encode())
    largest = max(difference.largest for difference in differences.values())
    print(f"{folder}: policy.pt, policy.onnx, policy.json")
    print(f"actions within {largest:.1g} of the agent's on {CHECKED:,} observations")


@dataclass(frozen=True)
class Difference:
    """How far exported actions are from those of the agent."""

    largest: float
    """In units of the action space, over the observations that are no ties."""
    ties: int
    """Observations where rounding decides between two samples that the agent likes equally."""


def _compare(
    name: str, agent: Agent, inputs: Inputs, expected: Tensor, exported: Tensor
) -> Difference:
    """Compares actions, [B, A] each.

    Raises:
        UserError: They differ by more than rounding.
    """
    distance = (exported - expected).abs().amax(dim=1)
    ties = _ties(agent, inputs[0], expected, exported) & (distance > TOLERANCE)
    distance = distance.masked_fill(ties, 0.0)
    if not (largest := float(distance.max())) <= TOLERANCE:
        raise UserError(
            f"{name} would act up to {largest:.2g} away from its agent, more than {TOLERANCE:g} is "
            "allowed; nothing was written, please report this"
        )
    return Difference(largest, int(ties.sum()))


@torch.no_grad()
def _ties(agent: Agent, obs: Tensor, expected: Tensor, exported: Tensor) -> Tensor:
    """Where the agent values both actions alike up to rounding, bool [B].

    The best of many samples jumps from one to another where the last bits of their values decide.
    """
    one, other = (agent.acting_value(obs, actions) for actions in (expected, exported))
    if one is None or other is None:
        return torch.zeros(len(obs), dtype=torch.bool)
    return torch.isclose(one, other, rtol=ROUNDING, atol=ROUNDING)


class _Rule(nn.Module):
    """`Agent.decide` as a module, whose parameters are the agent's."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self._decide = agent.decide
        # Registered, or tracing would take their weights for constants that want gradients.
        for name, value in vars(agent).items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)

    def forward(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        return self._decide(obs, noise)


def _example(agent: Agent, task: Task) -> tuple[Inputs, Tensor]:
    """Observations of random actions on the task with noise, and what the agent does there."""
    env = task.make()
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    seen = []
    for _ in range(CHECKED):
        seen.append(np.asarray(obs, np.float32))
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            obs, _ = env.reset()
    inputs: Inputs = (torch.from_numpy(np.stack(seen)),)
    if agent.acting_noise is not None:
        # The very draws that `act` makes after the same seed.
        generator = torch.Generator().manual_seed(0)
        inputs += (torch.randn(CHECKED, *agent.acting_noise, generator=generator),)
    agent.act_generator.manual_seed(0)
    return inputs, agent.act(inputs[0]).action


def _torchscript(agent: Agent, inputs: Inputs) -> tuple[bytes, Callable[[Inputs], Tensor]]:
    """The archive, and what runs it."""
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch advises torch.export, whose archives need Python to run.
        warnings.simplefilter("ignore", DeprecationWarning)
        few = tuple(x[:2] for x in inputs)
        traced = torch.jit.freeze(torch.jit.trace(_Rule(agent).eval(), few, check_trace=False))
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
        again = torch.jit.load(io.BytesIO(buffer.getvalue()))
    return buffer.getvalue(), lambda given: again(*given)


def _onnx(agent: Agent, inputs: Inputs) -> tuple[bytes, Callable[[Inputs], Tensor]]:
    """The model, and what runs it."""
    import onnxruntime

    names = ["obs", "noise"][: len(inputs)]
    batch = {0: torch.export.Dim("batch")}
    for chatty in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        file = Path(folder) / "policy.onnx"
        torch.onnx.export(
            _Rule(agent).eval(), inputs, file, input_names=names, output_names=["action"],
            dynamic_shapes=(batch,) * len(inputs), dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip
        blob = file.read_bytes()
    session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])

    def run(given: Inputs) -> Tensor:
        fed = {name: x.numpy() for name, x in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    return blob, run


def _description(
    run: Path, agent: Agent, task: Task, differences: dict[str, Difference]
) -> dict[str, Any]:
    inputs = {"obs": ["batch", *(agent.spec.observation_space.shape or ())]}
    if agent.acting_noise is not None:
        inputs["noise"] = ["batch", *agent.acting_noise]
    return {
        "agent": type(agent).__name__,
        "task": task.name,
        "run": run.name,
        "dtype": "float32",
        "inputs": inputs,
        "outputs": {"action": ["batch", *(agent.spec.action_space.shape or ())]},
        "noise": "standard normal, drawn anew for each call" if "noise" in inputs else None,
        "difference_from_the_agent": {name: asdict(x) for name, x in differences.items()},
        "versions": versions(),
    }


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"exporting needs {error.name}; install it with pip install 'rlbench[export]'"
        ) from None
