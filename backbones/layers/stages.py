"""A network whose layers are grouped by the size of their maps."""

from collections.abc import Iterable

from torch import Tensor, nn


class Stages(nn.Module):
    """A first convolution, layers, and a head; it also gives the last map of each size."""

    def __init__(
        self,
        first: nn.Module,
        stem: int,
        layers: Iterable[tuple[int, nn.Module]],
        head: nn.Module,
    ) -> None:
        """A stage ends before each layer with a stride.

        Args:
            first: From images to the first map.
            stem: Its stride.
            layers: Strides and layers in order.
            head: From the last map to the features.
        """
        super().__init__()
        self.first = first
        stages: list[list[nn.Module]] = [[]]
        strides = [stem]
        for stride, layer in layers:
            if stride > 1:
                stages.append([])
                strides.append(strides[-1] * stride)
            stages[-1].append(layer)
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        self.strides = tuple(strides)
        """Pixels of the image per pixel of each map."""
        self.head = head

    def maps(self, x: Tensor) -> list[Tensor]:
        """The last map of each stride, [B, C, H / s, W / s], rounded up, of images [B, C, H, W]."""
        x, found = self.first(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Features, [B, size]."""
        features: Tensor = self.head(self.maps(x)[-1])
        return features
