"""Images of several sizes in one padded batch."""

import pytest
import torch
from torch import Tensor, nn

from rlbench.accelerate.compile import is_one_program, why_not
from rlbench.agents.ppo import PPO, PPOConfig
from rlbench.backbones.encoders import make_encoder
from rlbench.backbones.layers.sizes import by_size, read, sizes
from rlbench.envs.tasks import find_task
from rlbench.errors import UserError
from rlbench.interface import Spec

TRIMMED = "resnet:units=1,width=4,head=spp,levels=1-2,padding=trim"


def padded(images: list[Tensor], side: int) -> Tensor:
    """Images [H, W, C] in one array, padded to a square."""
    found = torch.zeros(len(images), side, side, images[0].shape[-1], dtype=torch.uint8)
    for row, image in zip(found, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return found


def pictures(*shapes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(1, 256, (*shape, 3), generator=generator, dtype=torch.uint8)
        for shape in shapes
    ]


def test_the_size_ends_at_the_last_row_and_column_that_is_not_zero() -> None:
    images = torch.zeros(3, 2, 4, 5)
    images[0, 1, 2, 0] = 1.0  # Three rows, in one channel only.
    images[0, 0, 0, 3] = 1.0  # Four columns.
    images[1, 0, 3, 4] = 1.0
    # The third one is all zeros, so it has no padding.
    assert sizes(images).tolist() == [[3, 4], [4, 5], [4, 5]]


def test_groups_hold_each_image_once_without_its_padding() -> None:
    images = padded(pictures((4, 6), (3, 3), (4, 6)), 8).permute(0, 3, 1, 2)
    groups = {tuple(found.shape[2:]): chosen.tolist() for chosen, found in by_size(images)}
    assert groups == {(4, 6): [0, 2], (3, 3): [1]}


def test_features_of_a_padded_batch_equal_those_of_each_image_alone() -> None:
    images = pictures((16, 16), (24, 20), (16, 16), (32, 32))
    encoder = make_encoder(TRIMMED, (32, 32, 3))
    expected = torch.cat([alone(encoder, x) for x in images])
    torch.testing.assert_close(encoder(padded(images, 32)), expected)


def alone(encoder: nn.Module, image: Tensor) -> Tensor:
    """Features of one image from an encoder for its size, with the same weights."""
    mine = make_encoder(TRIMMED.replace("trim", "keep"), tuple(image.shape))
    mine.load_state_dict(encoder.state_dict())
    found: Tensor = mine(image[None])
    return found


def test_without_trimming_the_padding_changes_the_features() -> None:
    (image,) = pictures((16, 16))
    kept = make_encoder(TRIMMED.replace("trim", "keep"), (32, 32, 3))
    whole = kept(padded([image], 32))
    assert not torch.allclose(whole, alone(kept, image))


def test_resizing_and_cropping_bring_all_images_to_one_size() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1)

    images = padded(pictures((4, 4), (2, 6)), 8).permute(0, 3, 1, 2).float()
    read(network, images, "crop", 4)
    read(network, images, "resize", 4)
    cropped, resized = seen
    torch.testing.assert_close(cropped[0], images[0, :, :4, :4])  # It already has this size.
    torch.testing.assert_close(resized[0], images[0, :, :4, :4])
    expected = torch.zeros(3, 4, 4)
    expected[:, 1:3] = images[1, :, :2, 1:5]  # The middle columns, one row of zeros on each side.
    torch.testing.assert_close(cropped[1], expected)
    # Twice as many rows and two thirds of the columns, but the same mean brightness.
    assert resized[1].mean() == pytest.approx(images[1, :, :2, :6].mean().item(), rel=0.05)


def test_gradients_flow_through_all_sizes() -> None:
    encoder = make_encoder(TRIMMED, (32, 32, 3))
    encoder(padded(pictures((16, 16), (32, 32)), 32)).sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in encoder.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nature:padding=trim", "give head=spp, gap or spatial-softmax"),
        (
            "mnas:first=8,size=8,last=0,blocks=conv_r1_k3_s2_o8_none,head=flatten,padding=trim",
            "give head=spp, gap or spatial-softmax",
        ),
        ("impala:padding=resize,side=0", "side of images is 0; give 1 or more"),
        ("impala:padding=cut", "padding of impala is 'cut'; give one of keep, trim, resize, crop"),
        ("grid:padding=trim", "there is no option 'padding' of the encoder grid"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        make_encoder(name, (64, 64, 3))
    assert message in str(refused.value)


def test_a_flat_map_is_refused_even_if_slightly_smaller_images_have_maps_of_the_same_size() -> None:
    with pytest.raises(UserError, match="give head=spp, gap or spatial-softmax"):
        make_encoder("impala:padding=trim", (16, 16, 3))  # 16 and 12 rows become 2, 8 become 1.


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet:units=1,width=4,norm=bn,padding=trim", "more than 1 value per channel"),
        ("resnet:units=1,width=8,padding=trim", "more than 1 value per channel"),
        ("unet:width=2,padding=trim", "Output size is too small"),
    ],
)
def test_an_image_too_small_for_the_network_is_refused_in_one_sentence(
    name: str, reason: str
) -> None:
    encoder = make_encoder(name, (16, 16, 3))
    with pytest.raises(UserError, match=f"images of 1x1, 16x16 pixels, .*{reason}.*padding=resize"):
        encoder(padded(pictures((16, 16), (1, 1)), 16))


def test_a_trimming_encoder_has_no_maps() -> None:
    encoder = make_encoder(TRIMMED, (32, 32, 3))
    with pytest.raises(UserError, match="padding=trim has no maps"):
        encoder.pyramid(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))


def test_an_agent_with_a_trimming_encoder_is_neither_compiled_nor_exported() -> None:
    pytest.importorskip("minigrid")
    spec = Spec.of(find_task("minigrid-empty-5-6").make())
    keeps, trims = (
        PPO(PPOConfig(encoder=TRIMMED.replace("trim", word), hidden=(8,)), spec)
        for word in ("keep", "trim")
    )
    assert is_one_program(keeps)
    assert not is_one_program(trims)
    assert "does other operations for other images" in (why_not(trims) or "")
    obs = torch.zeros(2, 128, 128, 3, dtype=torch.uint8)
    with pytest.raises(UserError, match="cannot be exported"):
        torch.jit.trace(trims.decide, (obs,), check_trace=False)
