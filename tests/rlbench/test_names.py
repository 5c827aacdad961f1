"""Tables of names: what a name stands for, names of packages, and names that nothing has."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlbench import names
from rlbench.errors import UserError
from rlbench.names import NameTable

TABLE = NameTable(
    "measure",
    "rlbench",
    {
        "plain": ("measures:Measure", "a number"),
        "return": ("measures:RETURN", "what agents are scored by"),
        "lost": ("measures:Lost", "not there"),
    },
    group="rlbench.test",
)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages that register names, one of which is taken."""
    points = [
        EntryPoint("own", "rlbench.errors:UserError", "rlbench.test"),
        EntryPoint("plain", "rlbench.errors:Diverged", "rlbench.test"),
    ]
    monkeypatch.setattr(
        names, "registered", lambda group: points if group == "rlbench.test" else []
    )


def refused(name: str, table: NameTable = TABLE) -> str:
    with pytest.raises(UserError) as error:
        table.load(name)
    return str(error.value)


def test_a_name_stands_for_an_attribute_of_a_module_of_the_package() -> None:
    from rlbench.measures import RETURN, Measure

    assert TABLE.load("plain") is Measure
    assert TABLE.load("return") is RETURN
    assert TABLE.place("return") == "rlbench.measures:RETURN"
    assert TABLE["return"] == "what agents are scored by"
    assert list(TABLE) == ["plain", "return", "lost"]
    assert (len(TABLE), "plain" in TABLE, "own" in TABLE) == (3, True, False)


@pytest.mark.usefixtures("plugins")
def test_only_custom_names_are_looked_up_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a package that lies in a stranger's folder would count as installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("plain", "own"):
        TABLE.load(name)
        assert str(tmp_path) not in sys.path
    TABLE.load("rlbench.errors:UserError")
    assert str(tmp_path) in sys.path


def test_a_place_stands_for_itself() -> None:
    assert TABLE.load("rlbench.errors:UserError") is UserError
    assert TABLE.place("a.b:C") == "a.b:C"


def test_names_of_packages_come_first_and_never_replace_built_in_ones(plugins: None) -> None:
    assert list(TABLE) == ["own", "plain", "return", "lost"]
    assert len(TABLE) == 4
    assert TABLE.load("own") is UserError
    assert TABLE["own"] == "from rlbench.errors"
    assert TABLE.place("plain") == "rlbench.measures:Measure"
    assert TABLE["plain"] == "a number"


def test_the_package_of_a_name_is_shown(plugins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="far", value="far:Away", dist=SimpleNamespace(name="far-away"))
    monkeypatch.setattr(names, "registered", lambda group: [point])
    assert TABLE["far"] == "from far-away"


def test_a_table_without_a_group_asks_no_package(plugins: None) -> None:
    table = NameTable("measure", "rlbench", {"plain": ("measures:Measure", "a number")})
    assert list(table) == ["plain"]


def test_an_unknown_name_is_refused_with_those_like_it(plugins: None) -> None:
    told = refused("Retrun")
    assert told.startswith("there is no measure 'Retrun'; did you mean return? `rlbench list`")
    assert "package.module:Class names a custom one" in told
    assert "did you mean own?" in refused("ownn")
    assert "did you mean" not in refused("zzz")
    assert "did you mean further?" in TABLE.unknown("furthr", ["further"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:Thing", r"cannot import the module 'no_such_module' \(ModuleNotFound"),
        ("rlbench.errors:Thing", "'Thing' in the module 'rlbench.errors' is missing; expected"),
        ("lost", "'Lost' in the module 'rlbench.measures' is missing"),
        (":Thing", r"cannot import the module '' \(ValueError: Empty module name\)"),
        (".errors:Thing", r"cannot import the module '.errors' \(TypeError"),
        ("broken:Thing", r"cannot import the module 'broken' \(ZeroDivisionError: division by"),
        ("leaves:Thing", r"cannot import the module 'leaves' \(SystemExit: 3\)"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, words: str, in_folder: Path) -> None:
    Path("broken.py").write_text("1 / 0\n")
    Path("leaves.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UserError, match=rf"measure '{name}': {words}"):
        TABLE.load(name)


def test_what_a_module_says_it_needs_is_passed_on(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("needy.py").write_text(
        "from rlbench.errors import UserError\nraise UserError('needs wood')\n"
    )
    monkeypatch.syspath_prepend(str(in_folder))
    assert refused("needy:Thing") == "needs wood"


def test_modules_of_the_current_folder_are_found_where_python_does_not_look(
    in_folder: Path,
) -> None:
    """A console script looks in its own folder."""
    Path("mine_alone.py").write_text("class Thing: pass\n")
    code = (
        f"import sys; sys.path[:] = [{str(Path(__file__).parents[2])!r}, *sys.path[1:]]\n"
        "from rlbench.names import NameTable\n"
        "print(NameTable('thing', 'rlbench', {}).load('mine_alone:Thing').__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "Thing\n", done.stderr


def test_the_module_of_an_attribute_is_found() -> None:
    assert TABLE.module_of("RETURN") == "rlbench.measures"
    assert TABLE.module_of("ETURN") is None


def test_packages_are_searched_again_only_if_a_folder_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    def search(group: str) -> tuple[EntryPoint, ...]:
        searched.append(group)
        return ()

    monkeypatch.setattr(names, "entry_points", search)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "none")
    for _ in range(3):
        assert names.registered("rlbench.test") == ()
    assert searched == ["rlbench.test"]
    assert names.registered("rlbench.other") == ()
    (tmp_path / "installed.py").touch()
    os.utime(tmp_path, (1, 1))  # Some file systems count in whole seconds.
    assert names.registered("rlbench.test") == ()
    assert searched == ["rlbench.test", "rlbench.other", "rlbench.test"]
