"""The networks that learn by self-distillation: backbones, what is read of them, and the heads that name it."""

import itertools
from typing import Any, NamedTuple

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.encoders.statistics import ImageStatistics
from wordmask_world.training.resnet import read_maps

PATCH = 8
IMAGENET = ImageStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What `timm` models expect."""


def small_vit(*, image_size: int, width: int, blocks: int, heads: int) -> Any:
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=0,
        img_size=image_size,
        patch_size=PATCH,
        embed_dim=width,
        depth=blocks,
        num_heads=heads,
        dynamic_img_size=True,
    )
    vit.pretrained_cfg.update(mean=IMAGENET.mean, std=IMAGENET.std)
    for block in vit.blocks:
        block.attn.fused_attn = False  # see `attention`
    return vit


class Reading(NamedTuple):
    pooled: Tensor  # (B, C)
    map: Tensor  # (B, C, h, w)
    middle: Tensor  # (B, C', h', w') after a third of the blocks, or at an 8th of the size
    projections: tuple[Tensor, ...] = ()
    """Keys and values of a transformer's last attention, (B, C, h, w) each: FOUND reads the former, CLIP-DINOiser's
    teacher the latter."""


def read_vit(vit: Any, views: Tensor) -> Reading:
    x = vit.patch_embed(views)  # (B, h, w, C)
    grid = x.shape[1:3]
    x = vit._pos_embed(x)
    third, last = len(vit.blocks) // 3, vit.blocks[-1]
    middle = vit.blocks[:third](x)
    x = vit.blocks[third:-1](middle)
    _, keys, values = last.attn.qkv(last.norm1(x)).chunk(3, dim=-1)
    x = vit.norm(last(x))

    def as_map(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)

    return Reading(x[:, 0], as_map(x), as_map(middle), (as_map(keys), as_map(values)))


def read_resnet(resnet: Any, views: Tensor) -> Reading:
    middle, last = read_maps(resnet, views)
    return Reading(last.mean(dim=(2, 3)), last, middle)


class Head(nn.Module):
    """Three layers, a normalised bottleneck, and weight-normalised prototypes.

    With `batch_norm`, as the reference offers it, pictures differ for the prototypes from the first step on: a network
    that has learnt nothing says nearly the same of all.
    """

    def __init__(self, width: int, prototypes: int, *, hidden: int, bottleneck: int, batch_norm: bool):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((width, hidden, hidden, bottleneck)):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after) if batch_norm else nn.Identity(), nn.GELU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) -> (n, prototypes): cosines."""
        x = F.normalize(self.layers(x).float(), dim=-1)
        return x @ F.normalize(self.prototypes.weight.float(), dim=-1).T


def evenly_used(logits: Tensor, rounds: int = 3) -> Tensor:
    """(n, K) -> probabilities whose rows sum to 1 and whose columns to n / K: Sinkhorn and Knopp's iteration, as
    DINOv2 centres. It needs no memory of former batches, so that few steps suffice.
    """
    shares = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    for _ in range(rounds):
        shares = shares / shares.sum(dim=0, keepdim=True).clamp(min=1e-12)
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return shares
