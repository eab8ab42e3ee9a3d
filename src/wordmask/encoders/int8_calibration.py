"""How blocks come into int8: by what their layers read on some pictures, one block after the other, each behind those
that are in int8 already.

Ranges are made alike first, at no cost: what is constant in a channel is taken away, and half of each channel's range
moved into weights. The few hidden channels that are the loudest stay in single precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wordmask.encoders.int8_blocks import Block, Linear, Norm, Turns, activated, mixed
from wordmask.encoders.int8_rounding import LARGEST, Rounding, compensated

LOUD = 16
"""Hidden channels that stay in single precision, as a token's largest number says how finely all others are read
(LLM.int8(), Dettmers et al., NeurIPS 2022); but no more than one of `LOUD_SHARE`."""
LOUD_SHARE = 8
LEAST_SCALE = 1e-12
TINY, MOST_SMOOTHED = 1e-9, 1e3
"""Channels that are always zero, or hardly read, keep finite numbers."""
LAYERS = ("query", "key", "value", "out", "expand", "contract")


@dataclass(frozen=True)
class Bytes:
    """How a token's numbers become unsigned bytes, the form that processors multiply by signed ones: zero is at
    `middle`, and the least number is no less than `least`, where that is known.
    """

    middle: int
    least: float | None = None

    def read(self, x: Tensor) -> Tensor:
        """Return tokens (..., C) as their bytes have them."""
        largest = (x.abs() if self.least is None else x).amax(dim=-1, keepdim=True)
        scale = (largest / (255 - self.middle)).clamp(min=self.least_scale)
        return (x / scale).round_().clamp_(-self.middle, 255 - self.middle) * scale

    @property
    def least_scale(self) -> float:
        return LEAST_SCALE if self.least is None else self.least / self.middle


AROUND_ZERO = Bytes(128)
ACTIVATED = Bytes(16, 0.17)
"""Both activations have no number below -0.17, so that nearly all bytes are left for those above zero."""


@dataclass(frozen=True)
class Int8Linear:
    """A layer whose weight is `weight * scales[:, None]`."""

    weight: Tensor  # (out, in) int8
    scales: Tensor  # (out,)
    bias: Tensor  # (out,)

    @classmethod
    def of(cls, layer: Linear, read: Tensor, rounding: Rounding) -> "Int8Linear":
        """read: what the layer reads (..., in). What rounding the weights makes of its mean goes into the bias, so that
        outputs are not moved for all tokens alike.
        """
        rows = read.flatten(0, -2)
        scales = (layer.weight.abs().amax(dim=1) / LARGEST).clamp(min=LEAST_SCALE)
        whole = rounding(layer.weight, scales, rows)
        moved = (layer.weight - whole * scales[:, None]) @ rows.mean(dim=0)
        return cls(whole.to(torch.int8), scales, layer.bias + moved)

    def __getitem__(self, outputs: slice | Tensor) -> "Int8Linear":
        return Int8Linear(self.weight[outputs], self.scales[outputs], self.bias[outputs])

    def __call__(self, read: Tensor) -> Tensor:
        return F.linear(read, self.weight * self.scales[:, None], self.bias)


@dataclass(frozen=True)
class Int8Block:
    """A block in int8.

    scale, shift: (C,), by which what its norm_2 gives is what that of the network gives. loud_in: the hidden channels
    in single precision, by norm_2, (K, C). loud_out: what is made of them (C, K).
    """

    block: Block[Int8Linear]
    scale: Tensor
    shift: Tensor
    loud_in: Linear
    loud_out: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it that `of` needs beside the block in single precision."""
        block = self.block
        found = {"scale": self.scale, "shift": self.shift, "loud_out": self.loud_out}
        parts = {name: getattr(block, name) for name in (*LAYERS, "norm_1", "norm_2")} | {"loud_in": self.loud_in}
        for name, part in parts.items():
            found |= {f"{name}.{key}": own for key, own in vars(part).items() if isinstance(own, Tensor)}
        return found

    @classmethod
    def of(cls, block: Block[Linear], tensors: Mapping[str, Tensor]) -> "Int8Block":
        """Return the block that these are of, or raise a `KeyError` or `ValueError` where they are not."""
        loud = _loud_count(block)

        def taken(name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
            found = tensors[name]
            if found.shape != torch.Size(shape) or found.dtype != dtype:
                raise ValueError(f"{name} is {found.dtype} {tuple(found.shape)}, not {dtype} {tuple(shape)}")
            return found

        def layer(name: str) -> Int8Linear:
            shape = getattr(block, name).weight.shape
            weight = taken(f"{name}.weight", shape, torch.int8)
            return Int8Linear(weight, taken(f"{name}.scales", shape[:1]), taken(f"{name}.bias", shape[:1]))

        def norm(name: str) -> Norm:
            gain, bias = (taken(f"{name}.{part}", (block.width,)) for part in ("gain", "bias"))
            return replace(getattr(block, name), gain=gain, bias=bias)

        made = {name: layer(name) for name in LAYERS} | {name: norm(name) for name in ("norm_1", "norm_2")}
        return cls(
            replace(block, **made),  # type: ignore[arg-type]
            taken("scale", (block.width,)),
            taken("shift", (block.width,)),
            Linear(taken("loud_in.weight", (loud, block.width)), taken("loud_in.bias", (loud,))),
            taken("loud_out", (block.width, loud)),
        )


def in_int8(
    blocks: Sequence[Block[Linear]],
    x: Tensor,
    turns: Turns | None = None,
    *,
    rounding: Rounding = compensated,
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> list[Int8Block]:
    """Return blocks in int8, by what tokens (B, N, C) make of them."""
    found = []
    for block in blocks:
        own, x = _in_int8(block, x, turns, rounding)
        found.append(own)
        report(len(found), len(blocks))
    return found


@torch.inference_mode()
def _in_int8(block: Block[Linear], x: Tensor, turns: Turns | None, rounding: Rounding) -> tuple[Int8Block, Tensor]:
    """Return a block, and what it makes of tokens."""
    equal, scale, shift = with_equal_ranges(block, x, turns)
    read = AROUND_ZERO.read(equal.norm_1(x))
    three = (equal.query, equal.key, equal.value)
    together = Linear(torch.cat([own.weight for own in three]), torch.cat([own.bias for own in three]))
    joint = Int8Linear.of(together, read, rounding)
    width = block.width
    made = {"query": joint[:width], "key": joint[width : 2 * width], "value": joint[2 * width :]}
    read = AROUND_ZERO.read(mixed(_with(equal, made), read, turns))
    out = Int8Linear.of(equal.out, read, rounding)
    x = x + out(read)

    second = equal.norm_2(x)
    hidden = activated(equal.expand(second), block.activation)
    loud = hidden.flatten(0, -2).abs().amax(dim=0).topk(_loud_count(block)).indices
    loud_in = Linear(equal.expand.weight[loud], equal.expand.bias[loud])
    loud_out = equal.contract.weight[:, loud]
    quiet = torch.ones(len(equal.expand.weight)).index_fill(0, loud, 0)
    read = AROUND_ZERO.read(second)
    expand = Int8Linear.of(Linear(equal.expand.weight * quiet[:, None], equal.expand.bias * quiet), read, rounding)
    read = ACTIVATED.read(activated(expand(read), block.activation))
    contract = Int8Linear.of(Linear(equal.contract.weight * quiet, equal.contract.bias), read, rounding)
    x = x + contract(read) + F.linear(activated(loud_in(second), block.activation), loud_out)
    made |= {"out": out, "expand": expand, "contract": contract}
    return Int8Block(_with(equal, made), scale, shift, loud_in, loud_out), x


def _with(block: Block[Linear], layers: Mapping[str, Int8Linear]) -> Block[Int8Linear]:
    return replace(block, **layers)  # type: ignore[arg-type, return-value]


def with_equal_ranges(block: Block[Linear], x: Tensor, turns: Turns | None) -> tuple[Block[Linear], Tensor, Tensor]:
    """Return a block that computes the same where channels have more equal ranges, and the scale and the shift by which
    its norm_2 differs.

    Of each channel that a linear layer reads, its mean on the tokens x is taken away (Outlier Suppression+, Wei et al.,
    EMNLP 2023), and half of its range moved into the weights that read it (SmoothQuant, Xiao et al., ICML 2023,
    Equation 4): behind both norms, and, by the values, behind attention, which mixes tokens and not channels.
    """
    first = block.norm_1(x)
    shift_1, scale_1 = _moved(first, block.query, block.key, block.value)
    heads = mixed(block, first, turns)
    shift_3, scale_3 = _moved(heads, block.out)
    second = block.norm_2(x + block.out(heads))
    shift_2, scale_2 = _moved(second, block.expand)
    value = _reading(block.value, shift_1, scale_1)
    equal = replace(
        block,
        norm_1=_norm(block.norm_1, shift_1, scale_1),
        query=_reading(block.query, shift_1, scale_1),
        key=_reading(block.key, shift_1, scale_1),
        value=Linear(value.weight / scale_3[:, None], (value.bias - shift_3) / scale_3),
        out=_reading(block.out, shift_3, scale_3),
        norm_2=_norm(block.norm_2, shift_2, scale_2),
        expand=_reading(block.expand, shift_2, scale_2),
    )
    return equal, scale_2, shift_2


def _moved(read: Tensor, *layers: Linear) -> tuple[Tensor, Tensor]:
    shift = read.flatten(0, -2).mean(dim=0)
    largest = (read - shift).flatten(0, -2).abs().amax(dim=0)
    weights = torch.stack([layer.weight.abs().amax(dim=0) for layer in layers]).amax(dim=0)
    scale = (largest / weights.clamp(min=TINY)).sqrt()
    return shift, (scale / scale.mean().clamp(min=TINY)).clamp(1 / MOST_SMOOTHED, MOST_SMOOTHED)


def _norm(norm: Norm, shift: Tensor, scale: Tensor) -> Norm:
    return replace(norm, gain=norm.gain / scale, bias=(norm.bias - shift) / scale)


def _reading(layer: Linear, shift: Tensor, scale: Tensor) -> Linear:
    return Linear(layer.weight * scale, layer.bias + layer.weight @ shift)


def _loud_count(block: Block[Linear]) -> int:
    return min(LOUD, len(block.expand.weight) // LOUD_SHARE)
