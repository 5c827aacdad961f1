"""Faults of the models of multi-agent episodes, of these episodes and of the analyses."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "envs/examples/episodes.py", "envs/test_episodes_source.py backbones/test_rfm_models.py",
        ("observations after the action", '            columns["obs"][:, step] = game.graph()\n            columns["alive"][:, step] = alive\n            action = self._policy(game)\n', '            columns["alive"][:, step] = alive\n            action = self._policy(game)\n            columns["obs"][:, step] = game.graph(0)[..., : columns["obs"].shape[-1]]\n            game.last[:] = action\n            columns["obs"][:, step] = game.graph()\n'),
        ("rewards after the end", "reward * alive[:, None]", "reward"),
        ("alive for ever", "alive = alive & ~terminated", "alive = alive | ~terminated"),
        ("one seed for both splits", '"episodes", self._game, split, row', '"episodes", self._game, row'),
        ("items in reach count as taken", "game.on & (game.taken & alive[:, None])[:, None]", "game.on & alive[:, None, None]"),
    ),
    *of_file(
        "backbones/models/rfm_predictor.py", "backbones/test_rfm_models.py",
        ("runs go on after a mistake", "right.long().cumprod(0).sum(0)", "right.long().sum(0)"),
        ("runs do not end", "run = (run + 1) * ok", "run = run + ok"),
        ("runs go beyond the end", "reversed(right & alive)", "reversed(right)"),
        ("confidence of the action taken", "confidence = logits.softmax(-1).amax(-1)", "confidence = logits.softmax(-1)[..., 0]"),
        ("the first step repeats an action", "(last.argmax(-1) == action) & (last.sum(-1) > 0)", "last.argmax(-1) == action"),
        ("one agent is enough", "all_right = right.all(-1)", "all_right = right.any(-1)"),
        ("the least frequent action", "frequencies.max()", "frequencies.min()"),
        ("calibration without size", "abs(confidence - right)", "(confidence - right)"),
    ),
    *of_file(
        "backbones/models/rfm_returns.py", "backbones/test_rfm_models.py",
        ("rewards so far", "reward.flip(1).cumsum(1).flip(1)", "reward.cumsum(1)"),
        ("returns in other units", "* moments.variance.sqrt() + moments.mean", "* moments.variance + moments.mean"),
        ("statistics stay", "        self.normaliser.update(returns_to_come(experience[\"reward\"])[inside])\n", ""),
        ("no deviation from a constant", "self.normaliser.moments.variance + EPSILON", "self.normaliser.moments.variance"),
    ),
    *of_file(
        "backbones/models/_relational.py", "backbones/test_rfm_models.py",
        ("the step size stays", "self.optimizer.learning_rate.fill_(rate)", "pass"),
        ("the step size falls in a line", "(1 + math.cos(math.pi * progress)) / 2", "1 - progress"),
        ("steps after the end count", "(values.mean(-1) * kept).sum(0) / kept.sum(0)", "values.mean(-1).mean(0)"),
        ("types are free", "loss = loss + config.divergence_weight * divergence", "pass"),
        ("a fixed number of agents", 'options: dict[str, Any] = {"agents": examples["action"].shape[-1]}', "options: dict[str, Any] = {}"),
        ("the reducer is ignored", '{"reducer": config.reducer} if graphs else {}', "{}"),
    ),
    *of_file(
        "backbones/analyses/_events.py", "backbones/test_analyses.py",
        ("other examples are read", "if not set(names) <= set(examples.columns):", "if False:"),
        ("early events count", ">= BEFORE", ">= 0"),
        ("squared distances", "np.abs(place[:, :, : self.agents, None] - place[:, :, None]).sum(-1)", "np.square(place[:, :, : self.agents, None] - place[:, :, None]).sum(-1)"),
        ("the past counts", "found[:, :-ahead] |= happens[:, ahead:]", "found[:, ahead:] |= happens[:, :-ahead]"),
        ("all steps are one", "place = step * most + distance", "place = 0 * step + distance"),
        ("all distances are one", "place = step * most + distance", "place = step * most + 0 * distance"),
        ("outside is inside", "np.where(inside, signal[index], np.nan)", "signal[index]"),
        ("rise and fall", "values[:, LATE].mean(1) - values[:, EARLY].mean(1)", "values[:, EARLY].mean(1) - values[:, LATE].mean(1)"),
    ),
    *of_file(
        "backbones/analyses/edges.py", "backbones/test_analyses.py",
        ("the item itself is another", "left = available[example, step] & ~gone[example[:, None], steps].any(1)", "left = available[example, step]"),
        ("the first follows", "waited[example, step, sender, item] > waited", "waited[example, step, sender, item] < waited"),
        ("waiting is not in a row", "run = (run + 1) * there[:, step]", "run = run + there[:, step]"),
        ("receiver and sender swapped", "yield JOINT, episodes.around(signal, example, step, receiver, sender), example", "yield JOINT, episodes.around(signal, example, step, sender, sender), example"),
    ),
    *of_file(
        "backbones/analyses/company.py", "backbones/test_analyses.py",
        ("company is subtracted", "value = whole - without", "value = whole"),
        ("an agent disputes its own item", "(near.sum(2)[:, :, None] - near) > 0", "near.sum(2)[:, :, None] > 0"),
        ("alone in company", "alone = taken & ~together", "alone = taken"),
        ("company in any order", "network := learners[1].config.network) != WITHOUT", "network := learners[1].config.network) is None"),
    ),
    *of_file(
        "backbones/analyses/_base.py", "backbones/test_analyses.py",
        ("a narrow interval", "[2.5, 97.5]", "[25, 75]"),
    ),
    *of_file(
        "benchmarks/training/analysing.py", "backbones/test_analyses.py",
        ("other settings are the same", '"settings": self._settings(), "checkpoints"', '"settings": {}, "checkpoints"'),
        ("any number of runs", "if surplus < 0 or (surplus > 0 and not kind.several):", "if False:"),
        ("columns of another analysis", "json.dumps(facts).encode() + columns)", "json.dumps(facts).encode())"),
        ("curves of another analysis", "            (folder / name).unlink(missing_ok=True)\n", "            pass\n"),
    ),
    *of_file(
        "backbones/analyses/other_tasks.py", "backbones/test_analyses.py",
        ("no measures of all examples at once", "if name in summary:", "if False:"),
    ),
    *of_file(
        "benchmarks/commands/watch.py", "agents/test_rfm.py",
        ("films show predictions of none", "q is not None and q.numel() and", "q is not None and"),
    ),
]  # fmt: skip
