"""Pages of the documentation site that are not files of docs/: start page, source files and API reference."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".yml": "yaml"}
API = {
    "api/use.md": (
        "Runs in Python",
        {"rlbench": "load results", "rlbench.benchmarks.training.acting": "Actor"},
    ),
    "api/learners.md": (
        "Learners",
        {
            "rlbench.interface": "Learner Agent Model Spec Action",
            "rlbench.meta_learner": "MetaLearner",
            "rlbench.measures": "Measure",
        },
    ),
    "api/experience.md": (
        "Experience",
        {"rlbench.experience": "Transitions Trajectories Examples Lifetimes LifetimesSpec"},
    ),
    "api/tasks.md": (
        "Tasks and data",
        {
            "rlbench.envs.tasks": "find_task Task",
            "rlbench.envs.examples._base": "Source",
            "rlbench.offline_data.opening": "open_data",
            "rlbench.offline_data.dataset": "DataSet Provenance",
            "rlbench.offline_data.formats.hdf5": "write_hdf5",
        },
    ),
    "api/networks.md": (
        "Encoders and memories",
        {
            "rlbench.backbones.encoders": "make_encoder",
            "rlbench.backbones.encoders._base": "Kind Encoder",
            "rlbench.backbones.memories": "make_memory",
            "rlbench.backbones.memories._base": "Memory",
        },
    ),
    "api/analyses.md": (
        "Analyses",
        {"rlbench.backbones.analyses._base": "Analysis Findings Panel Line Moments"},
    ),
    "api/papers.md": (
        "Papers",
        {
            "rlbench.benchmarks.tables.paper": "Paper Grid Method Claim Verdict Figure AnalysisGrid Recording"
        },
    ),
    "api/logging.md": (
        "Callbacks and loggers",
        {
            "rlbench.callbacks": "Callback Progress",
            "rlbench.benchmarks.loggers._base": "Logger LoggedRun",
        },
    ),
    "api/files.md": (
        "Checkpoints and errors",
        {
            "rlbench.checkpoint": "save load",
            "rlbench.state": "capture restore",
            "rlbench.files": "write_atomically",
            "rlbench.errors": "UserError",
        },
    ),
}
"""Path of each page of the API reference, its title, and the names that it describes, by module."""


def start() -> dict[str, str]:
    """The start page, from the README's beginning and its picture, and an overview, from the README's other sections."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first, mark, others = text.partition("\n## What is included\n")
    picture = re.search(r"^!\[.*\)$", others, re.MULTILINE)
    if not mark or not picture:
        raise ValueError("README.md has no section `What is included`, or no picture below it")
    return {
        "index.md": f"{first}\n{picture[0]}\n\n{NEXT}",
        "overview.md": f"# Overview\n{mark}{others}",
    }


NEXT = """\
## Where to go next

- [Tutorials](docs/tutorials/offline.md): from a first run to a paper's table, in eight short steps.
- [Agents and models](docs/agents.md), each with its equations, a command and a learning curve.
- [Environments](docs/environments.md) and [data](docs/data.md) to train on.
- [What holds and what does not](docs/claims.md): the claims of all papers, with our verdicts.
- [Commands](docs/commands.md), and everything else in the [overview](README.md#what-is-included).
"""


def source(file: Path) -> str:
    """A page with the text of a file of the repository."""
    text = file.read_text(encoding="utf-8").rstrip("\n")
    # A fence longer than any in the file, such as those in docstrings.
    fence = "`" * (1 + max(map(len, re.findall("`{3,}", text)), default=3))
    language = LANGUAGES.get(file.suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {file.relative_to(ROOT)}\n\n{fence}{language}\n{text}\n{fence}\n"


def reference() -> dict[str, str]:
    """The pages of the API reference; mkdocstrings fills them from docstrings."""
    return {
        path: "\n\n".join(
            [
                f"# {title}",
                *(
                    f"::: {module}.{name}"
                    for module, names in modules.items()
                    for name in names.split()
                ),
                "",
            ]
        )
        for path, (title, modules) in API.items()
    }
