"""Writes docs/agents.md, docs/commands.md, docs/claims.md and, in docs/agents/, a page for each built-in learner.

    python -m docs.make_pages

Run it from the root of a checkout, with the extra `dev`, after changing a docstring, a setting or a results file.
The pages come from the docstrings of modules and settings, from the evaluations in docs/results/, from the tables of claims on the
pages of papers, and from the measures of short runs in docs/agents/curves.json, which `python -m docs.make_curves` makes.
`tests/test_pages.py` checks that the committed pages are up to date.
"""

import inspect
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from docs import zoo_page
from docs.draw_curves import draw
from docs.make_curves import built_in, kept_curves
from docs.make_reference import BAR, claims, commands
from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.models import MODELS
from rlbench.benchmarks.commands.options import field_docs
from rlbench.benchmarks.tables.summary import called, collect, score
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.formats import measures_of
from rlbench.benchmarks.training.learners import load_learner
from rlbench.interface import Learner
from rlbench.names import NameTable

DOCS = Path(__file__).parent
RENEW = "python -m docs.make_pages"

OFFLINE = "--env point-mixed --data-size 20000 --updates 1000"
EXAMPLES = {
    "a2c": "--env CartPole-v1 --updates 1000",
    "blobs": "--env objects-minigrid-s16",
    "born-again": "--env digits --data-size 300 --cycle-updates 100 --updates 300",
    "classifier": "--env digits --encoder resnet:units=1,width=8 --updates 200",
    "count-ppo": "--env multiroom-n2 --encoder one-hot-grid --levels 11 --no-quantise --envs 16 --rollout-steps 128 --batch-size 256 --updates 10",
    "contrastive": "--env digit-grids-9 --updates 400",
    "cql": "--env point-mixed --data-size 20000 --updates 200",
    "dance": "--env motion-pairs:halfcheetah --data-size 125 --updates 300",
    "debiasing": "--env scenes-85 --pretrain-updates 200 --updates 400",
    "dqn": "--env CartPole-v1 --updates 6000",
    "fedavg": "--env digit-clients-iid --updates 50",
    "facenet": "--env glyph-sets --encoder conv4:width=16 --updates 200",
    "ibac-sni": "--env multiroom-n1 --updates 10",
    "imitation-ppo": "--env follow-humanoid --reward procrustes --envs 16 --rollout-steps 60 --batch-size 240 --discount 0.8 --updates 60",
    "language-model": "--env missions-unlabelled --updates 500",
    "lpg": "--env CartPole-v1 --updates 200",
    "lpg-meta": "--env grid-levels-small --lifetimes 16 --hidden 32 --updates 50",
    "mixmatch": "--env digits-labelled-20 --updates 500",
    "nas": "--env archsearch-digits-shift",
    "nas-evolution": "--env archsearch-digits-shift",
    "nas-local": "--env archsearch-digits-shift",
    "nas-random": "--env archsearch-digits-shift",
    "nearest": "--env glyph-episodes",
    "nerfies": "--env captures:humanoid --bands 5 --samples 24 --rays 512 --learning-rate 1e-2 --elastic-weight 0.03 --updates 300",
    "nearest-frame": "--env motion-pairs:halfcheetah",
    "novelty-ppo": "--env MiniGrid-DoorKey-5x5-v0 --encoder one-hot-grid --bonus-encoder one-hot-grid --envs 16 --rollout-steps 128 --updates 20",
    "one-shot": "--env glyph-episodes --memory lstm --updates 500",
    "pose-mrf": "--env frames-mujoco-clutter:halfcheetah --detector-updates 300 --spatial-updates 100 --updates 600",
    "pose-nearest": "--env poses:humanoid",
    "pixelcnn": "--env digits --levels 17 --width 16 --layers 4 --condition label --learning-rate 3e-3 --updates 300",
    "ppo": "--env CartPole-v1 --updates 20",
    "pr-vipe": "--env poses:humanoid --encoder pose:width=256 --samples 3 --batch-size 96 --updates 300",
    "pretext": "--env views-mujoco:halfcheetah --objective depth --updates 300",
    "prototypical": "--env glyph-sets --encoder conv4:width=16 --updates 200",
    "recurrent-ppo": "--env CartPole-v1 --updates 20",
    "rfm": "--env stag-hunt --updates 200",
    "rfm-predictor": "--env episodes-stag-hunt --updates 500",
    "rfm-returns": "--env episodes-stag-hunt --updates 500",
    "sac": "--env Pendulum-v1 --updates 1000",
    "sb3-a2c": "--env CartPole-v1 --updates 1000",
    "sb3-dqn": "--env CartPole-v1 --updates 1000",
    "sb3-ppo": "--env CartPole-v1 --updates 10",
    "sb3-sac": "--env Pendulum-v1 --updates 1000",
    "sb3-td3": "--env Pendulum-v1 --updates 1000",
    "segmenter": "--env frames-minigrid-s48 --encoder resnet:units=1,width=8 --updates 200",
    "sequence-classifier": "--env missions --updates 300",
    "mask-rcnn": "--env objects-minigrid-s16 --updates 300",
    "proposals": "--env objects-minigrid-s16 --updates 300",
    "smooth-adversarial": "--env digits --encoder conv4:layers=2,width=16,norm=gn --updates 300",
    "ssd": "--env objects-minigrid-s16 --updates 300",
    "supermask": "--env digits --updates 300",
    "td3": "--env Pendulum-v1 --updates 1000",
    "vq-vae": "--env frames-minigrid-s64 --data-size 1000 --width 32 --code-size 16 --blocks 1 --batch-size 16 --updates 200",
    "style-network": "--env photographs --updates 200",
    "style-ppo": "--env minigrid-empty-5 --encoder nature --updates 4 --rollout-steps 64",
    "success-ppo": "--env minigrid-empty-5 --encoder nature --reward-encoder classes:of=mlp/units=8 --updates 4 --rollout-steps 64",
    "tickets-ppo": "--env MiniGrid-Empty-Random-6x6-v0 --rounds 1 --round-updates 2 --updates 4 --rollout-steps 64",
    "tickets": "--env digits --data-size 300",
    "vib": "--env signals-2 --data-size 2048 --updates 200",
}
"""Arguments of `rlbench run NAME` on its page, for a run of about a minute; `OFFLINE` for the others."""


