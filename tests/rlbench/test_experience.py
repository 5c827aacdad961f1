"""What learners learn from: examples, and the columns of every experience."""

import torch

from rlbench.experience import Examples, Trajectories, Transitions, columns_of, with_columns

EXAMPLES = Examples({"obs": torch.tensor([[1.0], [2.0], [3.0]]), "label": torch.tensor([4, 5, 6])})


def test_examples_are_columns_of_one_length() -> None:
    assert len(EXAMPLES) == 3
    assert EXAMPLES["label"].tolist() == [4, 5, 6]


def test_rows_are_taken_of_every_column() -> None:
    some = EXAMPLES.take(torch.tensor([2, 0, 2]))
    assert some["obs"].tolist() == [[3.0], [1.0], [3.0]]
    assert some["label"].tolist() == [6, 4, 6]
    first = EXAMPLES.take(slice(2))
    assert first["label"].tolist() == [4, 5]
    assert len(EXAMPLES.take(slice(100))) == 3


def test_all_columns_move_to_a_device() -> None:
    moved = EXAMPLES.to("meta")
    assert {column.device.type for column in moved.columns.values()} == {"meta"}
    assert moved["label"].dtype == torch.int64


def test_columns_of_examples_are_put_back_under_their_names() -> None:
    columns = columns_of(EXAMPLES)
    assert list(columns) == ["obs", "label"]
    back = with_columns(EXAMPLES, {name: 2 * column for name, column in columns.items()})
    assert isinstance(back, Examples)
    assert back["label"].tolist() == [8, 10, 12]
    columns.clear()
    assert len(EXAMPLES) == 3, "a copy of the mapping"


def test_columns_of_other_experience_are_its_tensors() -> None:
    row = torch.zeros(2)
    transitions = Transitions(row, row, row, row, row, row + 1)
    assert list(columns_of(transitions)) == [
        "obs", "action", "reward", "next_obs", "terminated", "truncated",
    ]  # fmt: skip
    changed = with_columns(transitions, {"reward": row + 5})
    assert changed.reward.tolist() == [5, 5]
    assert changed.truncated.tolist() == [1, 1]
    extras = {"value": row}
    trajectories = Trajectories(row, row, row, row, row, row, extras)
    assert "extras" not in columns_of(trajectories)
    assert with_columns(trajectories, {"obs": row + 1}).extras is extras
