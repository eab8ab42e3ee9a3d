"""DeepLabV3+ (Chen et al., "Encoder-Decoder with Atrous Separable Convolution", 2018), the network of NamedMask.

Experts and students are all this network. Names of parameters are those of the published NamedMask checkpoints:
`backbone.*` as in torchvision's ResNet, and `classifier.*` for the head. The backbone is any convolutional network of
`timm`'s; its ResNet-50 is torchvision's, name by name and number by number.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from wordmask.encoders.statistics import IMAGENET, ImageStatistics
from wordmask.encoders.timm_building import RESERVED, WEIGHTS, is_timm_folder
from wordmask.errors import WordmaskError
from wordmask.weights.addresses import find, resolve
from wordmask.weights.loading import load_into, read_state_dict

LARGEST_RATE = 1024
"""Cells: as many as a picture of eight thousand pixels has. What lies beyond it is padding."""
BACKBONE = "backbone"
"""The role of one among a plug-in's addresses."""
LOW_LEVEL_STRIDE = 4
"""Of the features that give the edges back: layer1 of a ResNet."""
HEAD, PYRAMID, LAST_LAYER = "classifier.", "classifier.aspp.", "classifier.classifier.3."
"""How the names of the head's parameters begin, of its first part, and of the layer that knows the classes."""
TEXTS = "text."
"""How the names of what an open student's file holds beside a network begin."""


class DeepLabError(WordmaskError):
    """This network cannot be built, or its backbone cannot be filled."""


@dataclass(frozen=True)
class DeepLabSettings:
    """backbone: a name of `timm`'s. backbone_options: what `timm.create_model` is to be told beside it.

    output_stride: pixels per cell of the last features; None leaves the backbone as it is. rates: dilations of the
    pyramid, in those cells. width: channels of the pyramid and of the decoder. low_width: channels that the low-level
    features are squeezed into. dropout: on what the pyramid hands on. backbone_momentum: of the batch-norm statistics
    in the backbone; the head keeps torch's 0.1. zoom: the network looks at pictures so many times as large as they are:
    its cells are so much finer, and it takes longer. The figures are NamedMask's, for crops of 384 pixels and thousands
    of steps.
    """

    backbone: str = "resnet50"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    output_stride: Literal[8, 16, 32] | None = 8
    rates: tuple[Annotated[int, Field(ge=1, le=LARGEST_RATE)], ...] = (12, 24, 36)
    width: PositiveInt = 256
    low_width: PositiveInt = 48
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    backbone_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01
    zoom: Annotated[float, Field(ge=1, le=8)] = 1.0


def told_of(settings: DeepLabSettings) -> dict[str, Any]:
    """Return what a network's shape is written down as; nothing of a zoom where there is none."""
    told: dict[str, Any] = TypeAdapter(DeepLabSettings).dump_python(settings, mode="json")
    return {name: value for name, value in told.items() if (name, value) != ("zoom", 1.0)}


def small_resnet_settings(**changes: Any) -> DeepLabSettings:
    """Return a small ResNet with a head to match: for pictures of 128 pixels and some hundred steps, on two processor
    cores. At the paper's momentum, its statistics would still be half those of before the first step.
    """
    small = DeepLabSettings(
        backbone="resnet10t",
        backbone_options={"channels": (48, 96, 192, 256), "layers": (1, 1, 1, 1), "stem_width": 24},
        output_stride=16,
        rates=(2, 4),
        width=96,
        low_width=32,
        backbone_momentum=0.1,
    )
    return replace(small, **changes)


class Separable(nn.Module):
    """A convolution as two: each channel over space, then all channels at each place."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        channels = convolution.in_channels
        self.body = nn.Sequential(
            nn.Conv2d(
                channels,
                channels,
                convolution.kernel_size,  # type: ignore[arg-type]
                padding=convolution.padding,  # type: ignore[arg-type]
                dilation=convolution.dilation,  # type: ignore[arg-type]
                groups=channels,
                bias=False,
            ),
            nn.Conv2d(channels, convolution.out_channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class Head(nn.Module):
    """Atrous spatial pyramid pooling, joined with the low-level features and read by two convolutions."""

    def __init__(self, low: int, high: int, classes: int, settings: DeepLabSettings):
        super().__init__()
        width, low_width = settings.width, settings.low_width
        self.project = nn.Sequential(nn.Conv2d(low, low_width, 1, bias=False), nn.BatchNorm2d(low_width), nn.ReLU())
        self.aspp = ASPP(high, settings.rates, width)
        for branch in self.aspp.convs[1:-1]:
            branch[0] = Separable(branch[0])
        self.aspp.project[-1].p = settings.dropout
        joined = nn.Conv2d(low_width + width, width, 3, padding=1, bias=False)
        self.classifier = nn.Sequential(
            Separable(joined), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def features(self, low: Tensor, high: Tensor) -> Tensor:
        """(B, width, h, w) on the low-level features' grid: all but the last layer."""
        return self.decoded(low, self.aspp(high))

    def decoded(self, low: Tensor, pyramid: Tensor) -> Tensor:
        pyramid = F.interpolate(pyramid, size=low.shape[-2:], mode="bilinear", align_corners=False)
        out: Tensor = self.classifier[:-1](torch.cat([self.project(low), pyramid], dim=1))
        return out