def pages() -> dict[Path, str]:
    """The text of every generated page and picture."""
    index = f"""{_generated("agents/ and backbones/models/")}
# Agents and models

`rlbench run NAME --env TASK` trains any of them; each page has a command to start with.

{_index("agent", AGENTS)}

Models learn from labelled examples and are scored on examples that they have not seen:

{_index("model", MODELS)}

A meta-learner learns how agents should learn, over many lifetimes in parallel:

{_index("meta-learner", META_LEARNERS)}

Register your own under the entry point `rlbench.agents` or `rlbench.models`, or name it as `package.module:Class`;
see [the interface](../rlbench/interface.py).
"""
    learners = [
        (name, table) for table in (AGENTS, META_LEARNERS, MODELS) for name in built_in(table)
    ]
    made = {DOCS / "agents" / f"{name}.md": _page(name, table) for name, table in learners}
    pictures = {DOCS / "agents" / f"{x}.svg": draw(x, kept) for x, kept in kept_curves().items()}
    reference = {
        DOCS / "commands.md": f"{_generated('the settings')}\n{commands()}",
        DOCS / "zoo.md": f"{_generated('benchmarks/zoo/')}\n{zoo_page.page()}",
        DOCS / "claims.md": f"{_generated('docs/papers/ and docs/results.md')}\n{claims()}",
    }
    return {DOCS / "agents.md": index} | made | pictures | reference


def _index(title: str, table: NameTable) -> str:
    rows = [f"| [`{name}`](agents/{name}.md) | {table[name]} |" for name in built_in(table)]
    return "\n".join([f"| {title} | in one line |", "|---|---|", *rows])


def _page(name: str, table: NameTable) -> str:
    learner = load_learner(name)
    module = table.place(name).partition(":")[0]
    source = module.removeprefix("rlbench.").replace(".", "/") + ".py"
    return f"""{_generated(source)}
# {name}

{inspect.getdoc(inspect.getmodule(learner))}

Source: [{source}](../../{source})

## Example

```bash
rlbench run {name} {EXAMPLES.get(name, OFFLINE)}
```
{_run_defaults(learner)}{_curve(name)}
## Settings

Fields of `{learner.Config.__name__}`; on the command line, `learning_rate` is `--learning-rate`.

| setting | default | meaning |
|---|---|---|
{_settings(learner.Config)}
{_derived(learner)}{_results(name)}"""


