"""What the blocks of vision transformers are made of, whoever built them: `open_clip`'s, `timm`'s, and those with
rotary positions (DINOv3). What is not of this form stays with torch.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from timm.layers import Attention, LayerScale, Mlp
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from wordmask.encoders.heads import merge_heads, split_heads
from wordmask.errors import WordmaskError

Activation = Literal["gelu", "quick_gelu"]
Rotation = Literal["halves", "pairs"]
"""Which channels of a head turn together: the i-th of both halves, or neighbours."""


class NoInt8Error(WordmaskError):
    """This network cannot be computed in int8: says what of it has no such form."""


@dataclass(frozen=True)
class Norm:
    gain: Tensor  # (C,)
    bias: Tensor  # (C,)
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.epsilon)


@dataclass(frozen=True)
class Linear:
    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, scale: Tensor | None = None) -> "Linear":
        """scale: LayerScale's, of what comes out."""
        weight = weight.detach().float()
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().float()
        return cls(weight, bias) if scale is None else cls(weight * scale[:, None], bias * scale)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


Layer = TypeVar("Layer")


@dataclass(frozen=True)
class Turns:
    """Rotary positions: cosines and sines (N, d) of every token, 1 and 0 where a token has no place."""

    cosines: Tensor
    sines: Tensor

    @classmethod
    def of(cls, rope: Tensor, prefix: int) -> "Turns":
        """rope: as `timm` has it, (h*w, 2d), sines first. prefix: how many tokens without a place come first."""
        sines, cosines = rope.float().chunk(2, dim=-1)
        return cls(F.pad(cosines, (0, 0, prefix, 0), value=1.0), F.pad(sines, (0, 0, prefix, 0)))


@dataclass(frozen=True)
class Block(Generic[Layer]):
    """y = x + out(attention(norm_1(x))), then y + contract(activation(expand(norm_2(y))))."""

    norm_1: Norm
    query: Layer
    key: Layer
    value: Layer
    out: Layer
    norm_2: Norm
    expand: Layer
    activation: Activation
    contract: Layer
    heads: int
    rotation: Rotation | None = None

    @property
    def width(self) -> int:
        return len(self.norm_1.gain)


def turned(x: Tensor, turns: Turns, rotation: Rotation | None) -> Tensor:
    """(B, heads, N, d), every token turned to its place."""
    if rotation == "halves":
        first, second = x.chunk(2, dim=-1)
        other = torch.cat([-second, first], dim=-1)
    else:
        other = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * turns.cosines + other * turns.sines


def blocks_of(modules: Iterable[nn.Module]) -> list[Block[Linear]]:
    """Return what blocks are made of, on the processor and in single precision, or say what has no such form."""
    return [_block_of(module) for module in modules]


def _block_of(module: Any) -> Block[Linear]:
    if type(module) is ResidualAttentionBlock:
        attention, mlp = module.attn, module.mlp
        _check(attention.in_proj_weight is not None and module.attn.batch_first, "its attention")
        weights = attention.in_proj_weight.chunk(3)
        biases: Sequence[Tensor | None] = attention.in_proj_bias.chunk(3)
        scales = [getattr(own, "gamma", None) for own in (module.ls_1, module.ls_2)]
        norms, out, expand, contract = (module.ln_1, module.ln_2), attention.out_proj, mlp.c_fc, mlp.c_proj
        activation, rotation = mlp.gelu, None
    elif type(module) is TimmBlock and type(module.attn) is Attention:
        attention, mlp = module.attn, module.mlp
        weights = attention.qkv.weight.chunk(3)
        biases = [None] * 3 if attention.qkv.bias is None else attention.qkv.bias.chunk(3)
        scales = [own.gamma if isinstance(own, LayerScale) else None for own in (module.ls1, module.ls2)]
        norms, out, expand, contract = (module.norm1, module.norm2), attention.proj, *_of_mlp(mlp)
        activation, rotation = mlp.act, None
    elif type(module) is EvaBlock and type(module.attn) is EvaAttention:
        attention, mlp = module.attn, module.mlp
        if attention.qkv is None:
            parts = [attention.q_proj, attention.k_proj, attention.v_proj]
            weights, biases = [own.weight for own in parts], [own.bias for own in parts]
        else:
            weights = attention.qkv.weight.chunk(3)
            biases = [attention.q_bias, attention.k_bias, attention.v_bias]
        scales = [module.gamma_1, module.gamma_2]
        norms, out, expand, contract = (module.norm1, module.norm2), attention.proj, *_of_mlp(mlp)
        activation, rotation = mlp.act, "halves" if attention.rotate_half else "pairs"
    else:
        raise NoInt8Error(f"its blocks are of a kind ({type(module).__name__}) that has no int8 form here")
    for name in ("q_norm", "k_norm", "norm"):
        _check(type(getattr(attention, name, nn.Identity())) is nn.Identity, f"its attention's {name}")
    _check(getattr(attention, "gate", None) is None, "its attention's gate")
    _check(len(weights[0]) == weights[0].shape[1], "its attention, which is not as wide as its tokens,")
    query, key, value = (Linear.of(weight, bias) for weight, bias in zip(weights, biases, strict=True))
    return Block(
        *(_norm_of(norms[0]), query, key, value, Linear.of(out.weight, out.bias, scales[0])),
        *(_norm_of(norms[1]), Linear.of(expand.weight, expand.bias), _activation_of(activation)),
        Linear.of(contract.weight, contract.bias, scales[1]),
        int(attention.num_heads),
        rotation,  # type: ignore[arg-type]
    )


def _of_mlp(mlp: Any) -> tuple[nn.Linear, nn.Linear]:
    _check(type(mlp) is Mlp and type(mlp.norm) is nn.Identity, f"its MLP ({type(mlp).__name__})")
    return mlp.fc1, mlp.fc2


