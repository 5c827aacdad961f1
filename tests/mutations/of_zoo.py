"""Mutations of the trained agents that come with the package, of the stand-in for PyTorch, and of the speed benchmark."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "benchmarks/zoo/__init__.py", "benchmarks/test_zoo.py",
        ("any folder outside the package", "if name not in names():", "if False:"),
        ("written into the package", "    if folder == run:\n        return run\n", "    return folder\n"),
        ("a new copy each time", "return out if is_copy else copy(folder.name, out)", "return copy(folder.name, out)"),
        ("copied in place", "write_atomically(part / file", "write_atomically(out / file"),
        ("rules are unknown names", "if name in RULES:", "if False:"),
        ("capitals are not understood", "get_close_matches(name.lower()", "get_close_matches(name"),
        ("a copy that no command finds", "new_folder_atomically(located(out))", "new_folder_atomically(out)"),
    ),
    *of_file(
        "rlbench/files.py", "rlbench/test_files.py",
        ("a folder is replaced", "    if os.path.lexists(path):\n", "    if False:\n"),
        ("a private folder", "            folder.mkdir()\n", "            folder.mkdir(0o700)\n"),
        ("no words for a folder that appeared", '    errno.ENOTEMPTY: f"it exists already; {_OTHER_FOLDER}",\n', ""),
    ),
    *of_file(
        "benchmarks/training/finding.py", "benchmarks/test_zoo.py",
        ("rests of a kill are runs", " and not _is_temporary(path)", ""),
        ("folders that look like names", "place = located(folder)", "place = folder"),
    ),
    *of_file(
        "benchmarks/commands/run.py", "benchmarks/test_zoo.py",
        ("a resume writes into the package", "if located(path) != path:", "if False:"),
    ),
    *of_file(
        "benchmarks/tables/methods.py", "benchmarks/test_methods.py",
        ("imported models are averaged", 'if model := config.get("imported"):', "if model := None:"),
    ),
    *of_file(
        "offline_data/recording/sb3_policy.py", "offline_data/test_sb3_policy.py",
        ("only the outer zip is small", "        with zipfile.ZipFile(io.BytesIO(blob)) as archive:\n            _refuse_large(archive)\n", ""),
        ("any shapes", "if not _fit_together(layers):", "if False:"),
        ("weights that are not finite", "if not all(bool(x.isfinite().all())", "if False and not all(bool(x.isfinite().all())"),
    ),
    *of_file(
        "benchmarks/zoo/cards.py", "benchmarks/test_zoo.py",
        ("settings of the preset are repeated", "learner.Config(**learner.preset(given[\"env\"], given[\"updates\"]))", "learner.Config()"),
        ("switches without no", 'return [f"--{flag}" if value else f"--no-{flag}"]', 'return [f"--{flag}"]'),
        ("options of the run are missing", "for values, known in ((options, usual), (config", "for values, known in ((config"),
        ("a return in place of a score", "if measure == RETURN and (scored", "if False and (scored"),
    ),
    *of_file(
        "benchmarks/zoo/sb3.py", "benchmarks/test_zoo_import.py",
        ("layers of the default size", '"hidden": tuple(len(bias) for _, bias in layers_of(weights, family)[:-1]),', ""),
        ("always ReLU", '"activation": activation_of(model, family, about),', '"activation": "ReLU",'),
        ("A2C becomes PPO", 'if "clip_range" in about else "sb3-a2c"', 'if True else "sb3-a2c"'),
        ("always two critics", 'settings["critics"] = ', "len = "),
        ("weights are not loaded", "agent.policy.load_state_dict(weights)", "pass"),
        ("a task that does not fit", "    SB3Policy(model, run.world.observation_space, run.world.action_space)\n", ""),
        ("written in place", "write(part, ", "write(run.folder.path, "),
        ("a malformed count", "if isinstance(counted, int) else 1", "if counted else 1"),
    ),
    *of_file(
        "benchmarks/training/loading.py", "agents/test_team.py benchmarks/test_zoo.py",
        ("optimisers are kept", "isinstance(parts.get(name), (Generator, *OPTIMISERS))", "isinstance(parts.get(name), Generator)"),
        ("generators are kept", "isinstance(parts.get(name), (Generator, *OPTIMISERS))", "isinstance(parts.get(name), OPTIMISERS)"),
        ("optimisers are missing", "or (weights_only and isinstance(value, OPTIMISERS))", ""),
        ("members keep their optimisers", "weights_of(part) if isinstance(part := parts.get(name), Learner) else x", "x"),
    ),
    *of_file(
        "rlbench/stand_in.py", "rlbench/test_stand_in.py",
        ("the real PyTorch is found first", "sys.meta_path.insert(0, finder)", "sys.meta_path.append(finder)"),
        ("modules with placeholders stay", "del sys.modules[name]", "pass"),
        ("parts of packages stay", "if _package(name) in packages:", 'if name.startswith("rlbench.") or _has_placeholders(sys.modules[name]):'),
        ("conditions are true", 'raise TypeError("the value is only known with PyTorch")', "return True"),
        ("code of other packages runs", "issubclass(type(x), kinds)", "isinstance(x, kinds)"),
        ("custom code fails", "    except Exception:  # noqa: BLE001  (Custom code may fail in any way.)\n        show()\n", "    finally:\n        pass\n"),
        ("no arithmetic with placeholders", "setattr(_kind, f\"__{_operation}__\", _itself)", "pass"),
    ),
    *of_file(
        "rlbench/accelerate/thin.py", "rlbench/test_thin.py",
        ("the wrong sum", "(a.mT * b).sum(-2, keepdim=True)", "(a.mT * b).sum(-1, keepdim=True)"),
        ("columns not summed", "(a * b.mT).sum(-1, keepdim=True)", "a * b.mT"),
        ("factors are ignored", "if beta == alpha == 1 else NotImplemented", ""),
        ("nothing is added", "else added + found", "else found"),
    ),
    *of_file(
        "rlbench/accelerate/trace.py", "rlbench/test_thin.py",
        ("no replacements in a trace", '_DECOMPOSED | (THIN if learner.device.type == "cpu" else {})', "_DECOMPOSED"),
    ),
    *of_file(
        "benchmarks/speed/aims.py", "benchmarks/test_speed.py",
        ("targets beyond the products", "min(self.ratio, SHARE * limit)", "self.ratio"),
    ),
    *of_file(
        "benchmarks/speed/__main__.py", "benchmarks/test_speed.py",
        ("a missing peer passes", "            faults.append(\n                f\"{ours} was not compared", "            str(\n                f\"{ours} was not compared"),
        ("a slow update passes", "if reached < SLACK * target:", "if False:"),
        ("one dead worker ends the benchmark", "            except WorkerDied:\n                leave_out(name)\n        for", "            except ZeroDivisionError:\n                leave_out(name)\n        for"),
    ),
    *of_file(
        "benchmarks/speed/worker.py", "benchmarks/test_speed.py",
        ("the slowest kernel", "return min(ways, key=", "return max(ways, key="),
        ("no thin kernel", "if thin.product(a, b) is not NotImplemented:", "if False:"),
    ),
]  # fmt: skip
