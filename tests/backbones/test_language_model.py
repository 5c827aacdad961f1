"""The language model: masks, losses and head by hand, and equality with an independent BERT."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.transformer import TokenTransformer
from rlbench.backbones.models.language_model import (
    HIDDEN,
    LanguageModel,
    LanguageModelConfig,
    TiedHead,
    losses,
    masked,
    mean_where,
)
from rlbench.backbones.optim import Adam, AdamW, warm_up_and_decay
from rlbench.benchmarks.training.config import RunConfig
from rlbench.benchmarks.training.evaluation import ExamplesEvaluator
from rlbench.benchmarks.training.runner import Run
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.sequences import CLS, MASK, PAD, SPECIAL, TokenSequence
from tests.kill_and_resume import assert_equal
from tests.networks import equal, same, tensors

SPACE = TokenSequence((*SPECIAL, "a", "b", "c", "d"), 8)
SPEC: dict[str, Any] = {"obs": SPACE}
SMALL = "transformer:width=8,layers=1,heads=2,units=16,length=8"
PAST = f"{SMALL},reads=past"


def make(seed: int = 0, encoder: str = SMALL, **settings: Any) -> LanguageModel:
    return LanguageModel(LanguageModelConfig(encoder=encoder, **settings), SPEC, seed=seed)


def batch(seed: int = 0, rows: int = 16) -> Examples:
    """Sequences in which each word follows from the one before, of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(4, (rows, 1), generator=generator)
    words = 3 + (first + torch.arange(7)) % 4
    length = torch.randint(3, 8, (rows, 1), generator=generator)
    words = words.masked_fill(torch.arange(7) >= length, PAD)
    cls = torch.full((rows, 1), CLS)
    return Examples({"obs": torch.cat([cls, words], 1).to(torch.uint8)})


def train(model: LanguageModel, updates: int, first: int = 0) -> LanguageModel:
    for seed in range(first, first + updates):
        model.learn(batch(seed))
    return model


def test_masks_by_hand() -> None:
    tokens = torch.tensor([[CLS, 3, 4, 5, 6, 3, 4, PAD], [CLS, 5, PAD, PAD, PAD, PAD, PAD, PAD]])
    order = torch.tensor([[0.0, 0.9, 0.1, 0.2, 0.3, 0.8, 0.7, 0.0]]).repeat(2, 1)
    kind = torch.tensor([[0.0, 0.0, 0.79, 0.81, 0.95, 0.0, 0.0, 0.0]]).repeat(2, 1)
    word = torch.full_like(tokens, 6)
    # Half of 6 words; a single word is chosen whatever the share.
    given, chosen = masked(tokens, 0.5, order, kind, word)
    assert chosen.int().tolist() == [[0, 0, 1, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]]
    assert given.tolist() == [
        [CLS, 3, MASK, 6, 6, 3, 4, PAD],
        [CLS, MASK, PAD, PAD, PAD, PAD, PAD, PAD],
    ]
    _, chosen = masked(tokens, 0.15, order, kind, word)
    assert chosen.sum(1).tolist() == [1, 1]


def test_shares_of_hidden_replaced_and_kept_tokens() -> None:
    model = make()
    tokens = batch(rows=4_000)["obs"].long()
    given, target, chosen = model.problem(tokens, torch.Generator().manual_seed(0))
    assert torch.equal(target, tokens)
    assert not chosen[tokens < len(SPECIAL)].any()
    assert torch.equal(given[~chosen], tokens[~chosen])
    hidden = (given[chosen] == MASK).float().mean()
    kept = (given[chosen] == tokens[chosen]).float().mean()
    assert hidden == pytest.approx(HIDDEN, abs=0.02)
    # A random word is the right one in a quarter of the cases.
    assert kept == pytest.approx(0.1 + 0.1 / 4, abs=0.02)
    replaced = given[chosen & (given != MASK) & (given != tokens)]
    assert set(replaced.tolist()) == {3, 4, 5, 6}


def test_the_loss_counts_only_chosen_places() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 1, 2] = math.log(3)
    tokens = torch.tensor([[0, 2, 0], [1, 1, 1]])
    chosen = torch.tensor([[False, True, False], [True, False, False]])
    found = losses(logits, tokens)
    # Probabilities 3/6 and 1/4.
    torch.testing.assert_close(found[0, 1], torch.tensor(math.log(2)))
    torch.testing.assert_close(found[1, 0], torch.tensor(math.log(4)))
    torch.testing.assert_close(mean_where(found, chosen), torch.tensor(math.log(8) / 2))
    torch.testing.assert_close(
        mean_where(found, chosen, dim=1), torch.tensor([math.log(2), math.log(4)])
    )
    assert mean_where(found, torch.zeros_like(chosen)) == 0


