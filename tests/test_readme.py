"""The README is right: its code runs as it stands there, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def command(name: str) -> str:
    """The command below the comment `<!-- name command -->`."""
    match = re.search(rf"<!-- {name} command -->\n```bash\n(.+)\n```", README)
    assert match, f"README.md has no {name} command"
    return match[1]


def rlbench(words: str, folder: Path) -> str:
    """Runs `rlbench ...` in a folder."""
    assert words.startswith("rlbench ")
    done = subprocess.run(
        [sys.executable, "-m", *words.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_own_environment_and_an_own_data_set_train_as_the_readme_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, re.DOTALL)
    assert [name for name, _ in blocks] == ["my_world.py", "record.py", "train.py"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            [sys.executable, name], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "my.hdf5").exists()
    told = rlbench(command("own"), tmp_path)
    assert "done: return" in told


def test_the_first_command_runs(tmp_path: Path) -> None:
    install, _, run = command("run").partition(" && ")
    assert install == "pip install ."
    # As in the README but for its length.
    short = re.sub(r"--updates \d+ --data-size \d+", "--updates 20 --data-size 2000", run)
    assert short != run
    assert "done: score" in rlbench(f"{short} --eval-episodes 1", tmp_path)


def test_ci_runs_exactly_the_test_command() -> None:
    assert command("test") == "pip install -e '.[dev]' && make check"
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])  # fmt: skip
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        if not target.startswith("http"):
            assert (file.parent / target).exists(), f"{page} links to {target}"
