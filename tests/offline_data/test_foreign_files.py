"""Files made to reach other files, to fill the memory or to never end: refused in one sentence, and quickly."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rlbench import hdf5
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.offline_data import check_data, open_data
from rlbench.offline_data.examples import open_examples
from tests.data_files import TOY, recording, write

ID = "toy/small-v0"
ROWS = 6
COLUMNS = recording([(3, "terminal"), (3, "timeout")])
MINARI = {
    "observations": np.zeros((ROWS + 1, 3)), "actions": np.zeros((ROWS, 2)), "rewards": np.zeros(ROWS),
    "terminations": np.zeros(ROWS, bool), "truncations": np.arange(ROWS) == ROWS - 1,
}  # fmt: skip
EXAMPLES = {"obs": np.zeros((ROWS, 3)), "label": np.arange(ROWS) % 2}


def d4rl_file(folder: Path) -> Path:
    return write(folder / "f.hdf5", COLUMNS)


def minari_file(folder: Path) -> Path:
    (folder / ID / "data").mkdir(parents=True)
    about = json.dumps({"dataset_id": ID})
    (folder / ID / "data" / "metadata.json").write_text(about)
    episode = {f"episode_0/{name}": column for name, column in MINARI.items()}
    return write(folder / ID / "data" / "main_data.hdf5", episode)


def examples_file(folder: Path) -> Path:
    parts = {f"{split}/{k}": x for split in ("train", "test") for k, x in EXAMPLES.items()}
    return write(folder / "f.h5", parts)


def read_d4rl(path: Path) -> object:
    return open_data(TOY, str(path))


def check_d4rl(path: Path) -> object:
    """Without a task."""
    for finding in check_data(str(path)):
        if finding.level == "error":
            raise UserError(finding.text)
    return None


def read_minari(path: Path) -> object:
    return open_data(TOY, f"minari:{ID}")


def read_model(path: Path) -> object:
    return open_data(find_task("Pendulum-v1"), str(path), size=10)


def read_examples(path: Path) -> object:
    return open_examples(find_task(str(path)), ROWS, 0)


FORMATS = {
    "d4rl": (d4rl_file, read_d4rl, "/", "observations"),
    "check": (d4rl_file, check_d4rl, "/", "rewards"),
    "minari": (minari_file, read_minari, "episode_0", "observations"),
    "minari's episode": (minari_file, read_minari, "/", "episode_0"),
    "examples": (examples_file, read_examples, "train", "obs"),
    "examples' part": (examples_file, read_examples, "/", "train"),
}
"""Makes a file, reads it, and a group in it with a name to replace."""


def external_link(group: Any, name: str, secret: Path) -> None:
    group[name] = h5py.ExternalLink(secret, f"/{name}")


def soft_link(group: Any, name: str, secret: Path) -> None:
    group.move(name, "hidden")
    group[name] = h5py.SoftLink("hidden")


def dangling_link(group: Any, name: str, secret: Path) -> None:
    group[name] = h5py.SoftLink("/nothing")


def external_storage(group: Any, name: str, secret: Path) -> None:
    group.create_dataset(name, (ROWS, 3), "f4", external=[(str(secret), 0, ROWS * 12)])


def virtual(group: Any, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((ROWS, 3), "f4")
    layout[:] = h5py.VirtualSource(str(secret), name, (ROWS, 3))
    group.create_virtual_dataset(name, layout)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.startswith(str(path)), "it is not quoted by another sentence"
    return sentence


@pytest.mark.parametrize("case", FORMATS)
def test_the_files_are_right_as_they_are(case: str, folder: Path) -> None:
    make, read, _, _ = FORMATS[case]
    read(make(folder))


@pytest.mark.parametrize("case", FORMATS)
@pytest.mark.parametrize(
    "refer", [external_link, soft_link, dangling_link, external_storage, virtual]
)
def test_references_to_other_places_are_not_followed(
    case: str, refer: Callable[[Any, str, Path], None], folder: Path
) -> None:
    make, read, where, name = FORMATS[case]
    path, secret = make(folder), folder / "secret"
    write(secret, COLUMNS)
    with h5py.File(path, "a") as file:
        if refer is not soft_link:
            del file[where][name]
        refer(file[where], name, secret)
    if case in ("minari's episode", "examples' part") and refer in (external_storage, virtual):
        refer = external_link  # Only an array has a storage.
    expected = (
        f"{path} has {name} as a reference to another place or another file, which is not followed"
    )
    assert refusal(read, path).startswith(expected)


def test_other_files_are_not_even_opened(folder: Path) -> None:
    path, secret = d4rl_file(folder), folder / "secret"
    os.mkfifo(secret)  # Opening it would wait for ever.
    with h5py.File(path, "a") as file:
        del file["rewards"]
        external_link(file, "rewards", secret)
    assert "has rewards as a reference to another place" in refusal(read_d4rl, path)


def huge(group: Any, name: str) -> None:
    shape = (1 << 31, *group[name].shape[1:])
    del group[name]
    group.create_dataset(name, shape, "f4", chunks=(1024, *shape[1:]), compression="gzip")


def huge_chunk(group: Any, name: str) -> None:
    shape = group[name].shape
    del group[name]
    chunks, most = (1 << 26, *shape[1:]), (None, *shape[1:])
    group.create_dataset(name, shape, "f4", chunks=chunks, maxshape=most, compression="gzip")


@pytest.mark.parametrize("case", ["d4rl", "check", "minari", "examples"])
def test_rows_that_are_not_stored_are_refused_before_they_are_read(case: str, folder: Path) -> None:
    make, read, where, _ = FORMATS[case]
    path = make(folder)
    with h5py.File(path, "a") as file:
        for name in list(file[where]):
            huge(file[where], name)
        if case == "minari":
            del file["episode_0/observations"]
            file.create_dataset(
                "episode_0/observations", ((1 << 31) + 1, 3), "f4", chunks=(1024, 3)
            )
    assert path.stat().st_size < 100_000
    assert refusal(read, path).startswith(f"{path} claims arrays of ")


@pytest.mark.parametrize("case", ["d4rl", "check", "minari", "examples"])
def test_a_chunk_that_is_larger_than_its_array_counts_whole(case: str, folder: Path) -> None:
    make, read, where, name = FORMATS[case]
    path = make(folder)
    with h5py.File(path, "a") as file:
        huge_chunk(file[where], name)
    assert refusal(read, path).startswith(f"{path} claims arrays of ")


def test_an_observation_of_billions_of_numbers_is_refused(folder: Path) -> None:
    path = d4rl_file(folder)
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (ROWS, 1 << 31), "f4", chunks=(1, 1024))
    assert refusal(check_d4rl, path).startswith(f"{path} claims arrays of ")


def test_compressed_files_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros are what compresses best."""
    monkeypatch.setattr(hdf5, "SMALL", 0)
    path, rows = folder / "f.hdf5", 100_000
    shapes = {"observations": (3,), "actions": (2,), "rewards": (), "terminals": (), "timeouts": ()}
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            kind = "?" if name in ("terminals", "timeouts") else "f4"
            file.create_dataset(
                name, data=np.zeros((rows, *shape), kind), compression="gzip", chunks=(rows, *shape)
            )
    assert 100 * path.stat().st_size < 26 * rows
    assert len(open_data(TOY, str(path))) > 0


