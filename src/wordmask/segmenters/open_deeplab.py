"""The network of open students: DeepLabV3+ whose last layer reads all depths, and gives a feature and background."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.segmenters.deeplab import DeepLabSettings, DeepLabV3Plus


class LastLayer(nn.Conv2d):
    """Reads the decoder, and `depths` beside it: channels of maps on coarser grids, whose answers are added."""

    def __init__(self, width: int, classes: int, depths: Sequence[int] = ()):
        super().__init__(width, classes, 1)
        self.depths = nn.ModuleList(nn.Conv2d(channels, classes, 1, bias=False) for channels in depths)

    @property
    def weights(self) -> list[nn.Parameter]:
        """Of the decoder, then of the depths, (classes, C, 1, 1) each."""
        return [self.weight, *(layer.weight for layer in self.depths)]  # type: ignore[list-item]

    def forward(self, decoder: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        out = super().forward(decoder)
        said: dict[tuple[int, ...], Tensor] = {}
        for layer, own in zip(self.depths, maps, strict=True):  # what is added on one grid is made larger once
            size, answer = tuple(own.shape[-2:]), layer(own)
            said[size] = said[size] + answer if size in said else answer
        for answer in said.values():
            out = out + on_grid_of(out, answer)
        return out


class OpenDeepLab(DeepLabV3Plus):
    """Pictures (B, 3, H, W), normalised -> (B, D + 1, h, w) on the grid of the low-level features.

    is_deep: whether the last layer reads all depths, as it does unless a student is of before that.
    """

    def __init__(self, classes: int, settings: DeepLabSettings | None = None, *, is_deep: bool = True):
        super().__init__(classes, settings)
        self.is_deep = is_deep
        channels = [self.settings.width, *self.backbone.feature_info.channels()[self._low :]] if is_deep else []
        self.classifier.classifier[-1] = LastLayer(self.settings.width, classes, channels)

    @property
    def last(self) -> LastLayer:
        layer = self.classifier.classifier[-1]
        assert isinstance(layer, LastLayer)
        return layer

    @property
    def width(self) -> int:
        return self.classes if self.is_deep else super().width

    def depths(self, images: Tensor) -> list[Tensor]:
        """Return what the last layer reads, each on its own grid, the decoder's first."""
        maps = self.maps(images)
        low, high = maps[self._low], maps[-1]
        pyramid = self.classifier.aspp(high)
        decoder = self.classifier.decoded(low, pyramid)
        return [decoder, pyramid, *maps[self._low :]] if self.is_deep else [decoder]

    def features(self, images: Tensor) -> Tensor:
        """As for any names, once: with depths, this is all of the answer, as names come after it."""
        decoder, *maps = self.depths(images)
        return self.last(decoder, maps) if self.is_deep else decoder

    def classify(self, features: Tensor) -> Tensor:
        return features if self.is_deep else self.last(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))


def on_grid_of(other: Tensor, maps: Tensor) -> Tensor:
    size = other.shape[-2:]
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def is_deep(state: Iterable[str]) -> bool:
    """Return whether a network with these parameters reads all depths."""
    return any(".classifier.3.depths." in name for name in state)


def new_open_network(dimensions: int, settings: DeepLabSettings, first: Tensor | None = None) -> OpenDeepLab:
    """Return one that knows nothing, least of all what is background. first (D,): what it says everywhere; what random
    weights would add to it in directions that nothing is ever told apart by would stay for long.
    """
    network = OpenDeepLab(dimensions + 1, settings)
    last = network.last
    assert last.bias is not None
    with torch.no_grad():
        last.bias[-1] = 0
        for weight in last.weights:
            weight[-1] = 0
            if first is not None:
                weight[:] = 0
        if first is not None:
            last.bias[:-1] = first
    return network