class DeepLabV3Plus(nn.Module):
    """Pictures (B, 3, H, W), normalised -> logits (B, classes, H, W)."""

    learns_at_cells = False
    """Whether logits stay on the features' grid while it learns."""
    learns_from_afar = False
    """Whether it looks at pictures as large as they are while it learns, whatever its zoom."""

    def __init__(self, classes: int, settings: DeepLabSettings | None = None):
        super().__init__()
        self.settings = settings or DeepLabSettings()
        self.classes = classes
        self.backbone = _build_backbone(self.settings)
        strides = self.backbone.feature_info.reduction()
        channels = self.backbone.feature_info.channels()
        fine = [place for place, stride in enumerate(strides) if stride <= LOW_LEVEL_STRIDE]
        self._low = fine[-1] if fine else 0
        self.classifier = Head(channels[self._low], channels[-1], classes, self.settings)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = self.settings.backbone_momentum

    @property
    def statistics(self) -> ImageStatistics:
        """Of the pictures that the backbone was trained on."""
        known = timm.models.get_pretrained_cfg(self.settings.backbone)
        return ImageStatistics(tuple(known.mean), tuple(known.std)) if known else IMAGENET

    @property
    def title(self) -> str:
        return f"DeepLabV3+ {self.settings.backbone}"

    @property
    def width(self) -> int:
        """Of what the last layer reads."""
        return self.settings.width

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def features(self, images: Tensor) -> Tensor:
        """(B, width, h, w): what the last layer reads, once for any number of names."""
        maps = self.maps(images)
        return self.classifier.features(maps[self._low], maps[-1])

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return what the backbone says of pictures, the finest grid first."""
        if self.settings.zoom != 1 and not (self.training and self.learns_from_afar):
            size = [_times(length, self.settings.zoom) for length in images.shape[-2:]]
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        maps: list[Tensor] = self.backbone(images)
        return maps

    def classify(self, features: Tensor) -> Tensor:
        """(B, width, h, w) -> logits (B, classes, h, w)."""
        out: Tensor = self.classifier.classifier[-1](features)
        return out

    def forward(self, images: Tensor) -> Tensor:
        logits = self.classify(self.features(images))
        if self.training and self.learns_at_cells:
            return logits
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def _times(side: Any, zoom: float) -> Any:
    """Return a side zoomed and rounded: a number, or what stands for one while a graph is traced."""
    return torch.round(side * zoom).long() if isinstance(side, Tensor) else round(side * zoom)


def _build_backbone(settings: DeepLabSettings) -> Any:
    if not timm.is_model(settings.backbone):
        raise DeepLabError(
            f"no network of timm's is called {settings.backbone!r}; a few that serve as a backbone: resnet50, "
            "resnet18, mobilenetv3_large_100, convnext_tiny"
        )
    options = dict(settings.backbone_options)
    if reserved := sorted(RESERVED & options.keys()):
        raise DeepLabError(f"backbone_options may not hold {', '.join(reserved)}: that would read files or the network")
    if settings.output_stride is not None:
        options["output_stride"] = settings.output_stride
    try:
        return timm.create_model(settings.backbone, pretrained=False, features_only=True, **options)
    except (TypeError, RuntimeError, AssertionError, NotImplementedError, ValueError) as error:  # each family its own
        raise DeepLabError(
            f"{settings.backbone} cannot be built as a backbone with {options}: {error}; a network without dilations "
            "takes output_stride=None"
        ) from error


def fill_backbone(network: DeepLabV3Plus, weights: str | Path) -> None:
    """Start from a backbone that learnt without labels, by its address; or from a whole network of the same shape, all
    of it but the layer that knows the classes, such as a student of other names.

    That is a file, a folder in `timm`'s layout, a URL, a name of the catalogue ("dino-resnet50"), or what a plug-in
    brings; or "timm" for the weights that `timm` has under the backbone's own name.
    """
    name = network.settings.backbone
    extra = ["fc.*"]  # a classifier, which no segmenter has
    state: Mapping[str, Tensor]
    if weights == "timm":
        state, extra = _as_built(network.settings, read_state_dict(resolve(f"timm:{name}"))), ["*"]
    else:
        path = find(weights, BACKBONE).path
        path = path / WEIGHTS if is_timm_folder(path) else path
        state = read_state_dict(path, unwrap=("state_dict", "model"), strip=("module.", "backbone."))
        if any(key.startswith(PYRAMID) for key in state):
            _fill_whole(network, state, weights)
            return
    prefix = "model." if all(key.startswith("model.") for key in network.backbone.state_dict()) else ""
    load_into(
        network.backbone,
        state,
        what=f"{weights} as backbone {name}",
        rename=lambda key: prefix + key,
        allow_extra=[prefix + pattern for pattern in extra],
    )


def _fill_whole(network: DeepLabV3Plus, state: Mapping[str, Tensor], weights: str | Path) -> None:
    """Names of the backbone's parameters have lost their prefix."""
    known = {key: value for key, value in state.items() if not key.startswith((LAST_LAYER, TEXTS))}
    load_into(
        network,
        known,
        what=f"{weights} as a start of {network.title}",
        rename=lambda key: key if key.startswith(HEAD) else f"backbone.{key}",
        allow_missing=[f"{LAST_LAYER}*"],
    )


def _as_built(settings: DeepLabSettings, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`timm`'s own files may hold older names, which its networks translate as they are loaded."""
    overlay = {"state_dict": dict(state)}
    whole = timm.create_model(
        settings.backbone, pretrained=True, pretrained_cfg_overlay=overlay, **settings.backbone_options
    )
    told: Mapping[str, Tensor] = whole.state_dict()
    return told
