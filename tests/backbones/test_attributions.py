"""Explanations: values by hand, conservation, patterns, smooth ReLUs, derivatives, residual networks, and the maps of captum."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlbench.backbones.layers._recording import Tape, folded
from rlbench.backbones.layers.attributions import (
    METHODS,
    Explained,
    MethodName,
    explanation,
    saliency,
    with_patterns,
)
from rlbench.errors import UserError

FIRST = torch.tensor([0])


class Residual(nn.Module):
    """A convolution around which its input is added."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.inner, self.out = (
            nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.before(x))
        x = F.relu(x + self.inner(x))
        out: Tensor = self.out(x.mean((2, 3)))
        return out


def convolutional(*layers: nn.Module) -> nn.Sequential:
    """Two convolutions and a linear layer for images [B, 2, 8, 8]; the further layers follow the first convolution."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), *layers, nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(5, 3),
    ).eval()  # fmt: skip


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def linear(*weights: list[list[float]]) -> nn.Sequential:
    """Linear layers without biases, with a ReLU between each two."""
    layers: list[nn.Module] = []
    for rows in weights:
        layer = nn.Linear(len(rows[0]), len(rows), bias=False)
        layer.weight.data = torch.tensor(rows)
        layers += [nn.ReLU(), layer] if layers else [layer]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        # x = (1, 2), hidden values (1 * 1 + 2 * 2, 1 - 2) = (5, -1), of which the second is not active; g = 3 * 5.
        ("gradient", [3.0, 6.0]),
        ("gradient-times-input", [3.0, 12.0]),
        ("integrated-gradients", [3.0, 12.0]),
        ("guided-backpropagation", [3.0, 6.0]),
        # 15 in proportion to 1 * 1 : 2 * 2.
        ("lrp", [3.0, 12.0]),
    ],
)
def test_values_of_a_small_network_by_hand(method: MethodName, values: list[float]) -> None:
    network = linear([[1.0, 2.0], [1.0, -1.0]], [[3.0, 4.0]])
    given = Explained(network, bounds=None, probabilities=False)
    found = explanation(method, given, torch.tensor([[1.0, 2.0]]), FIRST)
    torch.testing.assert_close(found, torch.tensor([values]))


def test_guided_backpropagation_stops_negative_values() -> None:
    # Both hidden units are active; the second one lowers the output.
    network = linear([[1.0, 0.0], [0.0, 1.0]], [[2.0, -3.0]])
    x = torch.tensor([[1.0, 1.0]])
    assert explanation("gradient", Explained(network), x, FIRST).tolist() == [[2.0, -3.0]]
    assert explanation("guided-backpropagation", Explained(network), x, FIRST).tolist() == [[2.0, 0.0]]  # fmt: skip


def test_the_first_layer_of_lrp_shares_by_the_distance_to_the_bounds() -> None:
    # z^B with bounds from 0 to 2: summands 0.5 * 2 - 0 * 2 = 1 and 0.5 * -4 - 2 * -4 = 6, in all 7; g = 5 relu(2 * 0.5 - 4 * 0.5 + ...).
    network = linear([[2.0, -4.0, 8.0]], [[5.0]])
    x = torch.tensor([[0.5, 0.5, 1.0]])
    found = explanation("lrp", Explained(network, (0.0, 2.0)), x, FIRST)
    score = 5 * (2 * 0.5 - 4 * 0.5 + 8)
    torch.testing.assert_close(found, score * torch.tensor([[1.0, 6.0, 8.0]]) / 15)
    # Bounds follow the input through changes of its unit and sign.
    for scaled in (lambda x: network(x * 255 / 255.0), lambda x: network(-((1 - x) - 1.0))):
        torch.testing.assert_close(
            explanation("lrp", Explained(scaled, (0.0, 2.0)), x, FIRST), found
        )


def test_bounds_of_negated_inputs_change_places() -> None:
    # The layer reads -x, from -2 to 0: summands -0.5 + 2 and 3 * 0.5 - 3 * 0.
    network = linear([[1.0, -3.0]])
    found = explanation("lrp", Explained(lambda x: network(-x), (0.0, 2.0)), torch.tensor([[0.5, 0.5]]), FIRST)  # fmt: skip
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5]]))


def test_negative_summands_of_positive_values_receive_nothing() -> None:
    network = linear([[1.0, 2.0, -4.0]])
    found = explanation("lrp", Explained(network, None), torch.tensor([[1.0, 1.0, 1.0]]), FIRST)
    torch.testing.assert_close(found, torch.tensor([[-1.0, -2.0, 0.0]]) / 3)


def test_softplus_has_the_derivative_of_its_parameter() -> None:
    network, x = linear([[1.0]], [[2.0]]), torch.tensor([[0.5]])
    for method in ("gradient", "guided-backpropagation"):
        found = explanation(method, Explained(network, beta=4.0), x, FIRST)
        torch.testing.assert_close(found, 2 * torch.tensor([[2.0]]).sigmoid())


def test_each_path_through_a_sum_counts_once() -> None:
    # y = relu(2 x), g = 3 (y + 5 y): with positive weights alone, guided backpropagation is the gradient.
    first, inner, last = linear([[2.0]]), linear([[5.0]]), linear([[3.0]])

    def network(x: Tensor) -> Tensor:
        y = first(x).relu()
        out: Tensor = last(y + inner(y).relu())
        return out

    for method in ("gradient", "guided-backpropagation", "pattern-attribution"):
        given = Explained(network, patterns=[torch.ones(1, 1)] * 3)
        found = explanation(method, given, torch.tensor([[1.0]]), FIRST)
        factor = 36.0 if method == "pattern-attribution" else 1.0
        torch.testing.assert_close(found, factor * torch.tensor([[36.0]]))


def test_maps_are_sums_of_absolute_values_with_the_sum_one() -> None:
    relevance = torch.tensor([[[[1.0, -1.0]], [[0.0, 2.0]]]])
    assert saliency(relevance, 1).tolist() == [[[0.25, 0.75]]]
    assert saliency(relevance.movedim(1, 3), 3).tolist() == [[[0.25, 0.75]]]
    assert saliency(0 * relevance, 1).tolist() == [[[0.0, 0.0]]]


def test_negative_values_share_by_positive_summands() -> None:
    # Summands 1 * 1 and -1 * -3; 2 * -1 is negative and receives nothing.
    network = linear([[1.0, -3.0, -1.0]])
    found = explanation("lrp", Explained(network, bounds=None), torch.tensor([[1.0, -1.0, 2.0]]), FIRST)  # fmt: skip
    torch.testing.assert_close(found, torch.tensor([[0.5, 1.5, 0.0]]))


@pytest.mark.parametrize("kind", ["chain", "normalised", "residual"])
def test_lrp_conserves_the_output(kind: str) -> None:
    network = (
        Residual()
        if kind == "residual"
        else convolutional(*[nn.BatchNorm2d(6)] * (kind == "normalised"))
    )
    *_, last = network.children()
    with torch.no_grad():
        last.weight.abs_()  # type: ignore[operator]  # Each output has a positive summand.
    x, index = images(), torch.tensor([0, 1, 2, 0])
    chosen = network.eval()(x).gather(1, index[:, None])[:, 0]
    for bounds in ((0.0, 1.0), None):
        found = explanation("lrp", Explained(network, bounds), x, index)
        torch.testing.assert_close(found.flatten(1).sum(1), chosen, rtol=1e-4, atol=1e-6)


def test_batch_normalisation_is_part_of_the_layer_before_it() -> None:
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        for x in (norm.weight, norm.bias, norm.running_mean):
            assert x is not None
            x.normal_()
        assert norm.running_var is not None
        norm.running_var.uniform_(0.5, 2.0)
    network = convolutional(norm)
    plain = convolutional()
    others = (x for name, x in network.state_dict().items() if not name.startswith("1."))
    plain.load_state_dict(dict(zip(plain.state_dict(), others, strict=True)))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        first: Any = plain[0]
        first.weight.mul_(scale.view(-1, 1, 1, 1))
        first.bias.copy_((first.bias - norm.running_mean) * scale + norm.bias)
    x, index = images(), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(network(x), plain(x))
    for method in METHODS:
        one, other = (with_patterns(Explained(net), [x]) for net in (network, plain))
        torch.testing.assert_close(
            explanation(method, one, x, index), explanation(method, other, x, index), rtol=1e-3, atol=1e-6
        )  # fmt: skip
    tape = Tape(x.requires_grad_())
    with tape:
        network(tape.x)
    assert [step.name for step in folded(tape.steps)].count("batch_norm") == 0


def test_a_layer_whose_output_is_used_twice_keeps_its_own_weights() -> None:
    layer, norm = nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2).eval()
    assert norm.running_var is not None
    norm.running_var.fill_(4.0)

    def network(x: Tensor) -> Tensor:
        y = layer(x)
        return torch.cat([norm(y), y], 1)

    x = torch.rand(3, 2)
    pattern = with_patterns(Explained(network), [torch.randn(200, 2)])
    found = explanation("pattern-attribution", pattern, x, torch.tensor([2, 2, 3]))
    # Both the outputs of the layer and their normalised values explain the input.
    assert (found.abs().sum(1) > 0).all()
    assert len(pattern.patterns) == 1


def test_patterns_of_linear_data_are_the_direction_of_the_signal() -> None:
    # x = signal * a + distractor * d; w extracts the signal: w a = 1, w d = 0.
    noise = torch.Generator().manual_seed(0)
    signal, distractor = torch.randn(2, 4_000, 1, generator=noise)
    a, d, w = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]), torch.tensor([[1.0, -1.0]])
    layer = nn.Linear(2, 1)
    layer.weight.data = w
    layer.bias.data.fill_(0.3)
    x = signal * a + distractor * d
    network = with_patterns(Explained(layer), [x[:1_000], x[1_000:]])
    (pattern,) = network.patterns
    torch.testing.assert_close(pattern[0], a, rtol=0, atol=0.06)
    # Over the same places, cov(x, y) / var(y) has the response 1.
    torch.testing.assert_close((pattern * w).sum(), torch.tensor(1.0), rtol=0, atol=1e-4)
    found = explanation("pattern-attribution", network, x[:1], FIRST)
    torch.testing.assert_close(found, layer(x[:1]) * w * pattern)


def test_patterns_of_convolutions_are_those_of_their_patches() -> None:
    layer = nn.Conv2d(2, 3, 3, stride=2)
    x = images(40)
    (pattern,) = with_patterns(Explained(lambda x: layer(x).flatten(1)), [x[:15], x[15:]]).patterns
    patches = F.unfold(x, 3, stride=2).transpose(1, 2).flatten(0, 1).double()
    y = layer(x).flatten(2).transpose(1, 2).flatten(0, 1).detach().double()
    for channel in range(3):
        active = y[:, channel] > 0
        both = torch.cat([patches[active], y[active, channel : channel + 1]], 1)
        covariance = torch.cov(both.T)
        wanted = covariance[:-1, -1] / covariance[-1, -1]
        torch.testing.assert_close(pattern[channel].flatten().double(), wanted, rtol=1e-3, atol=1e-5)  # fmt: skip
    # An output that is never positive has no pattern.
    torch.nn.init.constant_(layer.get_parameter("bias"), -100.0)
    (none,) = with_patterns(Explained(lambda x: layer(x).flatten(1)), [x]).patterns
    assert none.abs().sum() == 0


@pytest.mark.parametrize("method", METHODS)
def test_softplus_approaches_relu(method: MethodName) -> None:
    # Layers with strides instead of pooling: the maximum of a pool has another place if activations change.
    network = nn.Sequential(nn.Flatten(), nn.Linear(128, 12), nn.ReLU(), nn.Linear(12, 3))
    x, index = images(), torch.tensor([0, 1, 2, 0])
    given = with_patterns(Explained(network), [images(50, 1)])

    def distance(beta: float) -> float:
        smooth = Explained(network, patterns=given.patterns, beta=beta)
        found, wanted = (explanation(method, e, x, index) for e in (smooth, given))
        return float((found - wanted).abs().max() / wanted.abs().max())

    assert distance(1_000.0) < 0.02
    assert distance(3.0) > 3 * distance(1_000.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["chain", "residual"])
def test_maps_have_the_derivatives_of_finite_differences(method: MethodName, kind: str) -> None:
    network = (convolutional() if kind == "chain" else Residual()).double()
    x, index = images(2).double(), torch.tensor([0, 2])
    patterns = [p.double() for p in with_patterns(Explained(network), [x]).patterns]
    given = Explained(network, beta=5.0, patterns=patterns)

    def pixel(z: Tensor) -> Tensor:
        return saliency(explanation(method, given, z, index), 1)[:, 2, 3].sum()

    start = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pixel(start), start)
    direction, step = torch.randn_like(x), 1e-6
    change = (pixel(x + step * direction) - pixel(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), change, rtol=1e-4, atol=1e-9)


def test_explanations_leave_no_trace() -> None:
    network, x = convolutional(), images()
    found = explanation("lrp", Explained(network), x, torch.zeros(4, dtype=torch.long))
    assert not found.requires_grad
    assert not x.requires_grad
    assert all(p.grad is None for p in network.parameters())
    with torch.no_grad():
        again = explanation("lrp", Explained(network), x, torch.zeros(4, dtype=torch.long))
    assert torch.equal(found, again)


def test_integrated_gradients_are_complete() -> None:
    network, x, index = convolutional(), images(), torch.tensor([0, 1, 2, 0])
    for probabilities in (True, False):

        def answer(x: Tensor, probabilities: bool = probabilities) -> Tensor:
            scores = network(x)
            found: Tensor = scores.softmax(1) if probabilities else scores
            return found.gather(1, index[:, None])[:, 0]

        given = Explained(network, probabilities=probabilities)
        total = explanation("integrated-gradients", given, x, index).flatten(1).sum(1)
        wanted = (answer(x) - answer(0 * x)).detach()
        torch.testing.assert_close(total, wanted, rtol=0, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", ["gru_cell", "lstm_cell"])
def test_networks_with_a_memory_are_explained(name: str) -> None:
    cell: Any = {"gru_cell": nn.GRUCell, "lstm_cell": nn.LSTMCell}[name](4, 5)
    head = nn.Linear(5, 2)

    def scores(x: Tensor) -> Tensor:
        first, second = x.unbind(1)
        out = cell(second, cell(first))
        found: Tensor = head(out[0] if isinstance(out, tuple) else out)
        return found

    x, index = torch.rand(3, 2, 4), torch.tensor([0, 1, 0])
    for method in METHODS[:4]:
        assert explanation(method, Explained(scores), x, index).abs().sum() > 0
    with pytest.raises(UserError, match=f"lrp has no rule for {name}"):
        explanation("lrp", Explained(scores), x, index)


def test_normalisation_over_groups_has_no_rule_of_lrp() -> None:
    given = Explained(convolutional(nn.GroupNorm(2, 6)))
    with pytest.raises(UserError, match=r"lrp has no rule for group_norm, .*give --methods without lrp"):  # fmt: skip
        explanation("lrp", given, images(), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("kind", ["convolutional", "linear"])
def test_maps_are_those_of_captum(kind: str) -> None:
    network = (
        nn.Sequential(nn.Flatten(), nn.Linear(128, 20), nn.ReLU(), nn.Linear(20, 3))
        if kind == "linear"
        else convolutional()
    )
    captum = pytest.importorskip("captum.attr")
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")

    x, index = images(), torch.tensor([0, 1, 2, 0])
    given = Explained(network, bounds=None)
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.rule = rules.Alpha1_Beta0_Rule(set_bias_to_zero=True)
        elif not isinstance(layer, nn.ReLU):
            layer.rule = rules.EpsilonRule()
    network = network.requires_grad_()
    for layer in network:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False

    def probability(x: Tensor) -> Tensor:
        found: Tensor = network(x).softmax(1)
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = {
            "gradient": captum.Saliency(network).attribute(x, index, abs=False),
            "gradient-times-input": captum.InputXGradient(network).attribute(x, index),
            "integrated-gradients": captum.IntegratedGradients(probability).attribute(x, target=index, n_steps=30, method="riemann_middle"),
            "guided-backpropagation": captum.GuidedBackprop(network).attribute(x, index),
            "lrp": captum.LRP(network).attribute(x, index),
        }  # fmt: skip
    for method, maps in wanted.items():
        found = explanation(method, given, x, index)  # type: ignore[arg-type]
        torch.testing.assert_close(
            found, maps, rtol=1e-4, atol=1e-6 * float(maps.detach().abs().max())
        )
