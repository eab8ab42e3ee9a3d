"""CLIP's modified ResNets, read cell by cell; and which reader an image tower has."""

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor

from wordmask.encoders.clip_dense import (
    MASKCLIP,
    DenseFeatures,
    DenseViT,
    NotDenseError,
    Reading,
)
from wordmask.encoders.grid import CLIP_POSITIONS, PositionRule, resize_positions, to_maps
from wordmask.encoders.heads import merge_heads, split_heads
from wordmask.pictures.images import pad_to_multiple


class DenseResNet:
    """OpenAI's modified ResNet, read through its attention pool: value and output projections as 1x1 convolutions.

    The pool's positions are left out, as MaskCLIP does: they mark places of a fixed grid, not what is there.
    """

    def __init__(self, tower: Any):
        self.tower = tower
        self.patch = 32  # total stride: 4 in the stem, 2 in each of layers 2 to 4

    def __call__(
        self,
        images: Tensor,
        *,
        reading: Reading | None = None,
        keys: bool = False,
        ln_2: Collection[int] = (),
        positions: PositionRule = CLIP_POSITIONS,
    ) -> DenseFeatures:
        """Normalised pictures (B, 3, H, W) -> features at every cell. A pool has no residual, MLP or ln_2, and no
        other reading than MaskCLIP's; its positions play no part.
        """
        if ln_2:
            raise NotDenseError(
                "a CLIP ResNet has no transformer blocks to read ln_2 from; choose a ViT such as ViT-B-16"
            )
        reading = reading or MASKCLIP
        if reading.residual:
            raise NotDenseError(
                f"a CLIP ResNet has no residual around its attention pool, which {reading.name} reads; read it with "
                "residual=False (MaskCLIP's original variant)"
            )
        if reading.attention:
            raise NotDenseError(
                f"a CLIP ResNet has no block whose patches attend to each other, which {reading.name} reads; choose a "
                "ViT such as ViT-B-16"
            )
        x = self._trunk(pad_to_multiple(images, self.patch))
        grid = (x.shape[-2], x.shape[-1])
        x = x.flatten(2).transpose(1, 2)  # (B, h*w, C)
        pool = self.tower.attnpool
        return DenseFeatures(
            values=to_maps(pool.c_proj(pool.v_proj(x)), grid),
            patch=self.patch,
            keys=to_maps(pool.k_proj(x), grid) if keys else None,
        )

    def pooled(self, images: Tensor) -> Tensor:
        """Normalised pictures of any size (B, 3, H, W) -> global vectors (B, D), the pool's positions resized."""
        x = self._trunk(pad_to_multiple(images, self.patch))
        grid = (x.shape[-2], x.shape[-1])
        pool = self.tower.attnpool
        side = int((pool.positional_embedding.shape[0] - 1) ** 0.5)
        positions = resize_positions(pool.positional_embedding, (side, side), grid, rule=CLIP_POSITIONS)
        x = x.flatten(2).transpose(1, 2)  # (B, h*w, C)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + positions.to(x.dtype)

        query, key, value = (
            split_heads(projection(tokens), pool.num_heads)
            for projection, tokens in ((pool.q_proj, x[:, :1]), (pool.k_proj, x), (pool.v_proj, x))
        )
        return pool.c_proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))[:, 0]

    def _trunk(self, images: Tensor) -> Tensor:
        tower = self.tower
        return tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(images)))))


def dense_reader(tower: Any, name: str) -> DenseViT | DenseResNet | NotDenseError:
    """Return the reader for an `open_clip` image tower, or the error to raise when somebody asks for one."""
    if isinstance(tower, ModifiedResNet):
        return DenseResNet(tower)
    if isinstance(tower, VisionTransformer):
        reason = DenseViT.why_not(tower)
        if reason is None:
            return DenseViT(tower)
    else:
        reason = f"its image tower is a {type(tower).__name__}"
    return NotDenseError(
        f"{name} cannot be read patch by patch: {reason}. It still gives global image and text embeddings; for masks "
        "choose a plain CLIP ViT (ViT-B-16, ViT-L-14) or ResNet (RN50)"
    )
