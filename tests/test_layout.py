"""The layout of the repository is part of its interface: packages, links, doors, file sizes."""

import ast
import graphlib
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
ROOMS = ("agents", "backbones", "benchmarks", "envs", "offline_data")
SOURCES = [
    file for room in (*ROOMS, "rlbench") for file in (ROOT / room).rglob("*.py")
    if not any(part.is_symlink() for part in file.parents)
]  # fmt: skip

CORE = {"rlbench"}
LAZY = {ROOT / "rlbench" / "cli.py", ROOT / "rlbench" / "__init__.py"}
"""Files whose functions may import `benchmarks`."""
MAY_IMPORT: dict[str, set[str]] = {
    "rlbench": set(),
    "rlbench.accelerate": CORE,
    "rlbench.envs": {"rlbench.envs.architectures", "rlbench.envs.examples"} | CORE,
    "rlbench.backbones": CORE,
    "rlbench.backbones.layers": {"rlbench.backbones"} | CORE,
    "rlbench.backbones.encoders": {"rlbench.backbones", "rlbench.backbones.layers"} | CORE,
    "rlbench.backbones.memories": {
        "rlbench.backbones", "rlbench.backbones.layers", "rlbench.backbones.encoders",
    } | CORE,
    "rlbench.backbones.heads": {
        "rlbench.backbones", "rlbench.backbones.layers", "rlbench.backbones.encoders",
        "rlbench.backbones.memories",
    } | CORE,
    "rlbench.backbones.models": {
        "rlbench.backbones", "rlbench.backbones.layers", "rlbench.backbones.encoders",
        "rlbench.backbones.memories", "rlbench.backbones.heads",
    } | CORE,
    "rlbench.backbones.analyses": {"rlbench.backbones", "rlbench.backbones.layers"} | CORE,
    "rlbench.envs.architectures": {
        "rlbench.envs", "rlbench.envs.examples", "rlbench.backbones", "rlbench.backbones.layers",
        "rlbench.backbones.encoders",
    } | CORE,
    "rlbench.envs.examples": {"rlbench.envs"} | CORE,
    "rlbench.agents": {
        "rlbench.backbones", "rlbench.backbones.layers", "rlbench.backbones.encoders",
        "rlbench.backbones.memories", "rlbench.backbones.heads",
    } | CORE,
    "rlbench.offline_data": {"rlbench.envs", "rlbench.envs.examples", "rlbench.agents"} | CORE,
}  # fmt: skip
"""Package to those that it may import beside itself; `benchmarks` imports everything."""
MAY_IMPORT["rlbench.benchmarks"] = set(MAY_IMPORT)


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
    here = _package(_module(file))
    for node, inside_function in _imports(ast.parse(file.read_text())):
        for name in _names(node):
            package = _package(name)
            if file in LAZY and inside_function:
                assert package in {"rlbench.benchmarks", "rlbench"}
            else:
                assert package == here or package in MAY_IMPORT[here], f"{file} imports {name}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {_module(file): file for file in SOURCES}
    graph = {}
    for module, file in files.items():
        reached = set()
        for node, inside_function in _imports(ast.parse(file.read_text())):
            if not inside_function:
                for name in _names(node):
                    found = name if name in files else name.rpartition(".")[0]
                    reached |= {found} & files.keys() - {module}
        graph[module] = reached
    tuple(graphlib.TopologicalSorter(graph).static_order())  # Raises CycleError.


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_functions_import_exists(file: Path) -> None:
    # `mypy` does not see a module that was moved out of a package with a `__getattr__`.
    modules = {_module(file) for file in SOURCES}
    for node, inside_function in _imports(ast.parse(file.read_text())):
        for name in _names(node) if inside_function else ():
            package, _, last = name.rpartition(".")
            assert name in modules or hasattr(import_module(package), last), f"no {name}"


def test_the_door_test_sees_a_forbidden_import() -> None:
    tree = ast.parse(
        "def f():\n    from rlbench.benchmarks.training.runner import Run\nimport rlbench.envs"
    )
    seen = [(_package(name), inside) for node, inside in _imports(tree) for name in _names(node)]
    assert sorted(seen) == [("rlbench.benchmarks", True), ("rlbench.envs", False)]


def _module(file: Path) -> str:
    """The dotted name of a source file."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "rlbench" else ("rlbench", *parts))
    return name.removesuffix(".__init__")


def _package(module: str) -> str:
    """The package of a module, by the names of `MAY_IMPORT`."""
    return max((x for x in MAY_IMPORT if f"{module}.".startswith(f"{x}.")), key=len)


def _imports(tree: ast.AST, inside: bool = False) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, inside))
        found += _imports(node, inside or isinstance(node, ast.FunctionDef) or _for_types(node))
    return found


def _for_types(node: ast.AST) -> bool:
    """Whether a block is for type checkers and never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """What an import statement takes from the project, by its whole name."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.partition(".")[0] == "rlbench"]