@pytest.mark.parametrize("case", FORMATS)
def test_groups_inside_groups_and_in_a_circle_are_no_arrays(case: str, folder: Path) -> None:
    make, read, where, name = FORMATS[case]
    path = make(folder)
    with h5py.File(path, "a") as file:
        del file[where][name]
        file[where][name] = file["/"]
        inner = file
        for _ in range(2_000):
            inner = inner.create_group("inner")
    words = {
        "d4rl": "has no observations", "check": "has no rewards", "minari": "has no array observations in episode_0",
        "minari's episode": "has no array observations in episode_0", "examples": "has the arrays", "examples' part": "has the arrays",
    }  # fmt: skip
    assert words[case] in refusal(read, path)


def pipe(path: Path) -> str:
    os.mkfifo(path)
    return "a pipe"


def device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "a device"


def directory(path: Path) -> str:
    path.mkdir()
    return "a folder"


def listening(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return "a socket"


@pytest.mark.parametrize("special", [pipe, device, directory, listening])
def test_only_files_are_opened(
    special: Callable[[Path], str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # The path of a socket must be short.
    for name, read in (
        ("f.hdf5", read_d4rl), ("g.hdf5", check_d4rl), ("model.zip", read_model), ("h.npz", read_examples),
        ("i.h5", read_examples),
    ):  # fmt: skip
        kind = special(Path(name))
        assert refusal(read, Path(name)) == f"{name} is {kind}, not a file; give the path of a file"
    made = minari_file(folder).with_name("metadata.json")
    made.unlink()
    if special is not listening:
        kind = special(made)
        assert f"metadata.json is {kind}, not a file" in refusal(read_minari, made)


@pytest.mark.parametrize("name", ["terminations", "truncations"])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full(ROWS, np.nan), "other than 0 and 1; correct the file"),
        (np.full(ROWS, 2), "other than 0 and 1; correct the file"),
        (np.full(ROWS, -1.0), "other than 0 and 1; correct the file"),
        (np.full(ROWS, b"yes"), "of type |S3; give a file with numbers"),
        (np.zeros(ROWS, complex), "of type complex128; give a file with numbers"),
        (np.zeros((ROWS, 2)), "of shape [6, 2]"),
        (np.zeros(ROWS - 1), "of shape [5]"),
    ],
)
def test_flags_of_minari_are_checked(name: str, values: Any, words: str, folder: Path) -> None:
    path = minari_file(folder)
    with h5py.File(path, "a") as file:
        del file["episode_0"][name]
        file["episode_0"][name] = values
    assert f"has episode_0/{name} {words}" in refusal(read_minari, path)