def test_learning_reports_the_loss_at_the_chosen_places() -> None:
    model, obs = make(), batch()["obs"]
    again = torch.Generator()
    again.set_state(model.generator.get_state())
    given, tokens, chosen = model.problem(obs, again)
    assert 0 < chosen.sum() < (tokens != PAD).sum()
    expected = losses(model.logits(given), tokens)[chosen].mean()
    torch.testing.assert_close(model.learn(batch())["loss"], expected.detach())


def test_the_head_is_tied_to_the_embedding() -> None:
    head = TiedHead(2, 3)
    with torch.no_grad():
        head.dense.weight.copy_(torch.eye(2))
        head.bias.copy_(torch.tensor([0.0, 0.0, 5.0]))
    embedding = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    # gelu keeps the order, and the norm of two numbers is (1, -1).
    logits = head(torch.tensor([[3.0, 1.0]]), embedding)
    torch.testing.assert_close(logits, torch.tensor([[1.0, -1.0, 5.0]]), rtol=1e-4, atol=1e-4)
    model = make()
    layers = model.encoder.layers
    assert isinstance(layers, TokenTransformer)
    features = layers.places(batch()["obs"]).detach()
    out = model.head(features, layers.embedding.weight)
    (gradient,) = torch.autograd.grad(out.sum(), layers.embedding.weight)
    assert (gradient.abs().sum(1) > 0).all()


def test_from_left_to_right_each_place_predicts_the_next_token() -> None:
    model = make(encoder=PAST)
    tokens = torch.tensor([[CLS, 3, 4, 5, 6, PAD, PAD, PAD]])
    given, target, counted = model.problem(tokens, model.generator)
    assert given.tolist() == [[CLS, 3, 4, 5, 6, PAD, PAD]]
    assert target.tolist() == [[3, 4, 5, 6, PAD, PAD, PAD]]
    assert counted.int().tolist() == [[1, 1, 1, 1, 0, 0, 0]]
    other = tokens.clone()
    other[0, 3] = 6
    before, after = model.logits(tokens), model.logits(other)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:5], after[:, 3:5])
    both = make()
    assert not torch.allclose(both.logits(tokens)[:, :3], both.logits(other)[:, :3])


@pytest.mark.parametrize("encoder", [SMALL, PAST])
def test_padding_changes_nothing(encoder: str) -> None:
    network = make_encoder(encoder, SPACE)
    short = torch.tensor([[CLS, 3, 4, 5]])
    long = torch.tensor([[CLS, 3, 4, 5, PAD, PAD, PAD, PAD]])
    torch.testing.assert_close(network(short), network(long))
    layers = network.layers
    assert isinstance(layers, TokenTransformer)
    torch.testing.assert_close(network(long), layers.places(long)[:, :4].mean(1))
    assert torch.isfinite(network(torch.zeros(1, 8))).all()
    # Of one token: the first, or the last that is not padding.
    layers.pool = "token"
    place = 3 if layers.causal else 0
    torch.testing.assert_close(network(long), layers.places(long)[:, place])
    assert torch.isfinite(network(torch.zeros(1, 8))).all()
    made = make_encoder(f"{encoder},pool=token", SPACE).layers
    assert isinstance(made, TokenTransformer)
    assert made.pool == "token"


@pytest.mark.parametrize("encoder", [SMALL, PAST])
def test_it_learns_the_rule_of_a_language(encoder: str) -> None:
    wide = encoder.replace("width=8", "width=32")
    model = train(make(encoder=wide, learning_rate=0.01, mask_share=0.3), 150)
    found = model.measure(batch(999, rows=200))
    # From left to right the first word is a guess among four.
    limit = 0.7 if encoder == PAST else 0.9
    assert found["accuracy"].mean() > limit
    assert found["loss"].mean() < 0.6
    assert found["loss"].shape == (200,)


