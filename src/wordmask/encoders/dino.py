"""DINO, DINOv2 and DINOv3, as `timm` builds them: what the last block sees of every patch.

The papers here live on the last attention's projections (keys for FOUND, values for CLIP-DINOiser), on where CLS
looks, and on the patch tokens. All come from one pass, at any input size.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from timm.layers import apply_rot_embed_cat
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from wordmask.compute import Precision
from wordmask.encoders.grid import (
    DINO_POSITIONS,
    DINOV2_REGISTER_POSITIONS,
    Grid,
    PositionRule,
    resize_positions,
    to_maps,
)
from wordmask.encoders.heads import merge_heads, split_heads
from wordmask.encoders.int8_agreement import MARK, Host
from wordmask.encoders.int8_blocks import Stack, Turns
from wordmask.encoders.statistics import IMAGENET, ImageStatistics
from wordmask.errors import WordmaskError
from wordmask.fingerprints import digest_of
from wordmask.pictures.images import pad_to_multiple
from wordmask.weights.loading import fingerprint


class DinoError(WordmaskError):
    """This network cannot be read as a DINO."""


@dataclass(frozen=True)
class DinoFeatures:
    """One pass over B pictures, on h x w patches. Projections are as the attention computes them, before any rotary
    code, so that alike patches stay alike wherever they lie; what CLS sees is what the attention does, rotary code
    included. CLS and registers are no patches and are left out everywhere.
    """

    queries: Tensor  # (B, heads, h*w, d)
    keys: Tensor  # (B, heads, h*w, d)
    values: Tensor  # (B, heads, h*w, d)
    cls_query: Tensor  # (B, heads, d) CLS's own, before any rotary code, of which CLS has none
    cls_logits: Tensor  # (B, heads, h*w) CLS's query times the patches' keys, scaled, before the softmax
    cls_attention: Tensor  # (B, heads, h*w) CLS's row of the softmax over all tokens; its patches' part
    tokens: Tensor  # (B, D, h, w) patch tokens behind the final norm
    cls: Tensor  # (B, D)
    registers: Tensor  # (B, R, D), behind the final norm; none in the first DINO
    grid: Grid
    patch: int

    def query_maps(self) -> Tensor:
        """(B, heads*d, h, w): queries with the heads side by side."""
        return self._maps(self.queries)

    def key_maps(self) -> Tensor:
        """(B, heads*d, h, w): keys with the heads side by side, as FOUND reads them."""
        return self._maps(self.keys)

    def value_maps(self) -> Tensor:
        """(B, heads*d, h, w): values with the heads side by side, as CLIP-DINOiser's teacher reads them."""
        return self._maps(self.values)

    def _maps(self, per_head: Tensor) -> Tensor:
        return to_maps(merge_heads(per_head), self.grid)


