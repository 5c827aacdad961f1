"""Faults of linear probes, of facts of environments, and of pictures with known features."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "backbones/layers/probes.py",
        "backbones/test_probes.py",
        ("statistics of all rows", "known = rows[:train]", "known = rows"),
        (
            "units that never change are noise",
            "torch.where(changes, centred / deviation.clamp(min=1e-30), 0.0)",
            "centred / deviation.clamp(min=1e-30)",
        ),
        ("no penalty of classes", "penalty / 2 * weight", "0 * weight"),
        ("twice the penalty", "penalty / 2 * weight", "penalty * weight"),
        ("no penalty of numbers", "z.T @ z / rows + penalty *", "z.T @ z / rows + 0 *"),
        (
            "no penalty in the smaller system",
            "z @ z.T / rows + penalty *",
            "z @ z.T / rows + 1e-9 *",
        ),
        ("no bias of numbers", "return weight, mean", "return weight, 0 * mean"),
        (
            "scored on the training rows",
            "F.linear(rows[train:], weights, biases).argmax(1) == feature[train:]",
            "F.linear(rows[:train], weights, biases).argmax(1) == feature[:train]",
        ),
        (
            "learns from the rows of the tests",
            "class_probe(rows[:train], feature[:train]",
            "class_probe(rows, feature",
        ),
        ("errors in the unit of the feature", ".square() / wanted.var(correction=0)", ".square()"),
    ),
    *of_file(
        "backbones/analyses/probe.py",
        "backbones/test_probes.py",
        (
            "shuffled features in order",
            "{name: x[order] for name, x in features.items()}",
            "features",
        ),
        (
            "the trained network as the untrained one",
            "self._layers(self.untrained(), UNTRAINED",
            "self._layers(learners[0], UNTRAINED",
        ),
        (
            "the answer counts as a layer",
            "if all(name in part for part in parts)][:-1]:",
            "if all(name in part for part in parts)]:",
        ),
        ("large layers are kept", "z.shape[1] <= self.config.largest and", "True and"),
        (
            "memories start anew",
            "state = {name: x[some] for name, x in known.state.items()}",
            "state = None",
        ),
        (
            "constant features are kept",
            "return all(len(part.unique()) > 1",
            "return all(len(part.unique()) > 0",
        ),
        ("chance of the rarest class", ".bincount().argmax()", ".bincount().argmin()"),
    ),
    *of_file(
        "backbones/analyses/_predictor.py",
        "backbones/test_predictor.py backbones/test_probes.py",
        (
            "bytes are not scaled",
            "return 255.0 if self.space.dtype == np.uint8",
            "return 1.0 if self.space.dtype == np.uint8",
        ),
        (
            "the memory's state is forgotten",
            "self.learner.scores(x * self.scale, state)",
            "self.learner.scores(x * self.scale, None)",
        ),
        ("a learner without gradients passes", "        if gradient is None:", "        if False:"),
        ("layers of other functions", "z.flatten(1).clone()", "z.flatten(1)"),
    ),
    *of_file(
        "benchmarks/training/playing.py",
        "backbones/test_probes.py",
        ("no action is random", "rng.random() < RANDOM", "False"),
        ("every action is random", "rng.random() < RANDOM", "True"),
        (
            "rows of one episode on both sides",
            "                train = len(obs)\n",
            "                train = 2 * count // 3\n",
        ),
        ("first steps of a memory", "if (chosen.state is None) == (state is None):", "if True:"),
    ),
    *of_file(
        "envs/facts.py",
        "backbones/test_probes.py",
        (
            "rows for columns",
            "column, row = map(int, world.agent_pos)",
            "row, column = map(int, world.agent_pos)",
        ),
        ("a carried key is forgotten", "world.carrying]\n", "None]\n"),
        (
            "closed for locked",
            '"locked" if first.is_locked else "closed"',
            '"closed" if first.is_locked else "locked"',
        ),
        (
            "own facts do not count",
            'if callable(own := getattr(world, "facts", None)):',
            "if False:",
        ),
    ),
    *of_file(
        "envs/examples/trifeature.py",
        "envs/test_trifeature.py",
        (
            "features agree in tests too",
            'if split == "train" and self._agreement',
            "if self._agreement",
        ),
        ("agreement in all pictures", "placed[:, 4] < self._agreement", "placed[:, 4] < 1"),
        ("one place for all", "corners = (placed[:, :2] *", "corners = (placed[:1, :2] *"),
        (
            "texture everywhere solid",
            "np.where(lit[..., None], colour",
            "np.where(lit[..., None] | True, colour",
        ),
    ),
    *of_file(
        "envs/examples/navon.py",
        "envs/test_trifeature.py",
        ("the small letter is the large one", "cell[drawn[:, 1]]", "cell[drawn[:, 0]]"),
        ("tests equal training", 'derive(seed, "navon", split)', 'derive(seed, "navon")'),
    ),
]