def test_a_warm_up_and_a_decay_by_hand() -> None:
    found = [warm_up_and_decay(x) for x in (0.0, 0.05, 0.1, 0.55, 1.0, 2.0)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0, 0.0])
    model = make(learning_rate=0.1, decay_updates=9)
    rates = []
    for seed in range(11):
        model.learn(batch(seed))
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.1 * warm_up_and_decay((i + 1) / 10) for i in range(11)])
    assert (rates[0], rates[9]) == pytest.approx((0.1, 0.0))
    assert LanguageModel.preset("missions", 77) == {"decay_updates": 77}
    assert float(train(make(learning_rate=0.1), 1).optimizer.learning_rate) == pytest.approx(0.1)


def test_adam_with_decoupled_decay_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    mine = nn.Linear(4, 3)
    theirs = nn.Linear(4, 3)
    theirs.load_state_dict(mine.state_dict())
    own = AdamW(mine.parameters(), 0.1, epsilon=1e-6, decay=0.5)
    groups = [
        {"params": [theirs.weight], "weight_decay": 0.5},
        {"params": [theirs.bias], "weight_decay": 0.0},
    ]
    other = torch.optim.AdamW(groups, lr=0.1, eps=1e-6)
    plain = nn.Linear(4, 3)
    plain.load_state_dict(mine.state_dict())
    without = Adam(plain.parameters(), 0.1)
    for _ in range(5):
        x = torch.randn(8, 4)
        for network, optimizer in ((mine, own), (plain, without)):
            loss = network(x).square().mean()
            optimizer.step(torch.autograd.grad(loss, optimizer.parameters))
        other.zero_grad()
        theirs(x).square().mean().backward()
        other.step()
    torch.testing.assert_close(mine.weight, theirs.weight)
    torch.testing.assert_close(mine.bias, theirs.bias)
    assert not torch.allclose(mine.weight, plain.weight, atol=1e-3)


