"""A table reuses only runs with the current settings, and lists settings that are not the defaults."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlbench.agents import BC
from rlbench.agents.bcq import PROFILES as BCQ_PROFILES
from rlbench.agents.bear import PROFILES as BEAR_PROFILES
from rlbench.agents.ibac_sni import PROFILES as IBAC_PROFILES
from rlbench.benchmarks.papers import PAPERS, bear, ibac_sni, load_paper
from rlbench.benchmarks.tables import defaults
from rlbench.benchmarks.tables.jobs import Job, execute
from rlbench.benchmarks.tables.paper import Grid, Method
from rlbench.benchmarks.tables.results import Results, read_result
from rlbench.benchmarks.tables.settings import settings_sections
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.learners import load_learner
from rlbench.errors import UserError
from tests import run_files

SHORT: dict[str, Any] = {"updates": 4, "data_size": 300, "eval_every": 0, "eval_episodes": 1}
SMALL: dict[str, Any] = {"hidden": (4,), "batch_size": 4}


def job_in(folder: Path) -> Job:
    return Job("bc", SMALL, RunConfig(env="point-random", out=folder, **SHORT))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A finished job."""
    made = job_in(tmp_path / "bc")
    assert execute(made).error == ""
    return made


def edit(job: Job, change: Callable[[dict[str, Any]], object]) -> None:
    run_files.edit(job.folder, change)


def test_a_run_with_other_unnamed_settings_is_not_reused(job: Job) -> None:
    assert job.complete()
    edit(job, lambda x: x["learner"]["settings"].update(learning_rate=0.5))
    with pytest.raises(UserError, match=r"holds another run: learning_rate is 0\.5, not"):
        job.complete()
    assert "learning_rate is 0.5" in execute(job).error


def test_a_run_of_another_preset_is_not_reused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BC, "preset", classmethod(lambda *_: {"learning_rate": 0.25}))
    with pytest.raises(UserError, match=r"learning_rate is \S+, not 0\.25"):
        job.complete()
    named = dataclasses.replace(job, settings={**SMALL, "learning_rate": BC.Config().learning_rate})
    assert named.complete()  # An explicit setting overrides a preset.


def test_a_setting_added_after_a_run_counts_as_its_default(job: Job) -> None:
    edit(job, lambda x: x["learner"]["settings"].pop("learning_rate"))
    assert job.complete()
    other = dataclasses.replace(job, settings={**SMALL, "learning_rate": 0.5})
    with pytest.raises(UserError, match=r"learning_rate is \S+, not 0\.5"):
        other.complete()


def test_a_run_with_a_removed_setting_is_not_reused(job: Job) -> None:
    edit(job, lambda x: x["learner"]["settings"].update(momentum=0.9))
    with pytest.raises(UserError, match="it has momentum, which this version does not have"):
        job.complete()


