"""SelfMask's network (Shin, Albanie and Xie, "Unsupervised Salient Object Detection with Spectral Cluster Voting",
CVPRW 2022): queries ask a vision transformer's patches for objects, and say how sure they are of theirs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from wordmask.encoders.grid import Grid, PositionRule, resize_positions, to_maps
from wordmask.encoders.int8_blocks import Stack
from wordmask.encoders.statistics import IMAGENET
from wordmask.pictures.images import pad_to_multiple
from wordmask.saliency.base import SaliencyError
from wordmask.weights.building import built_from

STATISTICS = IMAGENET
"""Which DINO was trained with."""
POSITIONS = PositionRule()
"""SelfMask resizes positions to the grid's exact size, without DINO's offset."""
HEAD_WIDTH = 64
"""Every DINO's attention heads are so wide; no weight file says it."""
FINER = 2
"""Pixel features are the patches' tokens on a grid so many times as fine."""


@dataclass(frozen=True)
class SelfMaskShape:
    """All that must be known to build the network. mask_mlp: masks are asked for with the query behind an MLP of its
    own, as in MaskFormer, not with the bare query.
    """

    image_size: int = 224
    patch: int = 8
    width: int = 384
    blocks: int = 12
    heads: int = 6
    queries: int = 20
    layers: int = 6
    mlp_ratio: int = 4
    mask_mlp: bool = False

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], heads: int | None = None) -> "SelfMaskShape":
        """Return the shape behind weights, under this module's names."""
        try:
            patch = state["encoder.patch_embed.proj.weight"].shape[-1]
            queries, width = state["queries"].shape
            positions = state["encoder.pos_embed"].shape[1]
            expanded = state["decoder.layers.0.expand.weight"].shape[0]
        except KeyError as error:
            raise SaliencyError(f"these are no weights of SelfMask: they have no {error.args[0]}") from error
        except (ValueError, IndexError) as error:
            raise SaliencyError(f"these are no weights of SelfMask: their shapes are others ({error})") from error
        if not width or not positions or not patch:
            raise SaliencyError("these are no weights of SelfMask: some of its tensors are empty")
        return cls(
            image_size=isqrt(positions - 1) * patch,
            patch=patch,
            width=width,
            blocks=_count(state, r"encoder\.blocks\.(\d+)\."),
            heads=heads or max(1, width // HEAD_WIDTH),
            queries=queries,
            layers=_count(state, r"decoder\.layers\.(\d+)\."),
            mlp_ratio=expanded // width,
            mask_mlp="mask_mlp.layers.0.weight" in state,
        )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for key in state if (found := re.match(pattern, key))})


class Mlp(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, out)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.layers
        out: Tensor = third(F.relu(second(F.relu(first(x)))))
        return out


class DecoderLayer(nn.Module):
    """Queries look at one another, then at the patches, then think; a norm follows each (DETR's post-norm layer)."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.expand = nn.Linear(width, width * mlp_ratio)
        self.contract = nn.Linear(width * mlp_ratio, width)
        self.self_norm = nn.LayerNorm(width)
        self.cross_norm = nn.LayerNorm(width)
        self.mlp_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor) -> Tensor:
        """x and queries (B, Q, D), memory (B, h*w, D). The learnt queries serve as positions: they are added to what
        asks and to what is compared, never to what is taken over.
        """
        placed = x + queries
        x = self.self_norm(x + self.self_attention(placed, placed, x, need_weights=False)[0])
        x = self.cross_norm(x + self.cross_attention(x + queries, memory, memory, need_weights=False)[0])
        return self.mlp_norm(x + self.contract(F.relu(self.expand(x))))


class QueryDecoder(nn.Module):
    """Six layers, and one norm behind each reading."""

    def __init__(self, width: int, heads: int, layers: int, mlp_ratio: int):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, mlp_ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Return what every layer makes of queries (Q, D) and memory (B, h*w, D): (L, B, Q, D)."""
        placed = queries.expand(len(memory), -1, -1)
        x = torch.zeros_like(placed)
        readings = []
        for layer in self.layers:
            x = layer(x, placed, memory)
            readings.append(self.norm(x))
        return torch.stack(readings)


