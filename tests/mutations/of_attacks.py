"""Faults of attacks, of the analysis that makes them, and of the claims about them."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "backbones/layers/attacks.py",
        "backbones/test_attacks.py",
        (
            "a step down the objective",
            "moved = ball.projected(x, moved + ball.step(gradient, size))",
            "moved = ball.projected(x, moved - ball.step(gradient, size))",
        ),
        (
            "steps from the input",
            "moved = ball.projected(x, moved + ball.step(gradient, size))",
            "moved = ball.projected(x, x + ball.step(gradient, size))",
        ),
        (
            "a ball around the last point",
            "moved = ball.projected(x, moved + ball.step(gradient, size))",
            "moved = ball.projected(moved, moved + ball.step(gradient, size))",
        ),
        (
            "a gradient that is not normalised",
            "return size * towards / lengths(towards).clamp(min=1e-12) * self.unit",
            "return size * towards * self.unit",
        ),
        (
            "a step in the unit of the input",
            "towards = self.unit * gradient",
            "towards = gradient / (self.unit + (self.unit == 0))",
        ),
        (
            "signs without units",
            "return size * self.unit * gradient.sign()",
            "return size * gradient.sign()",
        ),
        (
            "out of the ball, largest norm",
            "return x + away.clamp(-reach, reach)",
            "return x + away",
        ),
        ("out of the ball, Euclidean norm", ".clamp(max=1.0)", ".clamp(max=9.0)"),
        ("out of the box", "away = self._boxed(x, moved) - x", "away = moved - x"),
        (
            "into the box at any price",
            "moved.clamp(x.clamp(max=self.low), x.clamp(min=self.high))",
            "moved.clamp(self.low, self.high)",
        ),
        ("starts near the surface", "** (1 / x[0].numel())", "** (1 / x[0].numel() / 3)"),
        ("positive starts", "(2 * drawn - 1)", "drawn"),
        ("noise that is cut off at the box", "torch.where(outside, -away, away)", "away"),
        (
            "one step for the other norm",
            'STEP = {"linf": 2.5, "l2": 2.0}',
            'STEP = {"linf": 2.0, "l2": 2.5}',
        ),
        (
            "weights get gradients",
            "(found,) = torch.autograd.grad(output(start).sum(), start, create_graph=again)",
            "output(start).sum().backward()\n        found = start.grad",
        ),
        ("gradients that cannot be differentiated", "start, create_graph=again)", "start)"),
        (
            "no gradient without a start",
            "x if generator is None else ball.start(x, generator))",
            "x)",
        ),
        (
            "probabilities that saturate",
            "return scores[mine] - scores.masked_fill(mine, -torch.inf).logsumexp(dim=1)",
            "p = scores.softmax(dim=1)[mine]\n    return (p / (1 - p)).log()",
        ),
        (
            "the targeted attack flees",
            "return lambda x: log_odds(scores(x), answer)",
            "return lambda x: -log_odds(scores(x), answer)",
        ),
        (
            "the smallest weight",
            "least, found[i], reached[i] = weight, near[0], True",
            "most, found[i], reached[i] = weight, near[0], True",
        ),
        (
            "an arithmetic mean of weights",
            "weight = (least * most) ** 0.5",
            "weight = (least + most) / 2",
        ),
        (
            "failures returned",
            "            else:\n                most = weight",
            "            else:\n                most, found[i] = weight, near[0]",
        ),
        (
            "a distance without squares",
            "(moved - x).square().sum() + F.cross",
            "(moved - x).abs().sum() + F.cross",
        ),
        ("no box in L-BFGS", "bounds=[box] * start.size", "bounds=None"),
        ("a sum of squares", ".square().mean(dim=1).sqrt()", ".square().sum(dim=1).sqrt()"),
    ),
    *of_file(
        "backbones/layers/smoothing.py",
        "backbones/test_smoothing.py",
        ("images leave their box", "if bounded else", "if not bounded else"),
    ),
    *of_file(
        "backbones/analyses/adversarial.py",
        "backbones/test_adversarial.py",
        ("noise instead of PGD", 'if attack == "noise":', 'if attack != "fgsm":'),
        ("no state", "return first.scores(z, state)", "return first.scores(z)"),
        (
            "each run attacks itself",
            "return self.play(\n                    self.task, config.episodes, config.explore, perturb=perturb, run=run\n                )",
            "return self.play(\n                    self.task, config.episodes, config.explore, perturb=perturb, run=0\n                )",
        ),
        ("no deviations", "seen.std(dim=0), seen.amin", "1.0, seen.amin"),
        ("continuous actions without a start", "None if discrete else self._generator", "None"),
        ("continuous actions as choices", "(untargeted if discrete else displacing)", "untargeted"),
        (
            "the first number of examples is ignored",
            "given.take(slice(self.config.examples))",
            "given",
        ),
        (
            "pictures of bytes divided twice",
            "return first.scale * self._moved(",
            "return self._moved(",
        ),
        (
            "always without exploration",
            "config.episodes, config.explore,",
            "config.episodes, False,",
        ),
        ("L-BFGS towards the answer", "torch.randint(1, own.shape[1]", "torch.randint(0, 1"),
        (
            "noise of another norm",
            'ball = Ball("l2", lengths(moved - x), low',
            'ball = Ball("l2", 3 * lengths(moved - x), low',
        ),
        (
            "errors of the first run",
            "1 - float(_right(run, moved, truth).mean())",
            "1 - float(_right(first, moved, truth).mean())",
        ),
        ("the change without a grey zero", "0.5 + change / (2 *", "change / (1 *"),
        ("the smallest budget shown", "max(self.config.budgets)", "min(self.config.budgets)"),
        (
            "memories in transfer",
            "if len(self._runs) > 1 and agent",
            "if len(self._runs) > 9 and agent",
        ),
    ),
    *of_file(
        "benchmarks/papers/adversarial_examples.py",
        "benchmarks/test_claims_of_attacks.py",
        ("a transfer of twice the noise", "attack >= 3 * noise", "attack >= 2 * noise"),
        ("a weaker PGD at a larger budget", "(np.diff(pgd, axis=1) <= 0).all()", "True"),
        ("noise that stops the agent", '& (x["noise"] >= 0.8)', ""),
        ("some agent", "np.any(special, axis=0).all()", "np.any(special)"),
    ),
    *of_file(
        "benchmarks/tables/paper.py",
        "benchmarks/test_claims_of_attacks.py",
        ("the same seed as its neighbour", "(method, (seed + 1) % self.seeds)", "(method, seed)"),
    ),
]