CHANGES: dict[str, Any] = {
    "encoder": SMALL.replace("units=16", "units=8"),
    "mask_share": 0.5,
    "learning_rate": 0.01,
    "decay_updates": 5,
    "weight_decay": 0.5,
    "max_grad_norm": 0.01,
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_setting_has_an_effect(field: str) -> None:
    usual, changed = (
        {k: v for k, v in tensors(train(make(**own), 3).state_dict()).items() if "/encoder/" in k}
        for own in ({}, {field: CHANGES[field]})
    )
    assert not same(usual, changed)


def test_measuring_changes_nothing_and_looks_at_each_sequence_by_itself() -> None:
    encoder = f"{PAST},dropout=0.3"
    model, quiet = (train(make(encoder=encoder), 2) for _ in range(2))
    examples = batch(5, rows=6)
    whole = ExamplesEvaluator(examples).columns(model, seed=0)
    again = ExamplesEvaluator(examples).columns(model, seed=0)
    assert all((whole[name] == again[name]).all() for name in whole)
    assert equal(model, quiet)
    for row in range(6):
        one = ExamplesEvaluator(examples.take(slice(row, row + 1))).columns(model, seed=0)
        assert one["loss"] == pytest.approx(whole["loss"][row], rel=1e-4)
    assert equal(train(model, 2, first=2), train(quiet, 2, first=2))


def test_measuring_draws_masks_of_its_own() -> None:
    model, quiet = (train(make(), 2) for _ in range(2))
    found = [model.measure(batch(5))["loss"] for _ in range(2)]
    assert not torch.equal(*found)
    assert torch.equal(model.generator.get_state(), quiet.generator.get_state())


def test_features_are_means_over_the_words() -> None:
    encoder = make().encoder.eval()
    longest = torch.tensor([[CLS, 3, 4, 5, 6, 3, 4, 5], [CLS, 5, 6, PAD, PAD, PAD, PAD, PAD]])
    torch.testing.assert_close(encoder(longest)[1:], encoder(longest[1:]))


def test_the_head_has_an_activation() -> None:
    model, obs = make(), batch()["obs"].long()
    with torch.no_grad():
        model.head.dense.bias.fill_(-30)  # GELU makes this 0, and so does the normalisation.
        model.head.bias.copy_(torch.arange(len(SPACE.words)))
        found = model.logits(obs)
    torch.testing.assert_close(found, model.head.bias.detach().expand_as(found))


@pytest.mark.parametrize(
    ("encoder", "space", "words"),
    [
        ("flatten", SPACE, "which the encoder flatten does not read; give transformer"),
        (SMALL, Box(-1, 1, (8,)), "needs sequences of tokens"),
        (SMALL, Discrete(3), "single number"),
        ("token-gru", SPACE, "no features for each token; give --encoder transformer"),
        ("transformer:heads=3", SPACE, "multiple of the heads"),
        ("transformer:dropout=1.0", SPACE, "dropout of transformer is 1.0"),
        ("transformer:layers=0", SPACE, "layers of transformer is 0"),
        ("transformer:reads=all", SPACE, "give one of both, past"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(encoder: str, space: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        LanguageModel(LanguageModelConfig(encoder=encoder), {"obs": space})


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="mask_share"):
        LanguageModelConfig(mask_share=share)


def test_sparse_attention_draws_its_blocks_from_the_seed() -> None:
    encoder = (
        "transformer:width=8,layers=1,heads=2,units=8,attention=big-bird,block=4,random=1,length=64"
    )
    spec = {"obs": TokenSequence(SPACE.words, 64)}
    ranks = [
        LanguageModel(LanguageModelConfig(encoder=encoder), spec, seed=seed).encoder.state_dict()[
            "layers.transformer.blocks.0.attention.ranks"
        ]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(ranks[0], ranks[1])
    assert not torch.equal(ranks[0], ranks[2])


class Killed(BaseException):
    """What no code expects."""


def test_a_run_killed_between_checkpoints_ends_as_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> Run:
        config = RunConfig(
            env="assoc-retrieval-2", data_size=40, updates=5, eval_every=3, log_every=1, checkpoint_every=2, out=out
        )  # fmt: skip
        settings = LanguageModelConfig(
            encoder="transformer:width=8,layers=1,heads=2,units=8,dropout=0.2",
            batch_size=8,
            decay_updates=5,
        )
        return Run("language-model", settings, config, Console(quiet=True))

    run(tmp_path / "whole").start()
    usual = LanguageModel.learn

    def learn(model: LanguageModel, experience: Examples) -> Mapping[str, Tensor]:
        if model.updates == 3:
            raise Killed
        return usual(model, experience)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "learn", learn)
        with pytest.raises(Killed):
            run(tmp_path / "broken").start()
    assert Run.resume(tmp_path / "broken", Console(quiet=True)).finish() == 3
    assert_equal(tmp_path / "whole", tmp_path / "broken")


def test_its_logits_are_those_of_an_independent_bert() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8}
    config = transformers.BertConfig(
        vocab_size=7, intermediate_size=16, max_position_embeddings=8, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=PAD, **sizes,
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    mine = make(encoder=SMALL.replace("layers=1", "layers=2") + ",norm=post")
    layers, state = mine.encoder.layers, theirs.state_dict()
    assert isinstance(layers, TokenTransformer)
    own: dict[str, Tensor] = {
        "embedding.weight": state["bert.embeddings.word_embeddings.weight"],
        "transformer.positions": state["bert.embeddings.position_embeddings.weight"]
        + state["bert.embeddings.token_type_embeddings.weight"],
        **{
            f"transformer.norm.{x}": state[f"bert.embeddings.LayerNorm.{x}"]
            for x in ("weight", "bias")
        },
    }
    for i in range(2):
        block, here = f"bert.encoder.layer.{i}.", f"transformer.blocks.{i}."
        for x in ("weight", "bias"):
            parts = [
                state[f"{block}attention.self.{part}.{x}"] for part in ("query", "key", "value")
            ]
            own |= {
                f"{here}attention.inputs.{x}": torch.cat(parts),
                f"{here}attention.outputs.{x}": state[f"{block}attention.output.dense.{x}"],
                f"{here}norms.0.{x}": state[f"{block}attention.output.LayerNorm.{x}"],
                f"{here}widen.{x}": state[f"{block}intermediate.dense.{x}"],
                f"{here}narrow.{x}": state[f"{block}output.dense.{x}"],
                f"{here}norms.1.{x}": state[f"{block}output.LayerNorm.{x}"],
            }
    missing = layers.load_state_dict(own, strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("ranks") for name in missing.missing_keys)
    head = "cls.predictions."
    mine.head.load_state_dict(
        {
            "bias": state[f"{head}bias"],
            **{f"dense.{x}": state[f"{head}transform.dense.{x}"] for x in ("weight", "bias")},
            **{f"norm.{x}": state[f"{head}transform.LayerNorm.{x}"] for x in ("weight", "bias")},
        }
    )
    tokens = batch(3)["obs"].long()
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=(tokens != PAD).long()).logits
        found = mine.logits(tokens)
    real = tokens != PAD
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-5)
