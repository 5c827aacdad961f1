"""The stand-in for PyTorch: the same help, without importing PyTorch."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlbench import cli
from rlbench.agents import AGENTS, META_LEARNERS
from rlbench.backbones.models import MODELS

ALL = sorted([*AGENTS, *META_LEARNERS, *MODELS])
SOME = ["bear", "dqn", "lpg-meta", "pose-mrf", "rfm-returns", "sb3-ppo", "smooth-adversarial"]
SCRIPT = """
import contextlib, io, json, sys
from rlbench import cli
from rlbench.stand_in import without_torch
found = {}
with without_torch():
    for name in sys.argv[1:]:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            cli._run([name, "--help"])
        found[name] = out.getvalue()
    assert not hasattr(sys.modules["torch"], "__version__")
assert "torch" not in sys.modules and "rlbench.interface" not in sys.modules
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "names", [SOME, pytest.param(ALL, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_the_help_is_the_same_as_with_pytorch(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], capture_output=True, text=True, check=True
    )
    for name, text in json.loads(done.stdout).items():
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
            cli._run([name, "--help"])
        assert text == out.getvalue()
        assert "--updates" in text


def run(folder: Path, *words: str) -> str:
    code = f"import sys; from rlbench.cli import main; sys.exit(main({list(words)!r}))"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    imported = any(x.rpartition("|")[2].strip() == "torch._C" for x in done.stderr.splitlines())
    return done.stdout + (" PyTorch was imported" if imported else "")


@pytest.mark.parametrize("words", ["run bear", "tune td3", "evaluate", "table", "zoo import"])
def test_help_does_not_import_pytorch(words: str, tmp_path: Path) -> None:
    text = run(tmp_path, *words.split(), "--help")
    assert text.startswith(f"usage: rlbench {words}")
    assert "PyTorch was imported" not in text


def test_help_imports_pytorch_if_custom_code_needs_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from rlbench.agents.bc import BC\n"
        "assert torch.zeros(2).sum() == 0\n"
        "class Mine(BC):\n"
        "    pass\n"
    )
    text = run(tmp_path, "run", "mine:Mine", "--help")
    assert text.startswith("usage: rlbench run mine:Mine")
    assert text.endswith("PyTorch was imported")


def test_defaults_that_depend_on_pytorch_are_the_real_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "import torch\n"
        "from rlbench.agents.bc import BC, BCConfig\n"
        "@dataclass(frozen=True)\n"
        "class Settings(BCConfig):\n"
        "    place: str = 'here' if torch.zeros(1).sum() == 1 or torch.is_tensor(0) else 'there'\n"
        "class Mine(BC):\n"
        "    Config = Settings\n"
    )
    assert "there" in run(tmp_path, "run", "mine:Mine", "--help")


def test_a_package_that_needs_pytorch_is_imported_again_as_a_whole(tmp_path: Path) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("import torch\n")
    (package / "sizes.py").write_text("SIZE = 3\n")
    (package / "agents.py").write_text(
        "import mine.sizes\n"
        "import torch\n"
        "from rlbench.agents.bc import BC\n"
        "assert torch.zeros(mine.sizes.SIZE).sum() == 0\n"
        "class Mine(BC):\n"
        "    pass\n"
    )
    assert run(tmp_path, "run", "mine.agents:Mine", "--help").startswith("usage: rlbench run mine")


def test_help_is_printed_once_whatever_a_module_contains(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import sys\n"
        "from rlbench.agents.bc import BC\n"
        "class Proxy:\n"
        "    @property\n"
        "    def __class__(self):\n"
        "        raise RuntimeError('used too early')\n"
        "proxy = sys.modules['proxy'] = Proxy()\n"
        "class Mine(BC):\n"
        "    pass\n"
    )
    text = run(tmp_path, "run", "mine:Mine", "--help")
    assert text.count("usage:") == 1
    assert "PyTorch was imported" not in text


def test_a_setting_with_the_name_of_an_option_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clashing.py").write_text(
        "from dataclasses import dataclass\n"
        "from rlbench.agents.bc import BC, BCConfig\n"
        "@dataclass(frozen=True)\n"
        "class Settings(BCConfig):\n"
        "    threads: int = 1\n"
        "class Mine(BC):\n"
        "    Config = Settings\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["run", "clashing:Mine", "--env", "point-mixed"]) == 2
    assert "has a setting 'threads', which is an option of every run" in capsys.readouterr().err
