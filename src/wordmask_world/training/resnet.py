"""The one small ResNet of the world: the CLIP's teacher, and the backbone of segmenters."""

from typing import Any

import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor

Four = tuple[int, int, int, int]


def small_resnet(channels: Four, depths: Four, output_stride: int = 32) -> ResNet:
    """Without a classifier: pictures -> pooled features of `channels[-1]`."""
    return ResNet(
        BasicBlock,
        depths,
        channels=channels,
        num_classes=0,
        stem_type="deep_tiered",
        stem_width=channels[0] // 2,
        avg_down=True,
        output_stride=output_stride,
    )


def read_maps(resnet: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised pictures (B, 3, H, W) -> features at an 8th of their size, and those of the last stage."""
    x = images.to(memory_format=torch.channels_last)
    x = resnet.layer1(resnet.maxpool(resnet.act1(resnet.bn1(resnet.conv1(x)))))
    middle = resnet.layer2(x)
    return middle, resnet.layer4(resnet.layer3(middle))
