"""Missions of BabyAI's hardest level as sequences of words, and what the agent has to do first.

    obs     [CLS] open a door after you put the red key next to a ball [PAD] ...
    label   the colour of the object that the agent deals with first: red
    kind    its type: key

In "A, then B" the first object is that of A, in "B after you A" it is also that of A, although it is mentioned last: a
reader has to see both sides of each word. In "A and B", which may be done in any order, A counts as the first; of two objects
in one instruction, the one that is moved counts. Labels come from the tree of instructions from which the package minigrid
makes the sentence.

Every mission occurs once. Its words alone decide (by a hash) whether it belongs to the training or the test examples of
`missions` or of `missions-unlabelled`, so no mission is in two of these four parts, whatever the seeds. Two seeds share about
an eighth of their missions: short ones, of which there are few.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces

from rlbench.envs.examples._base import Array, Source, Split
from rlbench.envs.making import make_minigrid
from rlbench.envs.minigrid.words import WORDS, encode
from rlbench.seeding import derive
from rlbench.sequences import CLS, PAD, TokenSequence

LEVEL = "BabyAI-BossLevelNoUnlock-v0"
LENGTH = 48
"""Tokens of an example; longer missions, fewer than 1 in 1,000, are left out."""
COLOURS = ("none", "blue", "green", "grey", "purple", "red", "yellow")
"""Classes of `label`; none if the mission names no colour."""
KINDS = ("ball", "box", "door", "key")
PARTS = 16
SHARES: Mapping[tuple[bool, Split], range] = {
    (True, "test"): range(4),
    (True, "train"): range(4, 6),
    (False, "test"): range(6, 8),
    (False, "train"): range(8, PARTS),
}
"""Values of the hash, from 0 to 15, of each part: labelled or not, and split."""


class Mission(NamedTuple):
    """An example."""

    tokens: Array
    """uint8 [L]."""
    colour: str
    kind: str


class Missions(Source):
    """Sequences of words [48], the colour and the type of the first object."""

    kind = "generated"
    cached = True

    def __init__(self, *, labelled: bool = True) -> None:
        """Either few missions with labels, or many for training without them."""
        self._labelled = labelled

    @property
    def fields(self) -> Mapping[str, Space[Any]]:
        """See `Source`."""
        obs = TokenSequence(WORDS, LENGTH)
        labels = {"label": spaces.Discrete(len(COLOURS)), "kind": spaces.Discrete(len(KINDS))}
        return {"obs": obs, **(labels if self._labelled else {})}

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """See `Source`."""
        return {"label": COLOURS, "kind": KINDS} if self._labelled else {}

    @property
    def sizes(self) -> Mapping[Split, int]:
        """See `Source`."""
        return {"train": 400, "test": 800} if self._labelled else {"train": 4_000, "test": 250}

    def sample(self, split: Split, size: int, seed: int) -> Mapping[str, Array]:
        """See `Source`."""
        mine = SHARES[self._labelled, split]
        missions = list(islice((x for x in missions_of(seed) if part(x.tokens) in mine), size))
        return {
            "obs": np.stack([mission.tokens for mission in missions]),
            "label": np.array([COLOURS.index(mission.colour) for mission in missions]),
            "kind": np.array([KINDS.index(mission.kind) for mission in missions]),
        }


def unlabelled() -> Missions:
    """Missions for training without labels."""
    return Missions(labelled=False)


def missions_of(seed: int) -> Iterator[Mission]:
    """The missions of a seed, each once, in an endless stream."""
    env: Any = make_minigrid(LEVEL).unwrapped
    known = set()
    for level in count():
        with redirect_stdout(StringIO()):  # The package prints each level that it rejects.
            env.reset(seed=derive(seed, "missions", level))
        tokens = encode(env.mission)
        if env.mission in known or tokens[LENGTH:].any():
            continue
        known.add(env.mission)
        yield Mission(tokens[:LENGTH], *first_object(env.instrs))


def first_object(instruction: Any) -> tuple[str, str]:
    """Colour and type of the object with which an agent deals first, from a tree of minigrid's instructions."""
    from minigrid.envs.babyai.core.verifier import AfterInstr, PutNextInstr, SeqInstr

    while isinstance(instruction, SeqInstr):
        later = isinstance(instruction, AfterInstr)
        instruction = instruction.instr_b if later else instruction.instr_a
    put = isinstance(instruction, PutNextInstr)
    thing = instruction.desc_move if put else instruction.desc
    return thing.color or "none", thing.type


def part(tokens: Array) -> int:
    """The part of a mission, from 0 to 15: a hash of its tokens."""
    words = tokens[(tokens != PAD) & (tokens != CLS)]
    return hashlib.sha256(words.tobytes()).digest()[0] % PARTS
