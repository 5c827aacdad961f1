"""Faults of ways of training in agents: tickets of PPO, learned rewards, recorded tasks."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "agents/tickets_ppo.py", "agents/test_tickets_ppo.py",
        ("the trained weights as the ticket", "self.network.load_state_dict(self.early.state_dict())", "pass"),
        ("the smallest weights are kept", "score(config.criterion, *x)", "-score(config.criterion, *x)"),
        ("pruned weights return", "[x != 0 for x in last]", "[x == x for x in last]"),
        ("one pruning more", "if passed == 0 and 0 < rounds <= config.rounds:", "if passed == 0 and 0 < rounds:"),
        ("pruned at the first update", "if passed == 0 and 0 < rounds <=", "if passed == 0 and rounds <="),
        ("the optimiser goes on", "state.zero_()", "pass"),
        ("zeros that learn", "zeros=keep\"", "zeros=learn\""),
        ("the first weights whatever the setting", "if self.updates == config.rewind_updates:", "if self.updates == 0:"),
        ("a ticket with all weights", "        self._keep_ticket()\n        for state", "        for state"),
        ("other runs take the trained encoder", "self.ticket: Encoder | None = None\n        super", "super"),
        ("biases are pruned too", "if x.dim() > 1]", "]"),
        ("a frozen encoder", "if self.encoder is None or self.freeze:", "if self.encoder is None:"),
        ("a round without updates to rewind to", "if self.rewind_updates >= self.round_updates:", "if self.rewind_updates > self.round_updates:"),
        ("an encoder without weights", "if not self._prunable(self._encoder):", "if False:"),
    ),
    *of_file(
        "agents/success_ppo.py", "agents/test_success_ppo.py",
        ("observations before the step", "after = rollout.final_obs", "after = rollout.obs"),
        ("another class", "return probabilities[:, self.config.success]", "return probabilities[:, 0]"),
        ("rewards of the environment", "replace(rollout, reward=success_reward(success))", "replace(rollout, reward=success_reward(success) + rollout.reward)"),
        ("any encoder", "if not isinstance(self.classifier.layers, Classes):", "if False:"),
        ("a class that does not exist", "if config.success >= self.classifier.size:", "if config.success > self.classifier.size:"),
    ),
    *of_file(
        "backbones/encoders/classes.py", "backbones/test_classes.py",
        ("logits", "self.classifier(obs).softmax(dim=-1)", "self.classifier(obs)"),
        ("weights that learn", "freeze(self.classifier)", "pass"),
        ("runs of mixmatch are refused", '("classifier", "mixmatch")', '("classifier",)'),
        ("one class", "within(\"classes\", TWO, classes=classes)", "pass"),
    ),
    *of_file(
        "envs/examples/room_goals.py", "envs/test_room_goals.py",
        ("labels of other pictures", '"label": label[rows]', '"label": label[rows[::-1]]'),
        ("as many goals without labels", "rng.random(size) < REACHED", "rng.random(size) < 0.5"),
        ("labels in one part alone", "[rng.permutation(self._labelled) for _", "[np.zeros(self._labelled, int) for _"),
        ("the agent on the goal without a label", "int(rng.integers(inside - 1))", "int(rng.integers(inside))"),
        ("odd numbers", "or number % 2:", "or False:"),
        ("one split for both", 'derive(seed, "room-goals", split, self._labelled)', 'derive(0, "room-goals", split, self._labelled)'),
    ),
    *of_file(
        "benchmarks/tables/paper.py", "benchmarks/test_recordings.py",
        ("one file for all seeds", 'f"{folder_name(self.name)}-s{seed}.npz"', 'f"{folder_name(self.name)}.npz"'),
        ("models before their agents", "if grid.recordings or any(", "if any("),
        ("the task has the name of the file", "recorded = task if task in recordings else \"\"", "recorded = \"\""),
    ),
    *of_file(
        "benchmarks/tables/table.py", "benchmarks/test_recordings.py",
        ("recorded again", "if file.exists() or not", "if not"),
        ("clients without clients", "if recording.clients:", "if False:"),
        ("an error ends the table", "        except UserError as error:\n            console.print(f\"{file}: {error}\", soft_wrap=True)", "        except ZeroDivisionError:\n            pass"),
    ),
    *of_file(
        "benchmarks/training/teaching.py", "benchmarks/test_teaching.py",
        ("scores of agents with a memory", "if not remembers and type", "if type"),
        ("scores of every agent", "and type(agent).scores is not Learner.scores:", ":"),
        ("only the first scores", "torch.cat(found).cpu()", "torch.cat(found[:1] * len(found))[:len(obs)].cpu()"),
        ("observations as bytes", "agent.scores(as_tensor(part, agent).float())", "agent.scores(as_tensor(part, agent))"),
    ),
    *of_file(
        "benchmarks/training/analysing.py", "backbones/test_analyses.py",
        ("results of other settings are replaced", 'return facts["settings"] == self._settings() and names', "return names"),
        ("results of other runs are replaced", 'return facts["settings"] == self._settings() and names == [x.name for x in self.runs]', 'return facts["settings"] == self._settings()'),
    ),
]  # fmt: skip
