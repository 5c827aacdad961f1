"""The page of guarantees: each of them names tests, and each of these tests exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/guarantees.md").read_text()


def test_each_guarantee_names_tests_that_exist() -> None:
    guarantees = re.findall(r"^- (?:.+\n)+?(?=^- |^\n)", PAGE, re.MULTILINE)
    assert len(guarantees) > 15
    for guarantee in guarantees:
        named = re.findall(r"`(tests/\S+\.py)::(\w+)`", guarantee)
        assert named, f"no test of: {guarantee}"
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"