class DinoEncoder:
    """A frozen self-supervised vision transformer of `timm`'s."""

    def __init__(self, model: Any, *, name: str, device: str | torch.device = "cpu"):
        if not isinstance(model, VisionTransformer | Eva):
            raise DinoError(
                f"{name} is a {type(model).__name__}; patch features are read from vision transformers only, such as "
                "vit_small_patch8_224.dino"
            )
        if model.cls_token is None:
            raise DinoError(f"{name} has no CLS token, whose attention is part of what is read; choose a DINO ViT")
        self.model = model.eval().requires_grad_(False).to(device)
        self.name = name
        self.patch_size = int(model.patch_embed.patch_size[0])
        self.statistics = ImageStatistics(
            tuple(model.pretrained_cfg.get("mean", IMAGENET.mean)),
            tuple(model.pretrained_cfg.get("std", IMAGENET.std)),
        )
        self.dtype = model.patch_embed.proj.weight.dtype
        self._positions = position_rule(model)
        self.stack: Stack | None = None
        """What runs all blocks but the last in their place."""

    @property
    def device(self) -> torch.device:
        return next(iter(self.model.parameters())).device

    @property
    def precision(self) -> Precision:
        if self.stack is not None:
            return "int8"
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    @property
    def heads(self) -> int:
        return int(self.model.blocks[-1].attn.num_heads)

    @property
    def width(self) -> int:
        return int(self.model.embed_dim)

    @property
    def fingerprint(self) -> str:
        """Changes whenever anything that shapes a feature does: a cache key."""
        return digest_of(f"{self._mark} {MARK}") if self.precision == "int8" else digest_of(self._mark)

    @cached_property
    def _mark(self) -> str:
        """All of that but what the blocks compute in."""
        return f"{fingerprint(self.model)} {self.model!r} {self.heads} {self.statistics}"

    def int8_host(self) -> Host:
        """Return where its blocks can be put in int8."""

        def place(stack: Stack | None) -> None:
            self.stack = stack

        def features(pictures: Tensor) -> list[Tensor]:
            said = self(pictures)
            return [said.tokens.flatten(2).transpose(1, 2), merge_heads(said.keys)]

        return Host(f"DINO {self.name}", list(self.model.blocks[:-1]), self._mark, features, place)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> DinoFeatures:
        """Pictures (B, 3, H, W) in [0, 1], any size -> features of every patch, float32.

        Sizes that are no multiple of the patch are padded with zeros (the mean colour) at the right and the bottom.
        """
        x, grid, rope = self._until_the_last(images)
        model, last = self.model, self.model.blocks[-1]
        prefix = model.num_prefix_tokens
        q, k, v = _project(last.attn, last.norm1(x))  # (B, heads, prefix + h*w, d)
        logits = _cls_logits(last.attn, q, k, rope, prefix)
        x = last(x, rope=rope) if isinstance(model, Eva) else last(x)
        x = model.norm(x)
        return DinoFeatures(
            queries=q[:, :, prefix:].float(),
            keys=k[:, :, prefix:].float(),
            values=v[:, :, prefix:].float(),
            cls_query=q[:, :, 0].float(),
            cls_logits=logits[:, :, prefix:],
            cls_attention=logits.softmax(dim=-1)[:, :, prefix:],
            tokens=to_maps(x[:, prefix:], grid).float(),
            cls=x[:, 0].float(),
            registers=x[:, 1:prefix].float(),
            grid=grid,
            patch=self.patch_size,
        )

    @torch.inference_mode()
    def read_values(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> patches behind the final norm (B, D, h, w), float32, where in the last
        block every token is handed its own value alone: MaskCLIP's reading, with the residual and the MLP.
        """
        x, grid, _ = self._until_the_last(images)
        last = self.model.blocks[-1]
        if not isinstance(self.model, VisionTransformer):
            raise DinoError(f"{self.name} is a {type(self.model).__name__}, whose values are not read so")
        values = last.attn.qkv(last.norm1(x)).chunk(3, dim=-1)[2]
        x = x + last.ls1(last.attn.proj(last.attn.norm(values)))
        x = self.model.norm(x + last.ls2(last.mlp(last.norm2(x))))
        return to_maps(x[:, self.model.num_prefix_tokens :], grid).float()

    def read_patches(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> the `tokens` of a call alone, (B, D, h, w), float32; a graph can be traced
        of it.
        """
        x, grid, rope = self._until_the_last(images)
        last = self.model.blocks[-1]
        x = self.model.norm(last(x, rope=rope) if isinstance(self.model, Eva) else last(x))
        return to_maps(x[:, self.model.num_prefix_tokens :], grid).float()

    def _until_the_last(self, images: Tensor) -> tuple[Tensor, Grid, Tensor | None]:
        """Run all blocks but the last: tokens (B, prefix + h*w, C), their grid, and a rotary code if there is one."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"pictures must be (B, 3, H, W), not {tuple(images.shape)}")
        images = self.statistics.normalise(images.to(self.device, torch.float32)).to(self.dtype)
        images = pad_to_multiple(images, self.patch_size)
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        model = self.model
        rope = None
        x = self._embed(images, grid)  # (B, prefix + h*w, C): CLS, registers, patches
        if isinstance(model, Eva) and model.rope is not None:
            rope = model.rope.get_embed(shape=list(grid))
        return self._run_blocks(x, rope), grid, rope

    def _run_blocks(self, x: Tensor, rope: Tensor | None) -> Tensor:
        """Run all blocks but the last on tokens (B, N, C)."""
        if self.stack is not None:
            return self.stack(x, None if rope is None else Turns.of(rope, self.model.num_prefix_tokens)).x
        if not isinstance(self.model, Eva):
            return self.model.blocks[:-1](x)
        for block in self.model.blocks[:-1]:
            x = block(x, rope=rope)
        return x

    def _embed(self, images: Tensor, grid: Grid) -> Tensor:
        model = self.model
        x = model.patch_embed.norm(model.patch_embed.proj(images).flatten(2).transpose(1, 2))  # (B, h*w, C)
        specials = [token for token in (model.cls_token, model.reg_token) if token is not None]
        specials = [token.expand(x.shape[0], -1, -1) for token in specials]
        if model.pos_embed is None:
            return model.norm_pre(torch.cat([*specials, x], dim=1))
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        positions = resize_positions(
            model.pos_embed[0], model.patch_embed.grid_size, grid, prefix=prefix, rule=self._positions
        ).to(x.dtype)
        if model.no_embed_class:
            x = torch.cat([*specials, x + positions], dim=1)
        else:
            x = torch.cat([*specials, x], dim=1) + positions
        return model.norm_pre(x)


def position_rule(model: Any) -> PositionRule:
    """How the model's authors resize positions: DINOv2 with registers dropped the 0.1 offset and added antialiasing."""
    return DINO_POSITIONS if model.reg_token is None else DINOV2_REGISTER_POSITIONS


def _project(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split the last block's normalised input (B, N, C): q, k, v, each (B, heads, N, d), normed where it is so."""
    if attention.qkv is None:
        parts = [attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)]
    else:
        qkv = attention.qkv(x)
        if getattr(attention, "q_bias", None) is not None:
            qkv = qkv + torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        parts = list(qkv.chunk(3, dim=-1))
    q, k, v = (split_heads(part, attention.num_heads) for part in parts)
    return attention.q_norm(q), attention.k_norm(k), v


def _cls_logits(attention: Any, q: Tensor, k: Tensor, rope: Tensor | None, prefix: int) -> Tensor:
    """CLS's row of the last attention before the softmax, over all tokens: (B, heads, N), float32."""
    if rope is not None:  # special tokens have no place, so only the patches' keys turn; CLS's query does not
        half = bool(getattr(attention, "rotate_half", False))
        turned = apply_rot_embed_cat(k[:, :, prefix:], rope, half=half).type_as(k)
        k = torch.cat([k[:, :, :prefix], turned], dim=2)
    return ((q[:, :, :1].float() * attention.scale) @ k.float().transpose(-2, -1))[:, :, 0]
