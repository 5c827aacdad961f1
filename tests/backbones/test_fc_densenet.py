"""FC-DenseNet: layers against their equations, published numbers of maps and parameters, odd sizes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.encoders.fc_densenet import Block, fc_densenet_layers


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_a_block_adds_the_maps_of_each_layer_to_the_stack() -> None:
    torch.manual_seed(0)
    block: Any = Block(8, 3, 2, "gn", 0.0)
    x = images(2, 8, 4, 4) - 0.5
    (n1, _, c1), (n2, _, c2) = block.layers
    one = torch.cat([x, c1(n1(x).relu())], dim=1)
    torch.testing.assert_close(block(x), torch.cat([one, c2(n2(one).relu())], dim=1))


def test_only_new_maps_are_upsampled_and_the_skipped_stack_follows_them() -> None:
    torch.manual_seed(0)
    net: Any = fc_densenet_layers(3, growth=2, layers="1-2-3", pools=1, first=8)
    x = images(2, 3, 6, 4)
    small, large = net.maps(x)
    down = net.down[0](net.first(x))
    (norm, _, thin), pool = net.transitions[0]
    torch.testing.assert_close(small, net.bottleneck(pool(thin(norm(down).relu()))))
    enlarged = net.enlarge[0](small[:, -4:])[:, :, :6, :4]
    torch.testing.assert_close(large, net.up[0](torch.cat([enlarged, down], dim=1)))
    assert small.shape == (2, 8 + 2 + 4, 3, 2)
    assert large.shape == (2, 4 + 10 + 6, 6, 4)
    torch.testing.assert_close(net(x), large.mean((2, 3)))


# Trainable parameters and running statistics with a 1x1 convolution to 11 classes, as the authors' code
# (https://github.com/SimJeg/FC-DenseNet, FC-DenseNet.py, `summary`) counts them. The paper has 1.5, 3.5 and 9.4
# million; its first number cannot be reached with the layers that it describes (12 maps, 4 layers).
@pytest.mark.parametrize(
    ("name", "maps", "millions"),
    [
        ("fc-densenet56", [336, 384, 336, 288, 240, 192], 1.40),
        ("fc-densenet67", [528, 608, 528, 448, 368, 288], 3.50),
        ("fc-densenet103", [896, 1088, 816, 576, 384, 256], 9.43),  # The errata in the README.
    ],
)
def test_the_papers_networks_have_the_published_maps_and_parameters(
    name: str, maps: list[int], millions: float
) -> None:
    encoder = make_encoder(f"{name}:norm=bn", (3, 32, 32)).eval()
    pyramid = encoder.pyramid(torch.zeros(1, 3, 32, 32))
    assert [pyramid[s].shape[1] for s in (32, 16, 8, 4, 2, 1)] == maps
    running = (x for x in encoder.modules() if isinstance(x, nn.BatchNorm2d))
    total = sum(p.numel() for p in encoder.parameters()) + sum(2 * x.num_features for x in running)
    assert round((total + 12 * maps[-1]) / 1e6, 2) == pytest.approx(millions)
    convolutions = [x for x in encoder.modules() if isinstance(x, nn.Conv2d | nn.ConvTranspose2d)]
    assert f"fc-densenet{len(convolutions) + 1}" == name  # With the convolution to classes.


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (9, 13), (15, 23), (31, 10)])
def test_odd_sizes_are_restored(rows: int, columns: int) -> None:
    net = fc_densenet_layers(1, growth=2)
    shapes = [x.shape[2:] for x in net.maps(images(1, 1, rows, columns))]
    assert shapes == [(rows // s, columns // s) for s in (8, 4, 2, 1)]


def test_dropout_follows_every_convolution_of_layers_and_transitions() -> None:
    net = fc_densenet_layers(1, growth=2, dropout=0.2)
    dropped = [x for x in net.modules() if isinstance(x, nn.Dropout)]
    assert len(dropped) == 7 * 2 + 3
    assert all(x.p == 0.2 for x in dropped)
    assert not any(isinstance(x, nn.Dropout) for x in fc_densenet_layers(1).modules())


@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_all_parameters_learn(norm: Any) -> None:
    net = fc_densenet_layers(3, growth=4, norm=norm)
    net(images(2, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    biases = [x.bias for x in net.modules() if isinstance(x, nn.Conv2d)]
    assert all(x is not None and not x.any() for x in biases)