def test_flags_of_minari_may_be_numbers(folder: Path) -> None:
    path = minari_file(folder)
    with h5py.File(path, "a") as file:
        del file["episode_0/truncations"]
        file["episode_0/truncations"] = (np.arange(ROWS) == ROWS - 1).astype(np.float64)[:, None]
    assert len(open_data(TOY, f"minari:{ID}").episode_returns) == 1


@pytest.mark.parametrize("rewards", [np.float64(1), h5py.Empty("f8")])
def test_rewards_of_minari_without_steps_are_refused(rewards: Any, folder: Path) -> None:
    path = minari_file(folder)
    with h5py.File(path, "a") as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = rewards
    assert "has no array rewards in episode_0" in refusal(read_minari, path)


def test_an_array_in_place_of_an_episode_is_refused(folder: Path) -> None:
    path = minari_file(folder)
    with h5py.File(path, "a") as file:
        file["episode_1"] = np.zeros(3)
    assert "has episode_1 as an array, expected a group" in refusal(read_minari, path)


def test_rewards_of_minari_that_are_too_large_are_refused(folder: Path) -> None:
    path = minari_file(folder)
    with h5py.File(path, "a") as file:
        file["episode_0/rewards"][2] = 1e300
    assert "holds NaN or infinity, first in row 2 of its rewards" in refusal(read_minari, path)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "3", "", "[" * 100_000, '{"dataset_id": 3}', '{"dataset_id": null}',
        *(json.dumps({"dataset_id": ID, "ref_min_score": low, "ref_max_score": high}) for low, high in (
            ("0", 1.0), (0.0, [1.0]), (float("nan"), 1.0), (0.0, float("inf")), (True, 5.0), (2.0, 2.0), ({}, None),
        )),
    ],
)  # fmt: skip
def test_metadata_of_minari_are_checked(text: str, folder: Path) -> None:
    file = minari_file(folder).with_name("metadata.json")
    file.write_text(text)
    assert "is missing or damaged; it needs the text dataset_id" in refusal(read_minari, file)


def test_metadata_of_minari_need_no_scores(folder: Path) -> None:
    file = minari_file(folder).with_name("metadata.json")
    for scores in ({}, {"ref_min_score": None, "ref_max_score": None}, {"ref_min_score": 0}):
        file.write_text(json.dumps({"dataset_id": ID, **scores}))
        assert open_data(TOY, f"minari:{ID}").provenance.details["score"] is None


def test_a_provenance_that_nests_is_left_out(folder: Path) -> None:
    path = write(folder / "f.hdf5", COLUMNS, provenance="[" * 20_000)
    assert "origin" not in open_data(TOY, str(path)).provenance.details
