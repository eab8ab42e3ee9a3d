"""A light decoder on frozen features: what a student is where somebody else's encoder does the looking.

One or several towers look at the picture and learn nothing. Their maps are squeezed, added on the finest of their
grids, mixed with what lies around, and brought to the picture's own grid, where a shallow stem over its pixels says how
the edges run.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wordmask.encoders.statistics import ImageStatistics
from wordmask.encoders.towers import Tower

AS_THEY_ARE = ImageStatistics((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Towers normalise pictures themselves, each in its way."""
MIDDLE, SPREAD = 0.5, 0.25
"""Of pixels, for the stem."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HeadSettings:
    """zoom: the towers look at pictures so many times as large as they are: they find smaller things, and take longer.
    width, blocks: channels of the decoder on the towers' grid, and what mixes those around a patch. fine: channels on
    the finer grid of what is answered. guide: those of the stem over the picture's pixels, 0 for none. stride: pixels
    per cell of that grid. dropout: on what the last layer reads.
    """

    zoom: Annotated[float, Field(ge=0.25, le=8, multiple_of=0.25)] = 1.0
    width: PositiveInt = 128
    blocks: Annotated[int, Field(ge=0, le=64)] = 2
    fine: PositiveInt = 64
    guide: Annotated[int, Field(ge=0)] = 32
    stride: Literal[1, 2, 4, 8] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Standardised(nn.Module):
    """A tower's maps (B, C, h, w), each channel by its mean and deviation in what the decoder learns from.

    Some towers say nearly the same of all patches, and what tells them apart is small beside it.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean[:, None, None]) / self.deviation[:, None, None]


class Block(nn.Module):
    """What lies around, channel by channel, then all channels at each place; beside what was there (ConvNeXt's)."""

    def __init__(self, width: int):
        super().__init__()
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = ChannelNorm(width)
        self.inside = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.GELU(), nn.Conv2d(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inside(self.norm(self.around(x)))
        return out


class Stem(nn.Module):
    """Pixels in [0, 1] -> (B, guide, H / stride, W / stride), of what is near."""

    def __init__(self, guide: int, stride: int):
        super().__init__()
        layers: list[nn.Module] = []
        channels, left = 3, stride
        while left > 1 or not layers:
            step = min(2, left)
            layers += [nn.Conv2d(channels, guide, 3, stride=step, padding=1), nn.GELU()]
            channels, left = guide, left // step
        self.layers = nn.Sequential(*layers, nn.Conv2d(guide, guide, 3, padding=1), nn.GELU(), ChannelNorm(guide))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers((images - MIDDLE) / SPREAD)
        return out


class Decoder(nn.Module):
    """All of a head that learns. statistics: of the pictures that it takes, beside the towers' maps."""

    statistics = AS_THEY_ARE

    def __init__(self, classes: int, channels: Sequence[int], settings: HeadSettings):
        super().__init__()
        self.classes, self.channels, self.settings = classes, tuple(channels), settings
        width, fine, guide = settings.width, settings.fine, settings.guide
        self.enter = nn.ModuleList(nn.Sequential(Standardised(own), nn.Conv2d(own, width, 1)) for own in channels)
        self.blocks = nn.Sequential(
            *(Block(width) for _ in range(settings.blocks)), ChannelNorm(width), nn.Conv2d(width, fine, 1)
        )
        self.stem = Stem(guide, settings.stride) if guide else None
        self.join = nn.Sequential(nn.Conv2d(fine + guide, fine, 1), nn.GELU(), Block(fine), ChannelNorm(fine))
        self.dropout = nn.Dropout(settings.dropout)
        self.last = nn.Conv2d(fine, classes, 1)

    def standardise(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take each tower's channels by these means and deviations, (C,) each."""
        for enter, (mean, deviation) in zip(self.enter, statistics, strict=True):
            enter[0].mean.copy_(mean)  # type: ignore[index]
            enter[0].deviation.copy_(deviation)  # type: ignore[index]

    def features(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(B, 3, H, W) and (B, C, h, w) each -> (B, fine, H / stride, W / stride)."""
        stride = self.settings.stride
        finest = max((each.shape[-2:] for each in maps), key=lambda size: int(size[0]) * int(size[1]))
        x = torch.stack([_resized(enter(each), finest) for enter, each in zip(self.enter, maps, strict=True)]).sum(0)
        x = self.blocks(x)
        if self.stem is None:
            x = _resized(x, [(side + stride - 1) // stride for side in images.shape[-2:]])
        else:
            guide = self.stem(images)
            x = torch.cat([_resized(x, guide.shape[-2:]), guide], dim=1)
        out: Tensor = self.dropout(self.join(x))
        return out

    def classify(self, features: Tensor) -> Tensor:
        """(B, fine, h, w) -> logits (B, classes, h, w)."""
        out: Tensor = self.last(features)
        return out

    def forward(self, images: Tensor, *maps: Tensor) -> Tensor:
        """... -> logits (B, classes, H, W)"""
        return _resized(self.classify(self.features(images, maps)), images.shape[-2:])


class HeadNetwork(nn.Module):
    """Towers and the decoder on them: pictures (B, 3, H, W) in [0, 1] -> logits (B, classes, H, W)."""

    statistics = AS_THEY_ARE

    def __init__(self, towers: Sequence[Tower], decoder: Decoder):
        super().__init__()
        self.towers, self.decoder = nn.ModuleList(towers), decoder

    @property
    def own_towers(self) -> list[Tower]:
        return list(self.towers)  # type: ignore[arg-type]

    @property
    def settings(self) -> HeadSettings:
        return self.decoder.settings

    @property
    def classes(self) -> int:
        return self.decoder.classes

    @property
    def width(self) -> int:
        """Of what the last layer reads."""
        return self.settings.fine

    @property
    def dtype(self) -> torch.dtype:
        """Of the pictures that it takes; it sees to its parts itself."""
        return torch.float32

    @property
    def title(self) -> str:
        return f"light head on {' and '.join(tower.address for tower in self.own_towers)}"

    def look(self, images: Tensor) -> list[Tensor]:
        """Return what the towers say, (B, C, h, w) each, float32."""
        return [tower.look(images, self.settings.zoom) for tower in self.own_towers]

    def features(self, images: Tensor) -> Tensor:
        """(B, fine, h, w): what the last layer reads, once for any number of names."""
        dtype = self.decoder.last.weight.dtype
        return self.decoder.features(images.to(dtype), [each.to(dtype) for each in self.look(images)])

    def classify(self, features: Tensor) -> Tensor:
        """(B, fine, h, w) -> logits (B, classes, h, w)."""
        return self.decoder.classify(features)

    def forward(self, images: Tensor) -> Tensor:
        return _resized(self.classify(self.features(images)), images.shape[-2:])


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
