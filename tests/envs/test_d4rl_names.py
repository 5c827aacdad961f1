"""D4RL's names, addresses, files and folder, and what the catalogue says of them."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest

from rlbench.envs.d4rl.names import ENVIRONMENTS, LEVELS, D4RLName, parse, short_names
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data import check_data, data_info, list_data, open_data
from rlbench.offline_data.formats import d4rl
from rlbench.offline_data.recording import policy_cards as cards
from tests.data_files import recording, write

NAMES = [
    D4RLName(family, level, version)
    for version in range(3)
    for family in ENVIRONMENTS
    for level in (*LEVELS, *(["full-replay"] if version else []))
]


def test_the_table_holds_the_files_of_all_names_and_no_others() -> None:
    files = {d4rl.published(name).path for name in NAMES}
    assert files == set(d4rl._table())
    assert len(files) == len(NAMES) == 68
    assert all(re.fullmatch("[0-9a-f]{64}", d4rl.published(name).sha256) for name in NAMES)
    assert all(d4rl.name_of(d4rl.published(name).sha256) == name for name in NAMES)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("hopper-medium", "gym_mujoco_v2/hopper_medium-v2.hdf5"),
        ("ant-medium-expert-v1", "gym_mujoco_v1/ant_medium_expert-v1.hdf5"),
        ("halfcheetah-random-v0", "gym_mujoco/halfcheetah_random.hdf5"),
        ("hopper-medium-replay-v0", "gym_mujoco/hopper_mixed.hdf5"),
        ("walker2d-medium-replay-v0", "gym_mujoco/walker_mixed.hdf5"),
        ("walker2d-full-replay-v2", "gym_mujoco_v2/walker2d_full_replay-v2.hdf5"),
    ],
)
def test_addresses(name: str, path: str) -> None:
    parsed = parse(name)
    assert parsed is not None
    url = "http://rail.eecs.berkeley.edu/datasets/offline_rl/" + path
    assert d4rl.url_of(parsed) == url
    assert d4rl.target(parsed) == d4rl.folder() / Path(urlparse(url).path).name


def test_files_are_found_in_d4rls_own_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = D4RLName("hopper", "medium")
    assert d4rl.local_file(name) is None
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    (tmp_path / "hopper_medium-v2.hdf5").touch()
    assert d4rl.local_file(name) == tmp_path / "hopper_medium-v2.hdf5"
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert d4rl.folder() == tmp_path / ".d4rl" / "datasets"


def test_a_missing_d4rl_file_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match="`rlbench data get hopper-medium-v0` downloads it"):
        open_data(find_task("hopper-medium-v0"), "d4rl")


def test_auto_prefers_d4rls_own_file() -> None:
    target = d4rl.target(D4RLName("hopper", "medium"))
    target.parent.mkdir(parents=True)
    write(target, recording([(3, "terminal")]))  # of three numbers instead of eleven
    with pytest.raises(UserError, match=r"\[3, 3\].*hopper-medium.*\[3, 11\]"):
        open_data(find_task("hopper-medium"))


def test_the_list_shows_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cards, "POLICIES", tmp_path)
    rows = {row.name: row for row in list_data()}
    assert list(rows)[:20] == short_names()
    assert rows["point-mixed"].generated_by == "expert, wrong-way, uniform"
    assert rows["ant-random"].generated_by == "uniform"
    assert rows["ant-medium"].generated_by is None
    assert rows["ant-medium"].d4rl_file is None
    assert rows["ant-random"].cached == ()
    open_data(find_task("hopper-random"), size=20, jobs=1)
    assert {row.name: row.cached for row in list_data()}["hopper-random"] == (20,)
    info = data_info("hopper-random-v0")
    assert info["d4rl"]["url"].endswith("gym_mujoco/hopper_random.hdf5")
    assert info["cached"][0]["details"]["seed"] == 0


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no data set 'hopper-best'; `rlbench data list`"):
        data_info("hopper-best")


def test_a_check_reports_unusual_data(tmp_path: Path) -> None:
    columns = recording([(3, "terminal"), (5, "timeout")])
    file = write(tmp_path / "mine.hdf5", columns | {"timeouts": None})
    found = check_data(str(file))
    assert [x.level for x in found] == ["warning", "note"]
    assert "8 transitions of 8 rows, 1 complete episodes" in found[-1].text
    named = tmp_path / "hopper_medium-v2.hdf5"
    file.rename(named)
    (finding,) = check_data(str(named))
    assert finding.level == "error"
    (finding,) = check_data("hopper-medium")
    assert finding.level == "error"
    assert "cannot read" in finding.text


def test_the_list_loads_neither_torch_nor_h5py() -> None:
    code = (
        "import sys; from rlbench.offline_data import list_data, data_info; list_data();"
        "data_info('hopper-medium'); assert not {'torch', 'h5py', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
