"""Faults of Everybody Dance Now, of its source and of its films."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "backbones/layers/translation.py", "backbones/test_dance.py",
        ("real is not 1", "judgement(real, 1.0)", "judgement(real, 0.0)"),
        ("scores of one layer before", "(each[-1] - wanted)", "(each[-2] - wanted)"),
        ("scores are matched too", "zip(one[:-1], other[:-1], strict=True)", "zip(one, other, strict=True)"),
        ("matching without the number of discriminators", "(LAYERS * len(real))", "LAYERS"),
        ("the real side learns to match", "(x.detach(), y)", "(x, y)"),
        ("weights from the fine end", "WEIGHTS[-len(real) :]", "WEIGHTS[: len(real)]"),
        ("no smaller pictures", "            if number:\n", "            if False:\n"),
        ("padding in the mean", "count_include_pad=False", "count_include_pad=True"),
        ("no shortcut", "return x + self.layers(x)", "return self.layers(x)"),
    ),
    *of_file(
        "backbones/layers/similarity.py", "backbones/test_dance.py",
        ("variances of one picture", "(xx - m_x**2 + yy - m_y**2 + C_2)", "(2 * xx - 2 * m_x**2 + C_2)"),
        ("constants swapped", "C_1, C_2 = 0.01**2, 0.03**2", "C_1, C_2 = 0.03**2, 0.01**2"),
        ("window without its middle", "- WINDOW // 2", "- WINDOW // 2 - 1"),
    ),
    *of_file(
        "backbones/models/_clips.py", "backbones/test_dance.py",
        ("column and row swapped", "first[:, 1, None, None] + along[:, None], first[:, 0, None, None]", "first[:, 0, None, None] + along[:, None], first[:, 1, None, None]"),
        ("squares beyond the picture", ".clamp(min=0).minimum(limits)", ".clamp(min=0)"),
        ("flicker of frames", "change = (made.diff(dim=1) - true.diff(dim=1))", "change = (made - true)[:, 1:]"),
        ("flicker everywhere", "near = torch.maximum(mask[:, 1:], mask[:, :-1])", "near = torch.ones_like(mask[:, 1:])"),
        ("pictures changed in place", "out = pictures.movedim(1, -1).clone()", "out = pictures.movedim(1, -1)"),
    ),
    *of_file(
        "backbones/models/dance.py", "backbones/test_dance.py",
        ("always the frame before", "before if self.config.smoothing else None", "before"),
        ("frames drawn alone in training", "made = [first, self.drawn(s[1], first)]", "made = [first, self.drawn(s[1], None)]"),
        ("discriminators teach the generator", "self.judge(fake.detach()))", "self.judge(fake))"),
        ("the face from the start", "self.updates > self.config.face_after", "self.updates >= self.config.face_after"),
        ("no correction", "square + residual", "square"),
        ("the face is not measured", "        if self.has_face:\n            sticks, flat", "        if False:\n            sticks, flat"),
        ("the network of the loss learns", "        freeze(self.encoder)\n", ""),
        ("each frame after none", "made[-1] if made else None", "None"),
        ("values of the wrong range", "127.5 * (self.clip(obs)", "255 * (self.clip(obs)"),
    ),
    *of_file(
        "backbones/models/nearest_frame.py", "backbones/test_nearest_frame.py",
        ("the farthest frame", "masked_fill(~self.stored, torch.inf).argmin(dim=1)", "argmax(dim=1)"),
        ("always the first places", "self.next = (self.next + len(obs)) % len(self.stored)", "self.next = 0"),
        ("sticks not blurred", "F.avg_pool2d(moved(obs), BLOCK)", "F.max_pool2d(moved(obs), BLOCK)"),
    ),
    *of_file(
        "envs/examples/motion_pairs.py", "envs/test_motion_pairs.py",
        ("no normalisation", 'self.target.ends() if split == "train" else self.normalised(self.source.ends())', 'self.target.ends() if split == "train" else self.source.ends()'),
        ("stick figures of the target in tests", 'if split == "train" else', "if True else"),
        ("not on the floor", ' -= self._lowest()', " -= 0 * self._lowest()"),
        ("equal movements in tests", '"motion-pairs", self.family, split', '"motion-pairs", self.family'),
        ("lines without ends", "np.clip((centre * along).sum(-1) / length, 0, 1)", "(centre * along).sum(-1) / length"),
        ("rows and columns swapped", "(points - (source.column, source.row))", "(points - (source.row, source.column))"),
        ("another factor", "factor = target.height / source.height", "factor = source.height / target.height"),
        ("the face is another part", "geoms.index(FACES[self.family])", "geoms.index(FACES[self.family]) - 1"),
    ),
    *of_file(
        "benchmarks/commands/dancing.py", "benchmarks/test_dancing.py",
        ("the last episode goes on", "            past.clear()\n", "            pass\n"),
        ("each frame after none", "past[0] if past else None", "None"),
        ("any robot", "world.model.nq != original._model.nq or not", "False and not"),
    ),
    *of_file(
        "benchmarks/papers/everybody_dance_now.py", "benchmarks/test_claims_of_dance.py",
        ("flicker may be equal", "flicker[smoothed] <= FLICKER * flicker[single]", "flicker[smoothed] <= flicker[single]"),
        ("similarity does not count", "and similarity[smoothed] >= similarity[single] - SIMILARITY", "and True"),
        ("the face may be as before", "after <= FACE * before", "after <= before"),
    ),
]  # fmt: skip
