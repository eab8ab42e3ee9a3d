"""CLIP's image transformers, read patch by patch.

CLIP was trained through one pooled vector, but the value path of its last attention carries word-like meaning at
every position (MaskCLIP, Zhou et al. 2022). How that last block is read is a `Reading`: MaskCLIP drops its queries
and lets the value and output projections act on each patch alone; others let patches attend to what is like them. What
comes out lies in the space of the text embeddings.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from wordmask.encoders.grid import CLIP_POSITIONS, Grid, PositionRule, resize_positions, to_maps
from wordmask.encoders.heads import merge_heads, split_heads
from wordmask.encoders.int8_blocks import Stack, Stacked
from wordmask.errors import WordmaskError
from wordmask.pictures.images import pad_to_multiple


class NotDenseError(WordmaskError):
    """This image tower has no patch features that text can be compared with."""


@dataclass(frozen=True)
class Reading:
    """How the last block is read. Whatever is left out is not computed.

    attention: which projections of the last attention meet, "qq" or "kk": a softmax of queries with queries, or of keys
    with keys, each. Those of several are summed, so that the weights of a patch sum to their number. With none, no
    patch looks at another: its own value stands for it. Where there is one, CLS takes part.
    nearness: in patches, the deviation of a Gaussian of height 1 that is added to what patches have in common, before
    the softmax: they attend to those nearby (NACLIP). CLS gets none.
    residual: keep the rest of the block, what enters it beside the attention and the MLP on top.
    """

    name: str
    attention: tuple[Literal["qq", "kk"], ...] = ()
    nearness: float | None = None
    residual: bool = False


MASKCLIP = Reading("maskclip")
CLIP_DINOISER = Reading("clip-dinoiser", residual=True)
SCLIP = Reading("sclip", ("qq", "kk"), residual=True)
CLEARCLIP = Reading("clearclip", ("qq",))
NACLIP = Reading("naclip", ("kk",), nearness=5.0)
READINGS = {reading.name: reading for reading in (MASKCLIP, CLIP_DINOISER, SCLIP, CLEARCLIP, NACLIP)}


@dataclass(frozen=True)
class Tokens:
    """One pass over B pictures, up to the last block."""

    x: Tensor  # (B, 1 + h*w, C) the output of the last block but one, CLS first
    grid: Grid
    kept: dict[int, Tensor] = field(default_factory=dict)  # block -> its output (B, 1 + h*w, C)
    ln_2: dict[int, Tensor] = field(default_factory=dict)  # block -> (B, 1 + h*w, C), the normalised input of its MLP


@dataclass(frozen=True)
class DenseFeatures:
    """One pass over B pictures, on a grid of h x w patches of `patch` pixels.

    The grid covers the picture padded at the right and bottom: h = ceil(H / patch), w = ceil(W / patch).
    """

    values: Tensor  # (B, D, h, w) what the reading says, in the space of the text embeddings, not normalised
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
        self.stack: Stack | None = None
        """What runs all blocks but the last in their place."""

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
        self,
        images: Tensor,
        *,
        reading: Reading | None = None,
        keys: bool = False,
        ln_2: Collection[int] = (),
        positions: PositionRule = CLIP_POSITIONS,
    ) -> DenseFeatures:
        """Normalised pictures (B, 3, H, W) -> features at every patch, by default as CLIP-DINOiser reads them.

        ln_2: blocks (negative counts from the end) whose ln_2 output is wanted. positions: see `run`.
        """
        reading = reading or CLIP_DINOISER
        images = pad_to_multiple(images, self.patch)
        tokens = self.run(images, ln_2=ln_2, positions=positions)
        normed = self._normed(tokens, reading)
        patches = normed[:, 1:] if reading.attention else normed
        return DenseFeatures(
            values=to_maps(self._read(tokens, normed, reading), tokens.grid),
            patch=self.patch,
            keys=to_maps(self.keys(patches), tokens.grid) if keys else None,
            ln_2={index: to_maps(normal[:, 1:], tokens.grid) for index, normal in tokens.ln_2.items()},
        )

    def run(
        self,
        images: Tensor,
        *,
        keep: Collection[int] = (),
        ln_2: Collection[int] = (),
        positions: PositionRule = CLIP_POSITIONS,
    ) -> Tokens:
        """Run all blocks but the last on normalised pictures (B, 3, H, W), whose sides are multiples of the patch.

        keep: blocks, from 0 or negative from the end, whose outputs are wanted too. ln_2: those whose normalised inputs
        of the MLP are; here the last may be among them. positions: how learnt positions come to another grid.
        """
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        outputs = {index: self._block_index(index) for index in keep}
        wanted = {index: self._block_index(index) for index in ln_2}
        last = len(self.blocks) - 1
        if last in outputs.values():
            raise ValueError("the last block is not run: its output cannot be kept")
        x = self._embed(images, grid, positions)  # (B, 1 + h*w, C)
        ran = self._run_blocks(x, set(outputs.values()), set(wanted.values()) - {last})
        x, taken = ran.x, ran.normed
        if last in wanted.values():
            taken[last] = self.last.ln_2(x + self.last.ls_1(_attend(self.last.attn, self.last.ln_1(x))))
        return Tokens(
            x,
            grid,
            kept={index: ran.outputs[number] for index, number in outputs.items()},
            ln_2={index: taken[number] for index, number in wanted.items()},
        )

    def _run_blocks(self, x: Tensor, outputs: Collection[int] = (), normed: Collection[int] = ()) -> Stacked:
        """Run all blocks but the last on tokens (B, N, C). outputs, normed: blocks of which more is wanted."""
        if self.stack is not None:
            return self.stack(x, outputs=outputs, normed=normed)
        kept: dict[int, Tensor] = {}
        taken: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks[:-1]):
            x = x + block.ls_1(_attend(block.attn, block.ln_1(x)))
            read = block.ln_2(x)
            if number in normed:
                taken[number] = read
            x = x + block.ls_2(block.mlp(read))
            if number in outputs:
                kept[number] = x
        return Stacked(x, kept, taken)

    def read(self, tokens: Tokens, reading: Reading) -> Tensor:
        """Return what the last block says of every patch, (B, h*w, D), in the space of the text embeddings."""
        return self._read(tokens, self._normed(tokens, reading), reading)

    def _normed(self, tokens: Tokens, reading: Reading) -> Tensor:
        """Return what enters the last attention: of the patches alone where none looks at others, else with CLS."""
        normed: Tensor = self.last.ln_1(tokens.x if reading.attention else tokens.x[:, 1:])
        return normed

    def _read(self, tokens: Tokens, normed: Tensor, reading: Reading) -> Tensor:
        x, mixed = tokens.x, self.values(normed)
        if reading.attention:
            mixed = self._mix(normed, mixed, tokens.grid, reading)
        else:
            x = x[:, 1:]
        mixed = self.project(mixed)
        if reading.residual:
            mixed = x + mixed
            mixed = mixed + self.last.ls_2(self.last.mlp(self.last.ln_2(mixed)))
        return self.to_text(mixed[:, 1:] if reading.attention else mixed)

    def _mix(self, normed: Tensor, values: Tensor, grid: Grid, reading: Reading) -> Tensor:
        heads = self.split_heads(values)
        nearness = None
        if reading.nearness is not None:
            nearness = nearness_of(grid, reading.nearness).to(normed)
        mixed = torch.zeros_like(heads)
        for pair in reading.attention:
            own = self.split_heads(self.queries(normed) if pair == "qq" else self.keys(normed))
            mixed = mixed + F.scaled_dot_product_attention(own, own, heads, attn_mask=nearness)
        return merge_heads(mixed)

    @property
    def last(self) -> Any:
        """The last block."""
        return self.blocks[-1]

    @property
    def heads(self) -> int:
        """How many there are in the last block's attention."""
        return int(self.last.attn.num_heads)

    def queries(self, normed: Tensor) -> Tensor:
        """Return the last block's, of what its ln_1 gave: (B, N, C) -> (B, N, C), heads side by side."""
        return in_projection(self.last.attn, normed, 0)

    def keys(self, normed: Tensor) -> Tensor:
        """As `queries`."""
        return in_projection(self.last.attn, normed, 1)

    def values(self, normed: Tensor) -> Tensor:
        """As `queries`."""
        return in_projection(self.last.attn, normed, 2)

    def split_heads(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, d)"""
        return split_heads(tokens, self.heads)

    def project(self, mixed: Tensor) -> Tensor:
        """Take values, mixed or not, heads side by side, through the attention's way out: (B, N, C) -> (B, N, C)."""
        projected: Tensor = self.last.ls_1(self.last.attn.out_proj(mixed))
        return projected

    def to_text(self, tokens: Tensor) -> Tensor:
        """Bring what leaves the last block into the space of the text embeddings: (B, N, C) -> (B, N, D)."""
        values: Tensor = self.tower.ln_post(tokens)
        return values if self.tower.proj is None else values @ self.tower.proj

    def pooled(self, images: Tensor) -> Tensor:
        """Normalised pictures of any size (B, 3, H, W) -> the tower's own global vectors (B, D)."""
        images = pad_to_multiple(images, self.patch)
        x = self._embed(images, (images.shape[-2] // self.patch, images.shape[-1] // self.patch))
        x = self._run_blocks(x).x
        looking = 1 if self.tower.pool_type == "tok" else x.shape[1]  # CLS alone, where no more is wanted of the last
        normed = self.last.ln_1(x)
        x = x[:, :looking] + self.last.ls_1(_attend(self.last.attn, normed, looking))
        x = x + self.last.ls_2(self.last.mlp(self.last.ln_2(x)))
        pooled, _ = self.tower._pool(x)
        return pooled if self.tower.proj is None else pooled @ self.tower.proj

    def _embed(self, images: Tensor, grid: Grid, rule: PositionRule = CLIP_POSITIONS) -> Tensor:
        x = in_patches(self.tower.conv1, images)  # (B, h*w, C)
        cls = self.tower.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        positions = resize_positions(self.tower.positional_embedding, self.tower.grid_size, grid, rule=rule)
        return self.tower.ln_pre(torch.cat([cls, x], dim=1) + positions.to(x.dtype))

    def _block_index(self, index: int) -> int:
        count = len(self.blocks)
        if not -count <= index < count:
            raise ValueError(f"block {index} asked for, but this image tower has {count} blocks")
        return index % count


def in_patches(convolution: Any, images: Tensor) -> Tensor:
    """Return what a convolution that takes whole patches gives, (B, h*w, C); what is left at an edge it passes over.

    On processors it is a product of matrices: oneDNN takes a third longer for filters that never overlap. A graph that
    is exported has the convolution, which other runtimes know better.
    """
    if images.device.type != "cpu" or images.dtype != torch.float32 or torch.onnx.is_in_onnx_export():
        found: Tensor = convolution(images)
        return found.flatten(2).transpose(1, 2)
    high, wide = convolution.kernel_size
    height, width = images.shape[-2:]
    images = images[..., : height // high * high, : width // wide * wide]
    patches = images.unflatten(2, (-1, high)).unflatten(4, (-1, wide)).permute(0, 2, 4, 1, 3, 5)  # B, h, w, 3, ...
    return F.linear(patches.flatten(3).flatten(1, 2), convolution.weight.flatten(1), convolution.bias)


def through_block(block: Any, x: Tensor) -> Tensor:
    """Take tokens (B, N, C) through a whole block."""
    x = x + block.ls_1(_attend(block.attn, block.ln_1(x)))
    passed: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return passed


def _attend(attention: Any, x: Tensor, looking: int | None = None) -> Tensor:
    """Plain self-attention over (B, N, C), through PyTorch's fused kernel: a tenth faster than the module's own way.

    looking: the first tokens, where only these look at all the others: (B, looking, C).
    """
    if looking == 1 and x.shape[1] > 1 and x.dtype == torch.float32:
        return attention.out_proj(_one_looking(attention, x))
    if looking is None or looking == x.shape[1]:
        qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
    else:
        read = (in_projection(attention, own, which) for which, own in enumerate((x[:, :looking], x, x)))
        q, k, v = (split_heads(own, attention.num_heads) for own in read)
    return attention.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


def _one_looking(attention: Any, x: Tensor) -> Tensor:
    """Return what the first token's attention mixes of tokens (B, N, C), heads side by side, (B, 1, C).

    Keys and values of all tokens are not made: the query is taken to where the tokens are, and what it mixes of them to
    where values are. That adds the same to all its products, the keys' bias, and the values' once.
    """
    heads, width = attention.num_heads, x.shape[-1]
    _, to_keys, to_values = attention.in_proj_weight.view(3, heads, width // heads, width)
    query = in_projection(attention, x[:, 0], 0).unflatten(-1, (heads, -1)).transpose(0, 1)  # (heads, B, d)
    asked = (query @ to_keys).transpose(0, 1) * (width // heads) ** -0.5  # (B, heads, C)
    mixed = (asked @ x.transpose(1, 2)).softmax(dim=-1) @ x  # (B, heads, C)
    values = (mixed.transpose(0, 1) @ to_values.transpose(1, 2)).transpose(0, 1).flatten(1)  # (B, C)
    return (values + attention.in_proj_bias[2 * width :])[:, None]


def in_projection(attention: Any, normed: Tensor, which: int) -> Tensor:
    """Return an attention's queries (0), keys (1) or values (2) of tokens (B, N, C): (B, N, C), heads side by side."""
    rows = slice(which * normed.shape[-1], (which + 1) * normed.shape[-1])
    return F.linear(normed, attention.in_proj_weight[rows], attention.in_proj_bias[rows])


@lru_cache(maxsize=4)
def nearness_of(grid: Grid, deviation: float) -> Tensor:
    """Return NACLIP's window, (1 + h*w, 1 + h*w): for two patches a Gaussian of the distance between them, with height
    1; for CLS nothing.
    """
    rows, columns = (
        torch.exp(-((torch.arange(side)[:, None] - torch.arange(side)) ** 2) / (2 * deviation**2)) for side in grid
    )
    patches = rows[:, None, :, None] * columns[None, :, None, :]  # (h, w, h, w)
    return F.pad(patches.flatten(2).flatten(0, 1), (1, 0, 1, 0))
