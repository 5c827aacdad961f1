"""Faults of attention, the transformer and the memories."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "backbones/layers/attention.py", "backbones/test_attention.py",
        ("a block twice", "free = ranks[:, :count, :count].masked_fill(fixed | ~past, 1.0)", "free = ranks[:, :count, :count].masked_fill(~past, 1.0)"),
        ("random blocks from the future", "masked_fill(fixed | ~past, 1.0)", "masked_fill(fixed, 1.0)"),
        ("largest numbers", "topk(min(self.random, count), largest=False)", "topk(min(self.random, count), largest=True)"),
        ("global blocks read little", "(fixed | everyone.T | drawn) & past", "(fixed | drawn) & past"),
        ("window twice as wide", "self.window // 2\n        near", "self.window\n        near"),
        ("last block not global", '[0] * first + [count - 1] * last', '[0] * first'),
        ("same random blocks for all heads", "torch.rand(heads, count, count, generator=generator)", "torch.rand(1, count, count, generator=generator).repeat(heads, 1, 1)"),
        ("random blocks not saved", 'self.register_buffer("ranks", drawn)', 'self.register_buffer("ranks", drawn, persistent=False)'),
        ("old pattern after loading", "lambda module, _: module._read.clear()", "lambda module, _: None"),
        ("blocks of the first head", "table + count * torch.arange(heads", "table + 0 * torch.arange(heads"),
        ("padding in gathered blocks", "exists.unflatten(1, (count, block))[:, table] & (read > 0)[..., None]", "(read > 0)[..., None].expand(-1, -1, -1, block)[None]"),
        ("fewer blocks than the table has", " & (read > 0)[..., None]", ""),
        ("later positions of a gathered block", "mask = mask & (at[:, :, None] <= now[..., None])", "pass"),
        ("global queries read padding", "_attend(x, key, value, exists[:, None, None], self._dropped)", "_attend(x, key, value, torch.ones_like(exists[:, None, None]), self._dropped)"),
        ("rows that read nothing", "out.masked_fill(~some, 0.0)", "out"),
        ("dropout in evaluation", "self.dropout if self.training else 0.0", "self.dropout"),
        ("no later position with padding", "return read.tril() if pattern.causal else read", "return read"),
    ),
    *of_file(
        "backbones/layers/transformer.py", "backbones/test_transformer.py",
        ("no positions", "x = x + self.positions[:length]", "x = x + self.positions[:1]"),
        ("learned tokens are padding", "F.pad(padding, (tokens, 0))", "F.pad(padding, (tokens, 0), value=True)"),
        ("tokens in the output", "x = x[:, tokens:]", "x = x[:, : x.shape[1] - tokens]"),
        ("no residual connection", "x = x + self.dropout(self.attention(attend(x), padding))", "x = self.dropout(self.attention(attend(x), padding))"),
        ("no last norm", "return self.norm(x) if self.pre else x", "return x"),
        ("same random blocks in all layers", 'derive(seed, "random blocks", layer)', 'derive(seed, "random blocks")'),
        ("wide initial weights", "SPREAD = 0.02", "SPREAD = 0.2"),
        ("padding ignored", "x = block(x, padding)", "x = block(x)"),
    ),
]  # fmt: skip
