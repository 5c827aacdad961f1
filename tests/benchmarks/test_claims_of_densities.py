"""Claims of the papers on densities of images, judged on made-up results."""

import math
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.codes import Codes
from rlbench.backbones.layers.masked import CausalConv
from rlbench.backbones.models.pixelcnn import PixelCNN
from rlbench.backbones.models.vq_vae import VQVAE
from rlbench.benchmarks.papers import (
    PAPERS,
    gated_pixelcnn as pixels,
    load_paper,
    vq_vae_2 as codes,
)
from rlbench.benchmarks.papers._step_sizes import name
from rlbench.benchmarks.tables.results import Missing, Result, Results
from rlbench.benchmarks.training.learners import load_learner
from rlbench.envs.examples import find_source
from tests.benchmarks.test_claims_of_papers import result, verdict

FRAMES = Box(0, 255, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("paper", ["gated-pixelcnn", "policy-exploration", "vq-vae-2"])
def test_every_grid_has_three_seeds_and_known_settings(paper: str) -> None:
    found = load_paper(paper)
    assert paper in PAPERS
    assert set(found.grids) == {"small", "full"}
    for grids in found.grids.values():
        assert all(grid.seeds == 3 for grid in grids)
        columns = [(x, m.name) for grid in grids for x in grid.tasks for m in grid.methods]
        assert len(set(columns)) == len(columns)
        assert found.method in {method for _, method in columns}
        for grid in grids:
            for method in grid.methods:
                load_learner(method.learner).Config(**method.settings)
    assert found.minutes["small"] <= 60
    for claim in found.claims:
        with pytest.raises(Missing):
            claim.judge(Results([]))


@pytest.mark.parametrize("task", [pixels.DIGITS, pixels.VIEWS])
def test_both_forms_have_about_the_same_number_of_weights(task: str) -> None:
    factory = find_source(task)
    assert factory is not None
    fields = factory().fields
    sizes = []
    for settings in pixels._networks(task).values():
        network = PixelCNN(PixelCNN.Config(**settings), fields).network
        masks = [int((x.mask == 0).sum()) for x in network.modules() if isinstance(x, CausalConv)]
        sizes.append(sum(p.numel() for p in network.parameters()) - sum(masks))
    gated, plain = sizes
    assert gated <= plain <= 1.05 * gated


def rows(bits: dict[str, float], **columns: Any) -> list[Result]:
    """Two seeds of each network on both tasks with each step size, the second of which is better; see `result`."""
    found = []
    for task in (pixels.DIGITS, pixels.VIEWS):
        for network, x in bits.items():
            independent = network == pixels.INDEPENDENT
            sizes = pixels.TABLE_SIZES if independent else pixels.STEP_SIZES
            own = {k: v[network] for k, v in columns.items() if network in v}
            found += [
                result(name(network, size), task, seed, bits=[x + (size == sizes[0])], **own)
                for size in sizes
                for seed in range(2)
            ]
        found.append(result(pixels.UNTRAINED, task, bits=[5.0]))
    return found


@pytest.mark.parametrize(
    ("gated", "plain", "independent", "holds"),
    [(1.0, 1.02, 2.0, True), (1.0, 1.005, 2.0, False), (1.0, 1.2, 1.1, False)],
)
def test_gated_layers_must_be_better_by_a_percent_and_both_better_than_single_values(
    gated: float, plain: float, independent: float, holds: bool
) -> None:
    bits = {pixels.GATED: gated, pixels.PLAIN: plain, pixels.INDEPENDENT: independent}
    found = verdict(pixels.PAPER, "X1b", Results(rows(bits)))
    assert found.holds is holds
    assert f"gated, 0.01 on digits {gated:.3f}" in found.evidence
    assert "untrained on digits 5.000" in found.evidence


@pytest.mark.parametrize(
    ("gated", "plain", "leaks", "holds"),
    [(0, 3, 0, True), (1, 3, 0, False), (0, 0, 0, False), (0, 3, 1, False)],
)
def test_only_the_plain_form_may_have_blind_pixels_and_none_may_leak(
    gated: int, plain: int, leaks: int, holds: bool
) -> None:
    columns = {
        "blind": {pixels.GATED: [gated], pixels.PLAIN: [plain]},
        "leaks": {pixels.GATED: [0], pixels.PLAIN: [leaks]},
    }
    found = rows({pixels.GATED: 1.0, pixels.PLAIN: 1.0}, **columns)
    assert verdict(pixels.PAPER, "X1a", Results(found)).holds is holds


@pytest.mark.parametrize(
    ("classes", "without", "holds"), [(0.8, 0.1, True), (0.79, 0.1, False), (0.9, 0.8, False)]
)
def test_samples_must_be_recognised_only_with_classes(
    classes: float, without: float, holds: bool
) -> None:
    columns = {
        "recognised": {pixels.CLASSES: [classes], pixels.NO_CLASSES: [without]},
        "judge_accuracy": {pixels.CLASSES: [0.95], pixels.NO_CLASSES: [0.95]},
    }
    bits = {pixels.CLASSES: 1.0, pixels.NO_CLASSES: 1.0, pixels.GATED: 1.0}
    found = verdict(pixels.PAPER, "X1c", Results(rows(bits, **columns)))
    assert found.holds is holds
    assert f"gated, classes {100 * classes:.1f} %" in found.evidence


@pytest.mark.parametrize(("area", "holds"), [(0.9, True), (0.89, False)])
def test_gains_must_tell_new_rooms(area: float, holds: bool) -> None:
    found = [
        result(name(pixels.COUNTS, size), pixels.ROOMS, seed, bits=[1.0], auc=[area])
        for size in pixels.STEP_SIZES
        for seed in range(3)
    ]
    assert verdict(pixels.PAPER, "X1d", Results(found)).holds is holds


def grids(ratio: float, used: float, low: float = 0.3) -> Results:
    """Three seeds of both networks; the second step size is the better one."""
    found = [result(codes.UNTRAINED, codes.TASK, seed, mse=[1.0]) for seed in range(3)]
    for network, mse in ((codes.TWO, 0.01 * ratio), (codes.ONE, 0.01)):
        size = codes.CODES if network == codes.TWO else codes.CODES_OF_ONE
        for step in codes.STEP_SIZES:
            error = mse + (step == codes.STEP_SIZES[0])
            found += [
                result(
                    name(network, step), codes.TASK, seed, mse=[error], perplexity_bottom=[used * size], perplexity_top=[used * size],
                    low=[low],
                )
                for seed in range(3)
            ]  # fmt: skip
    return Results(found)


@pytest.mark.parametrize(
    ("ratio", "used", "holds"), [(0.89, 0.26, True), (0.91, 0.26, False), (0.89, 0.24, False)]
)
def test_two_grids_must_be_better_by_a_tenth_and_use_their_codes(
    ratio: float, used: float, holds: bool
) -> None:
    found = verdict(codes.PAPER, "W1a", grids(ratio, used))
    assert found.holds is holds
    assert f"ratio by seed {ratio:.2f}/{ratio:.2f}/{ratio:.2f}" in found.evidence


@pytest.mark.parametrize(("low", "holds"), [(0.39, True), (0.4, False)])
def test_fine_codes_must_change_little_at_low_frequencies(low: float, holds: bool) -> None:
    assert verdict(codes.PAPER, "W1b", grids(0.5, 0.5, low)).holds is holds


def test_both_networks_have_as_many_bits() -> None:
    two, one = (256 + 64) * math.log2(codes.CODES), 256 * math.log2(codes.CODES_OF_ONE)
    assert two == 2240 == round(one)


@pytest.mark.parametrize(("attention", "holds"), [(2.9, True), (3.0, False)])
def test_attention_must_give_fewer_bits(attention: float, holds: bool) -> None:
    bits = {codes.ATTENTION: attention, codes.NO_ATTENTION: 3.0}
    found = [
        result(name(network, step), codes.TASK, seed, bits=[x + (step == codes.STEP_SIZES[0])])
        for network, x in bits.items()
        for step in codes.STEP_SIZES
        for seed in range(3)
    ]
    assert verdict(codes.PAPER, "W2", Results(found)).holds is holds


def test_priors_of_the_table_fit_its_quantisers() -> None:
    for grids in codes.PAPER.grids.values():
        quantisers, _, priors = grids
        model = VQVAE(VQVAE.Config(**quantisers.methods[0].settings), {"obs": FRAMES})
        for method in priors.methods:
            assert method.pretrained is not None
            assert method.pretrained[0] in {x.name for x in quantisers.methods}
            encoder = make_encoder(method.settings["tokens"], FRAMES).layers
            assert isinstance(encoder, Codes)
            own = {k: x.shape for k, x in encoder.quantiser.state_dict().items()}
            assert own == {k: x.shape for k, x in model.network.state_dict().items()}
