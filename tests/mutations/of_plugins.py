"""Faults of what a new user meets first: plug-ins, own data, words, films and reports."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "rlbench/custom.py", "agents/test_agents.py",
        ("one lack at a time", "{'; it '.join(missing)}", "{missing[0]}"),
        ("any act is accepted", '(1, ("explore", "state"), "obs, *', '(1, (), "obs, *'),
        ("agents that explore need no replay buffer", "(replay if explores else {})", "{}"),
        ("stretches without a length", '            "sequence_length": "steps of a stretch",\n', ""),
        ("a property is no setting", "return {\"envs\": \"environments\"} | ({} if own else steps)", "return {\"envs\": \"environments\"} | steps"),
        ("attributes of a Config do not count", " | set(dir(config))", ""),
    ),
    *of_file(
        "rlbench/streams.py", "rlbench/test_terminal.py",
        ("an error for every character that a stream lacks", 'stream.reconfigure(errors="backslashreplace")', "pass"),
    ),
    *of_file(
        "envs/making.py", "envs/test_tasks.py::test_an_id_that_a_module_registers_is_a_task",
        ("the module of an id is not looked for here", "    module_name = name.partition(\":\")[0]\n    look_in_current_folder()\n", "    module_name = name.partition(\":\")[0]\n"),
    ),
    *of_file(
        "envs/tasks.py", "envs/test_tasks.py::test_an_id_that_a_module_registers_is_a_task",
        ("ids of modules are no custom code", "partial(making.make_of_module, name), imports=name)", "partial(making.make_of_module, name))"),
    ),
    *of_file(
        "envs/recall/names.py", "envs/test_recall.py",
        ("leading zeros", 'if fits and name == f"{PREFIX}{pairs}-{distractors}" else', "if fits else"),
    ),
    *of_file(
        "offline_data/formats/hdf5.py", "offline_data/test_hdf5.py::test_columns_of_one_number_may_be_flat",
        ("flat columns are refused", "flat = shape[:1] if shape[1:] == (1,) else shape", "flat = shape"),
    ),
    *of_file(
        "offline_data/opening.py", "offline_data/test_minari.py",
        ("Minari's folders are no data", "return inside if inside.is_file() else file", "return file"),
        ("every file is D4RL's", "return minari if minari.holds(file) else hdf5", "return hdf5"),
    ),
    *of_file(
        "benchmarks/tables/sweep.py", "benchmarks/test_sweep.py::test_own_data_are_an_option benchmarks/test_sweep.py::test_a_failing_agent_ends_only_its_run_which_is_named",
        ("own data are forgotten", '("updates", "steps", "data", "data_size", "eval_every", "loggers", "callbacks")', '("updates", "data_size", "eval_every")'),
        ("a failing preset is our fault", "                with named_as_users(learner):\n", "                if True:\n"),
    ),
    *of_file(
        "benchmarks/training/progress.py", "benchmarks/test_progress.py",
        ("no percent", '                TextColumn("{task.percentage:.0f}%", markup=False),\n', ""),
        ("a title of any length", "max_width=max(console.width - rest, 1))", "max_width=None)"),
    ),
    *of_file(
        "benchmarks/commands/watch.py", "benchmarks/test_film.py::test_films_carry_the_step_and_the_return",
        ("the last reward is not shown", "            yield Shot(picture, step, total)\n    finally", "    finally"),
        ("the last reward alone", "total + float(np.mean(reward))", "float(np.mean(reward))"),
        ("a strip without text", '    ImageDraw.Draw(strip).text(where, text, fill="white", font=ImageFont.load_default(size))\n', ""),
    ),
    *of_file(
        "benchmarks/tables/films.py", "benchmarks/test_report.py",
        ("films in run folders are ignored", "return next((file for file in found if file.is_file()), None)", "return None"),
        ("no end of new films", "if made <= MAX_FILMS", "if made"),
    ),
    *of_file(
        "benchmarks/tables/report.py", "benchmarks/test_report.py",
        ("repeated runs count", "    return list(first.values()), again\n", "    return [*first.values(), *(x for x, _ in again)], again\n"),
        ("the worst is marked", "first = max(means) if groups", "first = min(means) if groups"),
    ),
    *of_file(
        "benchmarks/tables/sheet.py", "benchmarks/test_table.py::test_every_format_says_the_same",
        ("the row above the best is marked", "rows[1 + row][column] = ", "rows[row][column] = "),
    ),
]  # fmt: skip
