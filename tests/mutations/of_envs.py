"""Faults of the environments and of whole episodes on them."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "envs/episodes.py", "envs/test_episodes.py",
        ("cut a step late", "step + 1 >= max_steps", "step >= max_steps"),
        ("rewards of the wrong episode", "returns[episode[playing]] += reward[playing]", "returns[episode[playing]] = reward[playing]"),
        ("the seeds' order", "envs.reset(v, int(seeds[episode[v]]))", "envs.reset(v, int(seeds[v]))"),
        ("steps counted through episodes", "            step[v] = 0\n", ""),
        ("an episode ends by its limit alone", "over = terminated | truncated", "over = truncated"),
    ),
    *of_file(
        "envs/contract.py", "envs/test_contract.py",
        ("observations not copied", "as_obs(given, self.observation_space, copy=True)", "as_obs(given, self.observation_space)"),
        ("actions not copied", "return np.array(action)", "return np.asarray(action)"),
        ("rewards beyond float32", "if not -LARGEST <= reward <= LARGEST:", "if reward != reward:"),
        ("whole numbers cut decimals off", "array.astype(_FLOAT, copy=copy)", "array.astype(space.dtype).astype(_FLOAT)"),
        ("rounded actions leave the box", "np.clip(action, *self._bounds).astype", "np.asarray(action).astype"),
        ("any shape of an observation", "if obs.shape != self._obs_shape:", "if obs.ndim != len(self._obs_shape or ()):"),
    ),
    *of_file(
        "envs/d4rl/vector_locomotion.py", "envs/test_locomotion.py",
        ("cost of the action's length", "np.square(action).sum(axis=1)\n        return cost.astype", "np.abs(action).sum(axis=1)\n        return cost.astype"),
        ("end a step late", "self._steps[playing] >= self._limit", "self._steps[playing] > self._limit"),
        ("fallen walkers go on", "~healthy & may_end", "healthy & False"),
        ("bonus of the fallen", "(healthy | may_end)", "healthy"),
        ("one angle for both", "(left < angle) & (angle < right)", "(angle < right)"),
        ("velocities not clipped", "np.clip(velocity, -10, 10)", "velocity"),
        ("forces cost nothing", "cost += self._world._contact_cost_weight", "cost += 0 * self._world._contact_cost_weight"),
    ),
    *of_file(
        "envs/multiroom/engine.py", "envs/test_multiroom.py",
        ("reward by time left", "1 - 0.9 * (self._steps[reached]", "1 - 1.0 * (self._steps[reached]"),
        ("cut a step late", "self._steps >= self._floor.max_steps", "self._steps > self._floor.max_steps"),
        ("turns swapped", "[3, 0, 1, 2], [1, 2, 3, 0]", "[1, 2, 3, 0], [3, 0, 1, 2]"),
        ("closed doors let through", "_EVENT[_FORWARD, [_FREE, _OPEN]]", "_EVENT[_FORWARD, [_FREE, _CLOSED]]"),
        ("steps not reset", "        self._steps[rows] = 0\n", ""),
        ("one level for all", "np.array(seeds) % len(self._starts[0])", "np.array(seeds) * 0"),
        ("moves before it looks", "self._at += ahead * (event >= _WALKS)", "self._at += ahead * (event > _WALKS)"),
    ),
    *of_file(
        "envs/multiroom/levels.py", "envs/test_multiroom_levels.py",
        ("held-out levels from the training's seeds", "count(FIRST_HELD_OUT if held_out else 0)", "count(0)"),
        ("a level trained on is held out", "if cells.tobytes() not in trained_on:", "if True:"),
        ("draws with a bias", "product & 0xFFFFFFFF < (1 << 32) % span", "product & 0xFFFFFFFF < 0"),
    ),
    *of_file(
        "envs/point_navigation.py", "envs/test_point_navigation.py",
        ("reward of the place before", "np.linalg.norm(self._at - GOAL)", "np.linalg.norm(moved - GOAL)"),
        ("scale of the reward", "-distance / np.sqrt(2)", "-distance / 2"),
        ("actions not clipped", "np.clip(action, -1, 1) + drift", "action + drift"),
        ("starts anywhere", "uniform(-1, 0, 2)", "uniform(-1, 1, 2)"),
    ),
    *of_file(
        "envs/examples/signals.py", "envs/test_signals.py",
        ("test signals in training", "draw(rng, size, split)", 'draw(rng, size, "test")'),
        ("signals without noise", "+ rng.standard_normal((count, LENGTH))", "+ 0 * rng.standard_normal((count, LENGTH))"),
        ("backgrounds without sines", "cosines @ np.cos(angles) + sines @ np.sin(angles)", "cosines @ np.cos(angles) + sines @ np.cos(angles)"),
    ),
    *of_file(
        "envs/examples/glyphs.py", "envs/test_examples.py",
        ("drawings of training and test are the same", 'derive(seed, "glyphs", split)', 'derive(seed, "glyphs")'),
        ("one alphabet for all seeds", 'derive(seed, "glyphs", "classes")', 'derive(0, "glyphs", "classes")'),
        ("rows and columns swapped", "down[..., :, None] + across[..., None, :]", "across[..., :, None] + down[..., None, :]"),
        ("no soft edge", "np.clip(2 - nearest / PEN, 0, 1)", "np.clip(1 - nearest / PEN, 0, 1)"),
        ("turned the other way", "np.stack([cos, -sin], -1), np.stack([sin, cos], -1)", "np.stack([cos, sin], -1), np.stack([-sin, cos], -1)"),
        ("straight strokes", "2 * t * (1 - t)", "0 * t"),
    ),
    *of_file(
        "envs/examples/digits.py", "envs/test_examples.py",
        ("test images in training", 'first = 0 if split == "test" else TEST', "first = 0"),
        ("labels in the file's order", "labels.astype(np.int64)[order]", "labels.astype(np.int64)"),
    ),
    *of_file(
        "envs/examples/frames_minigrid.py", "envs/test_examples.py",
        ("left for right", "[found < 0, found > 0], [LEFT, RIGHT]", "[found < 0, found > 0], [RIGHT, LEFT]"),
        ("the agent's own cell", "VIEW // 2, VIEW - 2, 0", "VIEW // 2, VIEW - 1, 0"),
        ("test levels in training", 'derive(seed, "frames-minigrid", split, i', 'derive(seed, "frames-minigrid", i'),
    ),
    *of_file(
        "envs/examples/_base.py", "envs/test_examples.py",
        ("columns of any length", "if len(set(lengths.values())) > 1:", "if False:"),
        ("a class that only tests have is left out", "for x in parts if len(x)), default=0)\n            highest", "for x in parts if len(x)), default=0)\n            parts = parts[:1]\n            highest"),
    ),
    *of_file(
        "envs/tasks.py", "envs/test_tasks.py",
        ("score in shares", "100.0 * (mean_return - low) / (high - low)", "(mean_return - low) / (high - low)"),
        ("held-out levels are those of training", "held_out=_multiroom(other, floor, True)", "held_out=_multiroom(other, floor, False)"),
    ),
]  # fmt: skip
