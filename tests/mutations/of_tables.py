"""Faults of statistics, results and tables."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "benchmarks/tables/analyses.py", "benchmarks/test_analyses_in_reports.py",
        ("large pictures are shown", "and file.stat().st_size <= LARGEST", ""),
        ("other files are shown", "if file.suffix in IMAGES and", "if"),
        ("a damaged analysis has numbers", "                continue\n", "                raise\n"),
        ("unknown numbers", '"-" if x is None else', ""),
    ),
    *of_file(
        "benchmarks/papers/decision_transformer.py", "benchmarks/test_claims_of_decision_transformer.py",
        ("better on one task is enough", "ahead[0] >= 0 and ahead", "ahead[0] >= 0 or ahead"),
        ("no margin on Hopper", "ahead[1] >= MARGIN", "ahead[1] >= 0"),
    ),
    *of_file(
        "benchmarks/tables/statistics.py", "benchmarks/test_statistics.py",
        ("a third left out", "count // 4 : count - count // 4", "count // 3 : count - count // 3"),
        ("left out at one end", "count // 4 : count - count // 4", "count // 4 :"),
        ("ties lost", "np.mean(x >= y, runs_and_tasks)) / 2", "np.mean(x > y, runs_and_tasks)) / 2"),
        ("sample deviation", "np.std(checked, axis=-2)", "np.std(checked, axis=-2, ddof=1)"),
        ("90 % interval", "[0.025, 0.975]", "[0.05, 0.95]"),
        ("whole rows drawn", "size=(BLOCK, runs, tasks))", "size=(BLOCK, runs, 1))"),
        ("equal scores are above", "[..., np.newaxis] > taus", "[..., np.newaxis] >= taus"),
        ("fewer resamples", "RESAMPLES = 50_000", "RESAMPLES = 5_000"),
        ("the same resamples for any seed", "np.random.default_rng(seed)", "np.random.default_rng(0)"),
        ("infinite scores taken", "~np.isfinite(array)", "np.isnan(array)"),
    ),
    *of_file(
        "benchmarks/tables/results.py", "benchmarks/test_results_by_hand.py benchmarks/test_results.py benchmarks/test_table.py",
        ("deviation for mean", "return float(self.columns[prefix + name].mean())", "return float(self.columns[prefix + name].std())"),
        ("one line of a metric", "LAST_LINES = 5", "LAST_LINES = 1"),
        ("pairs by position", "[[measure(of[seed]) for seed in seeds] for of in runs]", "[[measure(x) for x in list(of.values())[: len(seeds)]] for of in runs]"),
        ("tasks by position", "[[column[seed] for column in columns] for seed in seeds]", "[[list(column.values())[i] for column in columns] for i in range(len(seeds))]"),
        ("held-out scores in returns", "return self.score_of(self.mean(self.headline.name, HELD_OUT))", "return self.mean(self.headline.name, HELD_OUT)"),
        ("infinite returns taken", "if not all(np.isfinite(x).all() for x in", "if any(np.isnan(x).any() for x in"),
        ("score in shares", "100 * (mean - low) / (high - low)", "(mean - low) / (high - low)"),
    ),
    *of_file(
        "benchmarks/tables/jobs.py", "benchmarks/test_table.py",
        ("begun runs count as complete", "return folder.complete()", "return True"),
        ("other settings pass", "{**usual.settings, **self.settings}, settings", "{**usual.settings}, settings"),
    ),
    *of_file(
        "benchmarks/tables/defaults.py", "benchmarks/test_table_settings.py",
        ("packages within backbones not hashed", '(backbones, "**/*.py")', '(backbones, "*.py")'),
    ),
    *of_file(
        "benchmarks/tables/methods.py", "benchmarks/test_results_by_hand.py benchmarks/test_methods.py",
        ("runs of other lengths pooled", 'UNDECISIVE | {"env", "seed", "data", "data_size"}', 'UNDECISIVE | {"env", "seed", "data", "data_size", "updates"}'),
        ("runs on other data pooled", '"data_hash": data.get("sha256", "")', '"data_hash": ""'),
        ("a run counts twice", "if key in seen:", "if key in seen and not task:"),
        ("a setting that is absent equals None", "absent = object()", "absent = None"),
    ),
    *of_file(
        "benchmarks/tables/table.py", "benchmarks/test_results.py benchmarks/test_table.py",
        ("returns of several tasks averaged", "_comparable(grid, results) and (scored or len(grid.tasks) == 1)", "_comparable(grid, results)"),
        ("a reported claim counts as failed", 'word not in ("not at this scale", "reported")', 'word not in ("not at this scale",)'),
    ),
    *of_file(
        "benchmarks/tables/summary.py", "benchmarks/test_methods.py",
        ("score in shares", "float(100 * (mean_return - low)", "float((mean_return - low)"),
        ("first evaluation", "[headline.name][-1]", "[headline.name][0]"),
        ("sample deviation", "np.std(scores)", "np.std(scores, ddof=1)"),
    ),
    *of_file(
        "benchmarks/tables/curves.py", "benchmarks/test_report.py",
        ("axis upside down", "_Axis(low, high, BOTTOM, TOP)", "_Axis(low, high, TOP, BOTTOM)"),
        ("band of one bound", "y_axis.at(y.low)) for x, y in reversed", "y_axis.at(y.high)) for x, y in reversed"),
    ),
]  # fmt: skip
