"""The layout of the repository is part of its interface: packages, links, doors, file sizes."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
ROOMS = ("agents", "backbones", "benchmarks", "envs", "offline_data")
SOURCES = [
    file for room in (*ROOMS, "rlbench") for file in (ROOT / room).rglob("*.py")
    if not any(part.is_symlink() for part in file.parents)
]  # fmt: skip

MAY_IMPORT = {
    "benchmarks": {"agents", "envs", "offline_data", "backbones", "accelerate", "rlbench"},
    "offline_data": {"envs", "agents", "rlbench"},
    "envs": {"rlbench"},
    "agents": {"backbones", "rlbench"},
    "backbones": {"rlbench"},
    "rlbench": set[str](),
    "accelerate": {"rlbench"},
}
"""Package to those that it may import beside itself. `accelerate` is `rlbench/accelerate`."""


def test_every_package_is_listed() -> None:
    found = set()
    for name, folder in SETUP["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            rest = init.parent.relative_to(ROOT / folder).parts
            if name != "rlbench" or not {*rest} & {*ROOMS}:
                found.add(".".join((name, *rest)))
    assert found == set(SETUP["packages"])


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_linked_into_the_import_root(room: str) -> None:
    link = ROOT / "rlbench" / room
    if link.is_symlink():  # a zip or a Windows checkout has no links, and works without them
        assert link.resolve() == ROOT / room


def test_sources_are_found() -> None:
    assert {file.relative_to(ROOT).parts[0] for file in SOURCES} == {*ROOMS, "rlbench"}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_through_the_doors(file: Path) -> None:
    here = _package(file)
    for node, inside_function in _imports(ast.parse(file.read_text())):
        for room in _rooms_of(node):
            if here == "rlbench" and file.name == "cli.py" and inside_function:
                assert room in {"benchmarks", "rlbench"}
            else:
                assert room == here or room in MAY_IMPORT[here], f"{file} imports {room}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400


def test_the_door_test_sees_a_forbidden_import() -> None:
    tree = ast.parse(
        "def f():\n    from rlbench.benchmarks.training.runner import Run\nimport rlbench.envs"
    )
    seen = [(room, inside) for node, inside in _imports(tree) for room in _rooms_of(node)]
    assert sorted(seen) == [("benchmarks", True), ("envs", False)]


def _package(file: Path) -> str:
    """The package of a file, by the names of `MAY_IMPORT`."""
    first, second, *_ = (*file.relative_to(ROOT).parts, "")
    return second if second in MAY_IMPORT else first


def _imports(tree: ast.AST, inside: bool = False) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, inside))
        found += _imports(node, inside or isinstance(node, ast.FunctionDef))
    return found


def _rooms_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Rooms of our own that an import statement enters."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    rooms = []
    for name in names:
        if match := re.match(r"rlbench(?:\.(\w+))?", name):
            rooms.append(match[1] if match[1] in MAY_IMPORT else "rlbench")
    return rooms
