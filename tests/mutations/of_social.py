"""Faults of the games of several agents: who is paid when, what returns, who sees what."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "envs/social/engine.py", "envs/test_social.py",
        ("one hunter captures a stag", "np.where(stags, 2, 1)", "np.where(stags, 1, 1)"),
        ("what was just taken returns", "        back = ~self.available & (self._draw(chance.RESPAWN, self.statics) < self.game.respawn)\n        self.available &= ~self.taken\n", "        self.available &= ~self.taken\n        back = ~self.available & (self._draw(chance.RESPAWN, self.statics) < self.game.respawn)\n"),
        ("all items return together", "(self._draw(chance.RESPAWN, self.statics) < self", "(self._draw(chance.RESPAWN, 1) < self"),
        ("taken items are taken again", "        self.on &= self.available[:, None]\n", ""),
        ("the agent's own colour is bad", "sign[np.arange(self.num_envs), self.goals[:, 2]] = -1", "sign[np.arange(self.num_envs), self.goals[:, 0]] = -1"),
        ("coins are not squared", "(sign * count**2)", "(sign * count)"),
        ("tiles covered by one agent", "_all(_any(self.on, 1), -1)", "_all(_any(self.on, 2), -1)"),
        ("cut a step late", "(self.steps >= self.game.limit) & ~terminated", "(self.steps > self.game.limit) & ~terminated"),
        ("a success is also cut", "(self.steps >= self.game.limit) & ~terminated", "(self.steps >= self.game.limit)"),
        ("agents walk through the edge", "np.clip(self.place[:, None] + _OFFSETS, 0, side - 1)", "(self.place[:, None] + _OFFSETS) % side"),
        ("the stag prefers agent 0", "np.where(far[:, 0] < far[:, 1], 0, 1)", "np.where(far[:, 0] <= far[:, 1], 0, 1)"),
        ("the stag moves vertically first", "(right != 0), drawn < 0.5, down != 0)", "(right != 0), True, down != 0)"),
        ("plants under the stag are paid", "self.on[..., 1:] & ~met[..., None]", "self.on[..., 1:]"),
        ("items reappear on others", "np.put_along_axis(numbers, self.cells[rows], -1.0, 1)", "np.put_along_axis(numbers, self.item_cells[rows], -1.0, 1)"),
        ("all environments begin anew", "np.flatnonzero(mask)\n        if seeds", "np.arange(self.num_envs)\n        if seeds"),
        ("last actions outlive episodes", "self.key[rows], self.steps[rows], self.last[rows] = key, 0, -1", "self.key[rows], self.steps[rows], self.last[rows] = key, 0, 0"),
        ("the observer sees another's goal", "COLOURS[self.goals[:, observer]]", "COLOURS[self.goals[:, 1 - observer]]"),
        ("every agent's node shows the goal", "nodes[:, observer, layout.goal]", "nodes[:, :, layout.goal]"),
        ("taken items look available", "nodes[:, self.agents :, layout.available] = self.available", "nodes[:, self.agents :, layout.available] = 1"),
        ("edges from agents to items", "pairs += [(s, r) for r in agents for s in items]", "pairs += [(r, s) for r in agents for s in items]"),
        ("agents have edges to themselves", "for r in agents for s in agents if s != r]", "for r in agents for s in agents]"),
    ),
    *of_file(
        "envs/social/chance.py", "envs/test_social.py",
        ("the same numbers in each step", "step.astype(np.uint64) * np.uint64", "step.astype(np.uint64) * np.uint64(0) * np.uint64"),
        ("one number for all items", "(first[:, None] + _COUNT[:count])", "(first[:, None] + 0 * _COUNT[:count])"),
        ("all seeds are one", "[seed % 2**64 for seed in seeds]", "[0 for seed in seeds]"),
    ),
    *of_file(
        "envs/social/scripted.py", "envs/test_social_views.py",
        ("horizontally first at ties", "(abs(down) >= abs(right), abs(down) > abs(right))", "(abs(down) > abs(right), abs(down) >= abs(right))"),
        ("agents cross", "crossed = far[:, 0, 1] + far[:, 1, 0] <", "crossed = far[:, 0, 1] + far[:, 1, 0] >"),
        ("the other's colour", "game.types != game.goals[:, : game.agents, None]", "game.types != game.goals[:, 1::-1, None]"),
        ("taken items are targets", "np.where(game.available[:, None, first:last], far, _FAR)", "far"),
        ("the closest hunter decides", "distance = ranked[:, 1] // game.agents", "distance = ranked[:, 0] // game.agents"),
        ("everyone hunts", "(np.arange(game.agents) == pair[..., None]).any(1) & goes", "(np.arange(game.agents) >= 0) & goes"),
        ("stags at any distance", "goes = game.game.stag_reward * (apart + 1) > game.game.apple_reward * (d + 1)", "goes = apart >= 0"),
        ("ties drawn anew in each step", "chance.uniform(game.key, 0 * game.steps, purpose, count)", "chance.uniform(game.key, game.steps, purpose, count)"),
        ("noise for all agents at once", "_drawn(game, chance.STRAYS, game.agents) < self.epsilon", "_drawn(game, chance.STRAYS, 1) < 2 * self.epsilon"),
    ),
    *of_file(
        "envs/social/views.py", "envs/test_social_views.py",
        ("others in absolute order", "(who[:, None] + np.arange(1, game.agents)) % game.agents", "np.array([[b for b in range(game.agents) if b != a] for a in agents])"),
        ("items not sorted by distance", "np.sort((game.types * 1024 + far) * 256 + number, -1)", "np.sort(game.types * 1024 * 256 + number + 0 * far, -1)"),
        ("types mixed", "(game.types * 1024 + far)", "far"),
        ("the goals of others", "seen[row[:, 0], :, 3 + kinds + game.goals[:, agent]] = 1", "seen[row[:, 0], :, 3 + kinds + game.goals[:, 1 - agent]] = 1"),
    ),
    *of_file(
        "envs/social/single.py", "envs/test_social_views.py",
        ("the learner plays another agent", "chosen[:, 0] = actions", "chosen[:, -1] = actions"),
        ("rewards of a partner", "reward[:, 0].astype", "reward[:, -1].astype"),
        ("every environment begins anew", "self.game.reset(mask, [", "self.game.reset(mask | True, [0] * (self.num_envs - len(given)) + ["),
    ),
    *of_file(
        "envs/social/views.py", "envs/test_social_foresight.py",
        ("others in the opposite order", "np.roll(everyone, -agent)", "np.roll(everyone, agent)"),
        ("actions at the wrong nodes", "following[:, 1 : 1 + actions.shape[1]]", "following[:, : actions.shape[1]]"),
    ),
    *of_file(
        "envs/social/single.py", "envs/test_social_foresight.py",
        ("partners choose anew when they act", "        if self._planned is None:\n", "        if True:\n"),
        ("plans outlive a reset", "for x in given])\n        self._planned = None\n", "for x in given])\n"),
        ("plans outlive a step", "chosen[:, 0] = actions\n        self._planned = None\n", "chosen[:, 0] = actions\n"),
    ),
    *of_file(
        "envs/social/picture.py", "envs/test_social_foresight.py",
        ("the first agent's moves are drawn", "enumerate([] if predictions is None else predictions, start=1)", "enumerate([] if predictions is None else predictions)"),
        ("all arrows are opaque", "(1 - share) * within[shape] + share * np.array(colour)", "np.array(colour)"),
    ),
    *of_file(
        "rlbench/entities.py", "envs/test_social_foresight.py",
        ("goals and next actions overlap", "self.goal.stop if self.goals else self.last_action.stop", "self.last_action.stop"),
    ),
]  # fmt: skip
"""All mutations."""
