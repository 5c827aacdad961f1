"""What is released: the source distribution and the wheel, their contents, and the files about the project."""

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from rlbench import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_FOR_USERS = {"all", "crosscheck", "dev", "docs"}
LARGEST = 3_000_000
"""Bytes of the largest file of the wheel, the weights of a behaviour policy."""


def run(*words: str, cwd: Path, **options: object) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution and the wheel that is made from it, from the files that git knows."""
    folder = tmp_path_factory.mktemp("release")
    run("git", "clone", "--quiet", str(ROOT), str(folder / "source"), cwd=folder)
    run(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"),
        cwd=folder / "source",
    )  # fmt: skip
    return folder / "dist"


@pytest.mark.slow
def test_the_descriptions_of_both_files_are_valid(built: Path) -> None:
    files = sorted(built.iterdir())
    assert [x.name.rpartition(".")[2] for x in files] == ["whl", "gz"]
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, files), cwd=built)


@pytest.mark.slow
def test_the_wheel_has_all_packages_and_nothing_that_only_developers_need(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        sizes = {x.filename: x.file_size for x in content.infolist()}
    tops = {name.split("/")[0] for name in sizes}
    assert tops == {"rlbench", f"rlbench-{__version__}.dist-info"}
    assert not [x for x in sizes if x.startswith(("rlbench/tests", "rlbench/docs"))]
    assert max(sizes.values()) < LARGEST
    zoo = "rlbench/benchmarks/zoo/trained/"
    results = [x for x in sizes if x.endswith(".json") and not x.startswith(zoo)]
    assert sum(sizes[x] for x in results) < 200_000
    tracked = run("git", "ls-files", "agents", "backbones", "benchmarks", "envs", "offline_data", "rlbench", cwd=ROOT)  # fmt: skip
    links = {"agents", "backbones", "benchmarks", "envs", "offline_data"}
    expected = {
        x if x.startswith("rlbench/") else f"rlbench/{x}"
        for x in tracked.split()
        if x.removeprefix("rlbench/") not in links
    }
    missing = expected - sizes.keys()
    assert not missing, f"the wheel lacks {sorted(missing)[:5]}"


@pytest.mark.slow
def test_the_source_distribution_builds_without_the_repository(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as content:
        names = {x.partition("/")[2] for x in content.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "agents/bear.py", "rlbench/cli.py"} <= names


@pytest.mark.slow
def test_the_wheel_alone_trains_an_agent(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    bin_folder = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(bin_folder / "python")
    env = {
        "PATH": str(bin_folder),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    words = ("-m", "pip", "install", "--quiet", "--no-deps", str(wheel))
    run(python, *words, cwd=tmp_path, env=env)
    # The dependencies are those of this environment, but not its rlbench.
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(python, "-c", asked, cwd=tmp_path, env=env).strip())
    others = [x for x in sys.path if x.endswith("site-packages")]
    (own / "others.pth").write_text("\n".join(others), encoding="utf-8")
    where = run(python, "-c", "import rlbench; print(rlbench.__file__)", cwd=tmp_path, env=env)
    assert Path(where.strip()).is_relative_to(tmp_path)
    bear = "run bear --env point-mixed --data-size 1000 --updates 5 --hidden 8 --vae-hidden 8 --eval-episodes 2 --out run"
    assert "kept in run" in run(python, "-m", "rlbench", *bear.split(), cwd=tmp_path, env=env)


def test_all_extras_for_users_are_in_one() -> None:
    extras = PROJECT["optional-dependencies"]
    (given,) = extras["all"]
    found = re.fullmatch(r"rlbench\[(.+)\]", given)
    assert found is not None
    assert found[1].split(",") == sorted(extras.keys() - NOT_FOR_USERS)


def test_the_citation_has_the_version_and_a_valid_form() -> None:
    pytest.importorskip("check_jsonschema")
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}" in text
    assert f"license: {PROJECT['license']}" in text


def test_the_workflow_is_valid_and_tests_the_oldest_supported_python() -> None:
    pytest.importorskip("check_jsonschema")
    file = ROOT / ".github" / "workflows" / "check.yml"
    run(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file),
        cwd=ROOT,
    )  # fmt: skip
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f'python: ["{oldest}"' in file.read_text(encoding="utf-8")
