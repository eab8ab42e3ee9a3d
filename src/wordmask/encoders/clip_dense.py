"""CLIP's image towers, read patch by patch.

CLIP was trained through one pooled vector, but the value path of its last attention carries word-like meaning at
every position (MaskCLIP, Zhou et al. 2022). The last attention's queries are dropped, its value and output
projections act on each patch alone, and the result lies in the space of the text embeddings.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from wordmask.encoders.grid import CLIP_POSITIONS, Grid, resize_positions, to_maps
from wordmask.errors import WordmaskError
from wordmask.pictures.images import pad_to_multiple


class NotDenseError(WordmaskError):
    """This image tower has no patch features that text can be compared with."""


@dataclass(frozen=True)
class DenseFeatures:
    """One pass over B pictures, on a grid of h x w patches of `patch` pixels.

    The grid covers the picture padded at the right and bottom: h = ceil(H / patch), w = ceil(W / patch).
    """

    values: Tensor  # (B, D, h, w) MaskCLIP features, in the space of the text embeddings, not normalised
    patch: int
    keys: Tensor | None = None  # (B, C, h, w) keys of the last attention, heads side by side
    ln_2: dict[int, Tensor] = field(default_factory=dict)  # block -> (B, C, h, w), the normalised input of its MLP

    @property
    def grid(self) -> Grid:
        return self.values.shape[-2], self.values.shape[-1]


def key_affinity(keys: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h*w, h*w): cosine between the keys of every two patches."""
    keys = F.normalize(keys.flatten(2), dim=1)
    return keys.transpose(1, 2) @ keys


class DenseViT:
    """An `open_clip` vision transformer, read at every patch."""

    def __init__(self, tower: Any):
        self.tower = tower
        self.blocks = list(tower.transformer.resblocks)
        self.patch = int(tower.patch_size[0])

    @staticmethod
    def why_not(tower: Any) -> str | None:
        """Return the reason why this transformer cannot be read densely, or None."""
        if tower.attn_pool is not None:
            return "it pools with a learnt query, so its patches are not in the text space"
        if not all(type(block) is ResidualAttentionBlock for block in tower.transformer.resblocks):
            return "its blocks are not the standard residual attention blocks"
        if not tower.transformer.batch_first:
            return "its blocks do not take the batch first"
        if tower.patch_size[0] != tower.patch_size[1]:
            return f"its patches are not square ({tower.patch_size})"
        return None

    def __call__(
        self, images: Tensor, *, residual: bool, keys: bool = False, ln_2: Collection[int] = ()
    ) -> DenseFeatures:
        """Normalised pictures (B, 3, H, W) -> features at every patch.

        residual: CLIP-DINOiser's reading keeps the last block whole but for the attention weights, x + v and the MLP
        on top; without it the value path stands alone, as in the original MaskCLIP.
        ln_2: blocks (negative counts from the end) whose ln_2 output is wanted.
        """
        images = pad_to_multiple(images, self.patch)
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        wanted = {self._block_index(index) for index in ln_2}
        x = self._embed(images, grid)  # (B, 1 + h*w, C)
        taken: dict[int, Tensor] = {}
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks[:-1]):
            x = x + block.ls_1(_attend(block.attn, block.ln_1(x)))
            normed = block.ln_2(x)
            if index in wanted:
                taken[index] = to_maps(normed[:, 1:], grid)
            x = x + block.ls_2(block.mlp(normed))

        block = self.blocks[-1]
        if last in wanted:
            attended = x + block.ls_1(_attend(block.attn, block.ln_1(x)))
            taken[last] = to_maps(block.ln_2(attended)[:, 1:], grid)
        x = x[:, 1:]  # the value path never mixes tokens, so CLS can go
        normed = block.ln_1(x)
        width = x.shape[-1]
        _, key_weight, value_weight = block.attn.in_proj_weight.split(width)
        _, key_bias, value_bias = block.attn.in_proj_bias.split(width)
        v = block.ls_1(block.attn.out_proj(F.linear(normed, value_weight, value_bias)))
        if residual:
            v = x + v
            v = v + block.ls_2(block.mlp(block.ln_2(v)))
        values = self.tower.ln_post(v)
        if self.tower.proj is not None:
            values = values @ self.tower.proj
        return DenseFeatures(
            values=to_maps(values, grid),
            patch=self.patch,
            keys=to_maps(F.linear(normed, key_weight, key_bias), grid) if keys else None,
            ln_2={index: taken[self._block_index(index)] for index in ln_2},
        )

    def pooled(self, images: Tensor) -> Tensor:
        """Normalised pictures of any size (B, 3, H, W) -> the tower's own global vectors (B, D)."""
        images = pad_to_multiple(images, self.patch)
        x = self._embed(images, (images.shape[-2] // self.patch, images.shape[-1] // self.patch))
        for block in self.blocks:
            x = x + block.ls_1(_attend(block.attn, block.ln_1(x)))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        pooled, _ = self.tower._pool(x)
        return pooled if self.tower.proj is None else pooled @ self.tower.proj

    def _embed(self, images: Tensor, grid: Grid) -> Tensor:
        x = self.tower.conv1(images).flatten(2).transpose(1, 2)  # (B, h*w, C)
        cls = self.tower.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        positions = resize_positions(self.tower.positional_embedding, self.tower.grid_size, grid, rule=CLIP_POSITIONS)
        return self.tower.ln_pre(torch.cat([cls, x], dim=1) + positions.to(x.dtype))

    def _block_index(self, index: int) -> int:
        count = len(self.blocks)
        if not -count <= index < count:
            raise ValueError(f"block {index} asked for, but this image tower has {count} blocks")
        return index % count


class DenseResNet:
    """OpenAI's modified ResNet, read through its attention pool: value and output projections as 1x1 convolutions.

    The pool's positions are left out, as MaskCLIP does: they mark places of a fixed grid, not what is there.
    """

    def __init__(self, tower: Any):
        self.tower = tower
        self.patch = 32  # total stride: 4 in the stem, 2 in each of layers 2 to 4

    def __call__(
        self, images: Tensor, *, residual: bool = False, keys: bool = False, ln_2: Collection[int] = ()
    ) -> DenseFeatures:
        """Normalised pictures (B, 3, H, W) -> features at every cell. A pool has no residual, MLP or ln_2."""
        if ln_2:
            raise NotDenseError(
                "a CLIP ResNet has no transformer blocks to read ln_2 from; choose a ViT such as ViT-B-16"
            )
        if residual:
            raise NotDenseError(
                "a CLIP ResNet has no residual around its attention pool; read it with residual=False (MaskCLIP's "
                "original variant)"
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

        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)  # (B, heads, N, d)

        mixed = F.scaled_dot_product_attention(
            heads(pool.q_proj(x[:, :1])), heads(pool.k_proj(x)), heads(pool.v_proj(x))
        )
        return pool.c_proj(mixed.transpose(1, 2).flatten(2))[:, 0]

    def _trunk(self, images: Tensor) -> Tensor:
        tower = self.tower
        return tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(images)))))


def _attend(attention: Any, x: Tensor) -> Tensor:
    """Plain self-attention over (B, N, C), through PyTorch's fused kernel: a tenth faster than the module's own way."""
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
    return attention.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


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
