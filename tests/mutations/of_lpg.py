"""Faults of LPG: what the rule reads, what learns from what, what has a gradient."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "agents/_rule.py", "agents/test_lpg_rule.py",
        ("the LSTM is never reset", "constant = torch.full_like(reward, discount)", "keep, constant = torch.ones_like(keep), torch.full_like(reward, discount)"),
        ("another episode's prediction is read", "now, keep * after]", "now, after]"),
        ("the trajectory is read forwards", "for t in reversed(range(len(gates))):", "for t in range(len(gates)):"),
        ("gradients of the wrong states", "torch.cat([x[1:], torch.zeros_like(x[:1])])", "torch.cat([torch.zeros_like(x[:1]), x[:-1]])"),
        ("no gradient through time", "dh, dc = (now @ weight) * reset[t], dc * carried[t]", "dh, dc = torch.zeros_like(dh), dc * carried[t]"),
        ("tanh without its derivative", "o * (1 - bounded.square()), f * reset", "o, f * reset"),
        ("reversed KL", "(log_y.exp() * (log_y - target.log_softmax(-1))).sum(-1)", "(target.softmax(-1) * (target.log_softmax(-1) - log_y)).sum(-1)"),
        ("entropy of logits", "(F.softplus(logits) - p * logits).sum(-1)", "(F.softplus(logits) + p * logits).sum(-1)"),
        ("a new rule moves policies", "        nn.init.zeros_(self.policy_out.bias)\n", ""),
        ("the kind of predictions is forgotten", 'metadata={"prediction": rule.kind}', "metadata={}"),
    ),
    *of_file(
        "agents/_lifetimes.py", "agents/test_lpg_rule.py",
        ("sign of the policy's slope", "slope = (pi - one_hot) * advantage", "slope = (one_hot - pi) * advantage"),
        ("sign of the entropy", "slope = slope + bonus * pi", "slope = slope - bonus * pi"),
        ("no mean in the slope of the KL", "y * (apart - (y * apart).sum(-1, keepdim=True))", "y * apart"),
        ("predictions are detached", "    if detach:\n        y, after", "    if True:\n        y, after"),
        ("the rule reads probabilities with a gradient", "    with torch.no_grad():\n        pi = agents", "    with torch.enable_grad():\n        pi = agents"),
        ("weight of the prediction loss left out", "slope * steps.prediction_weight[:, None, None]", "slope"),
        ("the noise of the sample", "(logits - noise.log()).argmax(-1)", "(logits + noise.log()).argmax(-1)"),
        ("one scale for all agents", "centred.square().mean((0, 2), keepdim=True)", "centred.square().mean()"),
    ),
    *of_file(
        "agents/_populations.py", "agents/test_lpg_rule.py",
        ("workers count as one", "steps = obs.shape[0] * obs.shape[2]\n        new = dict(self.entries)", "steps = obs.shape[0]\n        new = dict(self.entries)"),
        ("all agents share a table", "torch.arange(obs.shape[-2], device=obs.device) * states", "torch.arange(obs.shape[-2], device=obs.device) * 0"),
        ("gradients are not clipped", "return (max_norm / norm).clamp(max=1.0)", "return torch.ones_like(norm)"),
        ("one norm for all agents", "sum(x.square().flatten(1).sum(1) for x in gradients)", "sum(x.square().sum().expand(len(x)) for x in gradients)"),
        ("Adam without its correction", "(mean / (1 - 0.9**steps))", "mean"),
        ("values of states never visited", "torch.where(visits.view_as(table) > 0, table.lerp(mean, rate), table)", "table.lerp(mean, rate)"),
        ("sums of targets", "mean = (total / visits.clamp(min=1))", "mean = total"),
    ),
    *of_file(
        "agents/lpg.py", "agents/test_lpg.py agents/test_on_policy.py",
        ("time limits do not end", "torch.maximum(experience.terminated, experience.truncated)", "experience.terminated"),
        ("sign of the target", "-(log_prob * target).mean()", "(log_prob * target).mean()"),
        ("actions from 0", "action = experience.action - self.form.start", "action = experience.action.clamp(max=self.form.size - 1)"),
        ("tables with random policies", "network(see(), config.hidden, form.size, 0.0)", "network(see(), config.hidden, form.size, 1.0)"),
    ),
    *of_file(
        "agents/lpg_meta.py", "agents/test_lpg_meta.py",
        ("descent instead of ascent", "loss = -gain - sum(", "loss = gain - sum("),
        ("norms are rewarded", '"policy_target": -config.policy_penalty', '"policy_target": config.policy_penalty'),
        ("agents outlive their worlds", "if lifetimes.begun.any():", "if False:"),
        ("a separate world for each rule of a pair", "lifetimes.redraw(copies=2)", "lifetimes.redraw(copies=1)"),
        ("agents are not saved", '| {"population": self.population.tensors()}', '| {"population": self._begin(self.spec, self.generator).tensors()}'),
        ("the step size stays", "ratio**share", "ratio**0"),
        ("returns of unfinished episodes", "over = begun & (self.episodes > 0)", "over = begun"),
    ),
    *of_file(
        "agents/_evolution.py", "agents/test_lpg_meta.py",
        ("the worse of each pair counts", "better = (first - second).sign()", "better = (second - first).sign()"),
        ("no opposites", "x - scale * noise[name]]", "x + scale * noise[name]]"),
    ),
    *of_file(
        "agents/_lives.py", "agents/test_lpg_meta.py",
        ("the first part is left out", "rows[min(i * count // PARTS, end - 1) : end]", "rows[min((i + 1) * count // PARTS, end - 1) : end]"),
        ("A2C without advantages", "normalised(advantage), entropy", "torch.ones_like(advantage), entropy"),
    ),
    *of_file(
        "agents/_bandit.py", "agents/test_lpg_meta.py",
        ("old returns stay", "self.trials[arm] % MEMORY", "self.trials[arm].clamp(max=MEMORY - 1)"),
        ("no temperature", ") / TEMPERATURE", ")"),
        ("the worse is drawn", "weight.softmax(0)", "(-weight).softmax(0)"),
    ),
    *of_file(
        "agents/_probe.py", "agents/test_lpg_meta.py",
        ("policies continue to learn", 'parts=("prediction",)', 'parts=("policy", "prediction")'),
        ("the fit sees the test", "fitted = max(1, int(TRAINING_SHARE * len(weight)))", "fitted = len(weight)"),
    ),
    *of_file(
        "benchmarks/training/drivers.py", "agents/test_lpg_meta.py",
        ("lifetimes never end", "        self._lifetimes.renew()\n", ""),
    ),
    *of_file(
        "envs/grids/lifetimes.py", "agents/test_lpg_meta.py envs/test_grids.py",
        ("lifetimes do not age", "self.age = self.age + steps", "self.age = self.age"),
        ("all of one age", "torch.arange(count, device=worlds.device) * length // count", "torch.zeros_like(self.age)"),
    ),
]  # fmt: skip