def _derived(learner: type[Learner]) -> str:
    """What `rlbench run` sets by itself, in the words of the learner's `preset`; empty if it has none."""
    words = inspect.getdoc(learner.preset) or ""
    if words == inspect.getdoc(Learner.preset):
        return ""
    return f"\n`rlbench run` chooses some settings from the task and the number of updates, unless they are given: {words[0].lower()}{words[1:]}\n"


def _generated(source: str) -> str:
    return f"<!-- Generated from {source} by `{RENEW}`; do not edit. -->\n"


def _run_defaults(learner: type[Learner]) -> str:
    if not learner.run:
        return ""
    flags = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in learner.run.items())
    return f"\nRun defaults of its own: `{flags}`.\n"


def _curve(name: str) -> str:
    """The section with the learning curve of the short runs and their command; empty if there is none."""
    kept = kept_curves().get(name)
    if kept is None:
        return ""
    first, *others = kept["seeds"]
    learner = load_learner(name)
    episodes = learner.run.get("eval_episodes", RunConfig.eval_episodes)
    measured = "all test examples" if name in MODELS else f"{episodes} {learner.measured}"
    return f"""
## Learning curve

![{kept["seeds"][first]["measure"].capitalize()} of {name} over updates]({name}.svg)

This is a short example on a small task, with settings chosen by hand so that it learns quickly; it is not a benchmark.
Thin lines are seeds {" and ".join(kept["seeds"])}; the thick line is their mean.
Each evaluation uses {measured}; the numbers are in [curves.json](curves.json).

```bash
{kept["command"]} --seed {first}   # and {", ".join(others)}
```
"""


def _settings(config: type) -> str:
    """A row for each field of a settings class."""
    rows, meanings, types = [], field_docs(config), get_type_hints(config)
    for field in fields(config):
        meaning = meanings[field.name]
        if get_origin(types[field.name]) is Literal:
            meaning += f" One of {', '.join(f'`{x}`' for x in get_args(types[field.name]))}."
        default = _shown(getattr(config(), field.name))
        rows.append(f"| `{field.name}` | `{default}` | {meaning.replace('|', BAR)} |")
    return "\n".join(rows)


def _shown(value: Any) -> str:
    """A default as it is written on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(_shown, value)) or "()"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _results(name: str) -> str:
    """Mean final scores of an agent in docs/results/; empty if there are none."""
    rows = "\n".join(sorted(row for agent, row in _scores() if agent == name))
    if not rows:
        return ""
    return f"""
## Results

Mean score of the last evaluation over seeds, ± standard deviation, on `generated` data, which are not D4RL's.
[results.md](../results.md) explains what the scores show; commands and settings are in [how they were measured](../how/results.md).

| task | method | hidden layers | updates | seeds | score | every return |
|---|---|---|---|---|---|---|
{rows}
"""


@cache
def _scores() -> list[tuple[str, str]]:
    """Agent and row for each method and task of every results file; only complete, scored runs."""
    found = []
    for file in sorted((DOCS / "results").glob("*.json")):
        runs = collect([file])
        groups: dict[tuple[str, str], list[float]] = {}
        for method, run in zip(called(runs), runs, strict=True):
            last = score(run, float(np.mean(run["evaluations"][measures_of(run)[0].name][-1])))
            if last is None or run["evaluations"]["update"][-1] != run["run"]["updates"]:
                continue
            assert run["data"]["kind"] == "generated"
            layers = " ".join(map(str, run["learner"]["settings"]["hidden"]))
            cells = f"| {run['run']['env']} | {method} | {layers} | {run['run']['updates']:,} |"
            groups.setdefault((run["learner"]["name"], cells), []).append(last)
        for (agent, cells), scores in groups.items():
            spread = f" ± {np.std(scores):.1f}" if len(scores) > 1 else ""
            row = f"{cells} {len(scores)} | {np.mean(scores):.1f}{spread} |"
            found.append((agent, f"{row} [{file.stem}](../results/{file.name}) |"))
    return found


def main() -> None:
    """Writes pages and pictures, and removes pages and pictures of names that no longer exist."""
    texts = pages()
    (DOCS / "agents").mkdir(exist_ok=True)
    for old in {*(DOCS / "agents").glob("*.md"), *(DOCS / "agents").glob("*.svg")} - set(texts):
        old.unlink()
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