@dataclass(frozen=True)
class Asked:
    """What every decoder layer says, last layer last."""

    masks: Tensor  # (L, B, Q, 2h, 2w) in [0, 1]
    objectness: Tensor  # (L, B, Q) logits

    def best(self) -> Tensor:
        """(B, 2h, 2w): the last layer's mask of the query that is surest."""
        chosen = self.objectness[-1].argmax(dim=1)  # (B,)
        return self.masks[-1][torch.arange(len(chosen), device=chosen.device), chosen]


class SelfMaskNetwork(nn.Module):
    def __init__(self, shape: SelfMaskShape):
        super().__init__()
        self.shape = shape
        self.encoder = VisionTransformer(
            img_size=shape.image_size,
            patch_size=shape.patch,
            embed_dim=shape.width,
            depth=shape.blocks,
            num_heads=shape.heads,
            num_classes=0,
            dynamic_img_size=True,
        )
        self.decoder = QueryDecoder(shape.width, shape.heads, shape.layers, shape.mlp_ratio)
        self.queries = nn.Parameter(torch.randn(shape.queries, shape.width))
        self.objectness = Mlp(shape.width, 1)
        self.mask_mlp = Mlp(shape.width, shape.width) if shape.mask_mlp else None
        self.stack: Stack | None = None
        """What runs the encoder's blocks in their place."""

    def forward(self, images: Tensor, *, every_layer: bool = False) -> Asked:
        """Pictures (B, 3, H, W) in [0, 1] of any size. Without `every_layer`, only the last layer answers."""
        images = pad_to_multiple(STATISTICS.normalise(images), self.shape.patch)
        tokens, grid = self.patch_tokens(images)
        readings = self.decoder(self.queries, tokens)  # (L, B, Q, D)
        if not every_layer:
            readings = readings[-1:]
        pixels = F.interpolate(to_maps(tokens, grid), scale_factor=FINER, mode="bilinear", align_corners=False)
        asking = readings if self.mask_mlp is None else self.mask_mlp(readings)
        masks = torch.einsum("lbqd,bdhw->lbqhw", asking, pixels).sigmoid()
        return Asked(masks, self.objectness(readings)[..., 0])

    def patch_tokens(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Normalised pictures (B, 3, H, W), sides multiples of the patch -> (B, h*w, D) behind the last norm."""
        encoder = self.encoder
        patches = encoder.patch_embed.proj(images)
        grid = (patches.shape[-2], patches.shape[-1])
        positions = resize_positions(encoder.pos_embed[0], encoder.patch_embed.grid_size, grid, rule=POSITIONS)
        x = torch.cat([encoder.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        x = x + positions
        x = encoder.norm(encoder.blocks(x) if self.stack is None else self.stack(x).x)
        return x[:, 1:], grid


_DECODER_PARTS = {
    "self_attn": "self_attention",
    "multihead_attn": "cross_attention",
    "linear1": "expand",
    "linear2": "contract",
    "norm1": "self_norm",
    "norm2": "cross_norm",
    "norm3": "mlp_norm",
}
"""Published names of a decoder layer's parts, and ours."""
_DECODER_PART = re.compile(r"^(decoder\.layers\.\d+)\.(\w+)\.")


def from_published(name: str) -> str:
    """Return this network's name for a tensor of the published file. The encoder's are DINO's in both; our own stay."""
    return _renamed(name, {"query_embed": "queries", "ffn": "objectness"}, _DECODER_PARTS)


def to_published(name: str) -> str:
    """Return the published file's name for a tensor of this network, so that others can read what is trained here."""
    parts = {ours: published for published, ours in _DECODER_PARTS.items()}
    return _renamed(name, {"queries": "query_embed", "objectness": "ffn"}, parts)


def _renamed(name: str, first: Mapping[str, str], parts: Mapping[str, str]) -> str:
    head, dot, rest = name.partition(".")
    name = first.get(head, head) + dot + rest
    return _DECODER_PART.sub(lambda found: f"{found[1]}.{parts.get(found[2], found[2])}.", name)


def network_of(state: Mapping[str, Tensor], *, heads: int | None = None, what: str) -> SelfMaskNetwork:
    """Return the network that published weights, or our own, belong to, with them inside."""
    shape = SelfMaskShape.of_state({from_published(name): value for name, value in state.items()}, heads)
    return built_from(lambda: SelfMaskNetwork(shape), state, what=what, rename=from_published)
