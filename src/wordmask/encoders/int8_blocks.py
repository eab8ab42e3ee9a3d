"""What the blocks of vision transformers are made of, whoever built them: `open_clip`'s, `timm`'s, and those with
rotary positions (DINOv3). What is not of this form stays with torch.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
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
    """Blocks in single precision. entered: the tokens that came last (B, N, C), and their places."""

    def __init__(self, blocks: Sequence[Block[Linear]]):
        self._blocks = list(blocks)
        self.entered: tuple[Tensor, Turns | None]

    def __call__(
        self, x: Tensor, turns: Turns | None = None, *, outputs: Collection[int] = (), normed: Collection[int] = ()
    ) -> Stacked:
        kept, taken = {}, {}
        self.entered = x, turns
        for index, block in enumerate(self._blocks):
            x = x + block.out(mixed(block, block.norm_1(x), turns))
            second = block.norm_2(x)
            if index in normed:
                taken[index] = second
            x = x + block.contract(activated(block.expand(second), block.activation))
            if index in outputs:
                kept[index] = x
        return Stacked(x, kept, taken)


def mixed(block: Block[Any], read: Tensor, turns: Turns | None) -> Tensor:
    """Return what attention makes of what its layers read, (B, N, C)."""
    q, k, v = (split_heads(own(read), block.heads) for own in (block.query, block.key, block.value))
    if turns is not None:
        q, k = (turned(part, turns, block.rotation) for part in (q, k))
    return merge_heads(F.scaled_dot_product_attention(q, k, v))


def activated(x: Tensor, activation: Activation) -> Tensor:
    return F.gelu(x) if activation == "gelu" else x * torch.sigmoid(QUICK * x)


QUICK = 1.702
"""Of OpenAI's activation."""