def _norm_of(module: Any) -> Norm:
    _check(isinstance(module, nn.LayerNorm) and module.weight is not None, f"its norm ({type(module).__name__})")
    bias = torch.zeros_like(module.weight) if module.bias is None else module.bias
    return Norm(module.weight.detach().float(), bias.detach().float(), float(module.eps))


def _activation_of(module: Any) -> Activation:
    if isinstance(module, QuickGELU):
        return "quick_gelu"
    _check(isinstance(module, nn.GELU) and getattr(module, "approximate", "none") == "none", f"its {module!r}")
    return "gelu"


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise NoInt8Error(f"{what} has no int8 form here")


@dataclass(frozen=True)
class Channels:
    """What the channels that a block's linear layers read are on some pictures: behind norm_1, behind attention, behind
    norm_2, and behind the activation.
    """

    largest: tuple[Tensor, ...]  # four magnitudes, (C,) each, the last (hidden,)
    means: tuple[Tensor, ...]

    @classmethod
    def of(cls, *read: Tensor) -> "Channels":
        """Of what is read, (B, N, C) each."""
        largest, means = ([value.flatten(0, 1) for value in found] for found in ([x.abs() for x in read], read))
        return cls(
            tuple(value.amax(dim=0) for value in largest),
            tuple(value.mean(dim=0) for value in means),
        )


@dataclass(frozen=True)
class Stacked:
    """What a stack of blocks makes of tokens."""

    x: Tensor  # (B, N, C) behind the last block
    outputs: dict[int, Tensor] = field(default_factory=dict)  # block -> (B, N, C)
    normed: dict[int, Tensor] = field(default_factory=dict)  # block -> (B, N, C), what its MLP reads


class Stack(Protocol):
    """Blocks that go one behind the other."""

    def __call__(
        self, x: Tensor, turns: Turns | None = None, *, outputs: Collection[int] = (), normed: Collection[int] = ()
    ) -> Stacked:
        """Take tokens (B, N, C) through all blocks. outputs, normed: blocks, from 0, of which more is wanted."""
        ...


class PlainStack:
    """Blocks in single precision, which remember what their layers read last."""

    def __init__(self, blocks: Sequence[Block[Linear]]):
        self._blocks = list(blocks)
        self.channels: list[Channels] = []

    def __call__(
        self, x: Tensor, turns: Turns | None = None, *, outputs: Collection[int] = (), normed: Collection[int] = ()
    ) -> Stacked:
        kept, taken = {}, {}
        self.channels = []
        for index, block in enumerate(self._blocks):
            first = block.norm_1(x)
            q, k, v = (split_heads(own(first), block.heads) for own in (block.query, block.key, block.value))
            if turns is not None:
                q, k = (turned(part, turns, block.rotation) for part in (q, k))
            mixed = merge_heads(F.scaled_dot_product_attention(q, k, v))
            x = x + block.out(mixed)
            second = block.norm_2(x)
            if index in normed:
                taken[index] = second
            hidden = block.expand(second)
            hidden = F.gelu(hidden) if block.activation == "gelu" else quick_gelu(hidden)
            x = x + block.contract(hidden)
            if index in outputs:
                kept[index] = x
            self.channels.append(Channels.of(first, mixed, second, hidden))
        return Stacked(x, kept, taken)


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(QUICK * x)


QUICK = 1.702
"""Of OpenAI's activation."""


@dataclass(frozen=True)
class Smoothed:
    """A block that computes the same with channels of more equal ranges. scale: what its norm_2 was divided by. means:
    of what its layers read, as in `Channels`.
    """

    block: Block[Linear]
    scale: Tensor  # (C,)
    means: tuple[Tensor, ...]


def smoothed(block: Block[Linear], channels: Channels) -> Smoothed:
    """Move half of each channel's range (SmoothQuant, Xiao et al., ICML 2023, Equation 4) from what a linear layer
    reads into its weights, where each output has a scale of its own: into those behind both norms, and, by the values,
    into the one behind attention, which mixes tokens and not channels.
    """
    first = _scale(channels.largest[0], block.query, block.key, block.value)
    third = _scale(channels.largest[1], block.out)
    second = _scale(channels.largest[2], block.expand)
    value = _reading(block.value, first)
    return Smoothed(
        replace(
            block,
            norm_1=_divided(block.norm_1, first),
            query=_reading(block.query, first),
            key=_reading(block.key, first),
            value=Linear(value.weight / third[:, None], value.bias / third),
            out=_reading(block.out, third),
            norm_2=_divided(block.norm_2, second),
            expand=_reading(block.expand, second),
        ),
        second,
        (channels.means[0] / first, channels.means[1] / third, channels.means[2] / second, channels.means[3]),
    )


def _scale(largest: Tensor, *layers: Linear) -> Tensor:
    weights = torch.stack([layer.weight.abs().amax(dim=0) for layer in layers]).amax(dim=0)
    scale = (largest / weights.clamp(min=TINY)).sqrt()
    scale = (scale / scale.mean().clamp(min=TINY)).clamp(1 / MOST_SMOOTHED, MOST_SMOOTHED)
    return ((2 * scale.log2()).round() / 2).exp2()  # the same on machines that sum in another order


def _divided(norm: Norm, scale: Tensor) -> Norm:
    return replace(norm, gain=norm.gain / scale, bias=norm.bias / scale)


def _reading(layer: Linear, scale: Tensor) -> Linear:
    return replace(layer, weight=layer.weight * scale)


TINY = 1e-9
MOST_SMOOTHED = 1e3
"""Channels that are always zero, or hardly read, keep finite numbers."""