def without_torch(job: Job) -> str:
    """What `complete` returns in a new process, and whether that loaded PyTorch."""
    code = (
        "import sys; from pathlib import Path; from rlbench.benchmarks.tables.jobs import Job\n"
        "from rlbench.benchmarks.training.config import RunConfig\n"
        f"config = RunConfig(env='point-random', out=Path({str(job.folder)!r}), **{SHORT!r})\n"
        f"try: said = Job('bc', {SMALL!r}, config).complete()\n"
        "except Exception as error: said = str(error)\n"
        "print(said, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_all_settings_are_compared_without_pytorch(job: Job) -> None:
    assert without_torch(job) == "True False"
    edit(job, lambda x: x["learner"]["settings"].update(learning_rate=0.5))
    assert "learning_rate is 0.5" in (said := without_torch(job))
    assert said.endswith("False")


def test_after_a_change_of_the_code_the_agent_is_loaded_again(job: Job) -> None:
    file = job.folder / defaults.FILE
    kept = json.loads(file.read_text())
    assert defaults._kept(job.folder) == job.defaults()
    for text in (json.dumps(kept | {"code": "of another day"}), "{", "[]", "{}"):
        file.write_text(text)
        assert defaults._kept(job.folder) is None
    file.unlink()
    assert defaults._kept(job.folder) is None
    assert job.complete()


def test_each_file_that_defines_settings_counts_as_code(monkeypatch: pytest.MonkeyPatch) -> None:
    read, found = [], Path.read_bytes

    def reading(self: Path) -> bytes:
        read.append(self)
        return found(self)

    monkeypatch.setattr(Path, "read_bytes", reading)
    defaults._code.__wrapped__()
    names = {"/".join(path.parts[-3:]) for path in read}
    assert {"rlbench/agents/bear.py", "backbones/encoders/resnet.py"} <= names


def test_defaults_of_a_plug_in_are_not_stored_because_its_code_is_not_hashed(
    tmp_path: Path,
) -> None:
    defaults.keep(tmp_path, "tests.benchmarks.test_table_settings:PlugIn", "point-random", 10)
    assert not (tmp_path / defaults.FILE).exists()
    defaults.keep(tmp_path, "bear", "halfcheetah-medium", 1_000)
    kept = json.loads((tmp_path / defaults.FILE).read_text())
    assert kept["settings"]["kernel"] == "gaussian"
    assert kept["settings"]["warmup_updates"] == 80
    assert (kept["fields"]["kernel"], kept["fields"]["warmup_updates"]) == ("laplacian", 40_000)


class PlugIn(BC):
    """An agent that is not part of the suite."""


def test_a_table_says_which_settings_are_not_the_defaults(job: Job) -> None:
    wide = Method("wide", "bc", {"hidden": (4,), "batch_size": 256, "learning_rate": 0.01})
    grid = Grid((Method("bc", "bc", SMALL), wide), ("point-random",), 1, SHORT)
    folder = job.folder.parent
    for name, each in grid.jobs(folder):
        assert execute(each).error == "", name
    results = Results(read_result(name, each.folder) for name, each in grid.jobs(folder))
    (section,) = settings_sections(grid, folder, results)
    assert section.title == "Settings that are not the defaults of `rlbench run` on point-random"
    # 256 is the default; how often a run is evaluated decides nothing.
    assert section.rows == [
        ["all methods", "hidden=(4,), data_size=300, updates=4, eval_episodes=1"],
        ["bc", "batch_size=4"],
        ["wide", "learning_rate=0.01"],
    ]
    assert settings_sections(grid, folder, Results([])) == []


def resolved(job: Job) -> Any:
    agent = load_learner(job.learner)
    return agent.Config(**{**agent.preset(job.config.env, job.config.updates), **job.settings})


@pytest.mark.parametrize("name", list(PAPERS))
@pytest.mark.parametrize("scale", ["small", "full"])
def test_two_methods_of_a_table_never_have_the_same_settings(name: str, scale: Any) -> None:
    seen: dict[Any, str] = {}
    for method, job in load_paper(name).jobs(scale, Path()):
        if job.config.seed == 0:
            config = job.config
            run = (config.env, config.data_size, config.updates, config.pretrained)
            key = (job.learner, run, resolved(job))
            assert seen.setdefault(key, method) == method
    assert seen


def test_settings_in_tables_match_the_profiles_of_the_agents() -> None:
    assert BEAR_PROFILES["d4rl"] == bear.D4RL_RELEASE
    assert BCQ_PROFILES["authors"] == bear.BCQ_AUTHORS
    assert IBAC_PROFILES["multiroom"] == ibac_sni.AUTHORS


def test_the_full_table_of_bear_has_the_authors_behaviour_model() -> None:
    sizes = {
        method: resolved(job).vae_hidden
        for method, job in load_paper("bear").jobs("full", Path())
        if job.config.env == "hopper-medium" and job.learner in ("bear", "bcq")
    }
    assert sizes == dict.fromkeys(("BEAR", "BEAR-KL", "BCQ"), (750, 750))


def test_on_coinrun_only_the_method_none_has_no_weight_decay() -> None:
    found = {
        method: resolved(job)
        for method, job in load_paper("ibac-sni").jobs("full", Path())
        if job.config.env == "coinrun"
    }
    assert {method for method, x in found.items() if x.weight_decay == 0} == {"none"}
    assert {x.weight_decay for method, x in found.items() if method != "none"} == {1e-4}
    assert {method for method, x in found.items() if x.slow_mask} == {"dropout-SNI"}
