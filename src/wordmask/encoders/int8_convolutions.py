"""Convolutions in int8 on processors, by oneDNN's kernels in torch: bytes times bytes, and sums in whole numbers.

Weights have a scale for each output. What a convolution reads has one scale for all pictures, found on drawn ones, so
that batches change no label. Sums beside, and what is handed on between blocks, stay in single precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.encoders.int8_blocks import NoInt8Error
from wordmask.encoders.int8_rounding import LARGEST, Rounding, compensated
from wordmask.encoders.watching import Run, watched

LEAST_READ = 8
"""Channels that a convolution in int8 reads: pixels have three, and stay exact."""
LEAST_SCALE = 1e-12
MOST_ROWS = 4096
"""Places of the pictures that a layer is rounded by."""
BYTES = 255
BLOCK = 1 << 16
"""Numbers that become bytes together."""


@dataclass(frozen=True)
class Int8Convolution:
    """A convolution whose weight is `weight * scales`, by outputs. span: (2,), the least and the largest number that it
    reads; what lies beyond is cut off.
    """

    weight: Tensor  # (O, C, h, w) int8
    scales: Tensor  # (O,)
    bias: Tensor  # (O,)
    span: Tensor

    @property
    def scale(self) -> float:
        least, largest = self.span.tolist()
        return max((largest - least) / BYTES, LEAST_SCALE)

    @property
    def zero(self) -> int:
        """The byte that stands for zero, which is exact."""
        return round(-self.span[0].item() / self.scale)

    def read(self, x: Tensor) -> Tensor:
        """Return numbers as their bytes have them."""
        return (to_bytes(x, self.scale, self.zero).float() - self.zero).mul_(self.scale)

    @classmethod
    def of(cls, convolution: nn.Conv2d, x: Tensor, rounding: Rounding) -> "Int8Convolution":
        """x: what it reads (B, C, H, W). What rounding the weights makes of its mean goes into the bias."""
        span = torch.stack([x.amin().clamp(max=0), x.amax().clamp(min=0)])
        weight = convolution.weight.detach()
        flat = weight.flatten(1)
        scales = (flat.abs().amax(dim=1) / LARGEST).clamp(min=LEAST_SCALE)
        own = cls(weight, scales, flat.new_zeros(len(flat)) if convolution.bias is None else convolution.bias, span)
        rows = _rows(convolution, own.read(x))
        whole = rounding(flat, scales, rows)
        moved = (flat - whole * scales[:, None]) @ rows.mean(dim=0)
        return cls(whole.to(torch.int8).view_as(weight), scales, own.bias.detach() + moved, span)

    @classmethod
    def among(cls, tensors: Mapping[str, Tensor], name: str, convolution: nn.Conv2d) -> "Int8Convolution":
        """Return the one of a name, or raise a `KeyError` or `ValueError` where it is not of this convolution."""
        outputs = len(convolution.weight)
        shapes = {"weight": convolution.weight.shape, "scales": (outputs,), "bias": (outputs,), "span": (2,)}
        found = {part: tensors[f"{name}.{part}"] for part in shapes}
        for part, shape in shapes.items():
            dtype = torch.int8 if part == "weight" else torch.float32
            if found[part].shape != torch.Size(shape) or found[part].dtype != dtype:
                raise ValueError(f"{name}.{part} is {found[part].dtype} {tuple(found[part].shape)}")
        return cls(**found)


class Int8Packed(nn.Module):
    """A convolution in int8 with its weights laid out once, and the ReLU or the sum behind it in its kernel."""

    def __init__(self, convolution: nn.Conv2d, made: Int8Convolution, shape: Sequence[int], relu: bool):
        """shape: of what it reads, by which a layout is chosen; others are right as well."""
        super().__init__()
        self.made, self.relu = made, relu
        self.scale, self.zero = made.scale, made.zero
        steps = [list(own) for own in (convolution.stride, convolution.padding, convolution.dilation)]
        self.rest: list[Any] = [made.bias, *steps, convolution.groups]
        packed = torch.ops.onednn.qconv_prepack(
            made.weight, made.scales, self.scale, self.zero, *steps, convolution.groups, list(shape)
        )
        self.weights = [packed, made.scales, torch.zeros(len(made.scales), dtype=torch.long)]

    def forward(self, x: Tensor, then: "Int8Packed | None" = None) -> Tensor:
        """(B, C, H, W), numbers or their bytes -> (B, O, h, w), numbers, or the bytes of what reads them next."""
        told: tuple[Any, ...] = (1.0, 0, torch.float32) if then is None else (then.scale, then.zero, torch.uint8)
        behind: tuple[Any, ...] = ("relu" if self.relu else "none", [], "")
        out: Tensor = torch.ops.onednn.qconv2d_pointwise(*self._read(x), *self.weights, *self.rest, *told, *behind)
        return out

    def added(self, x: Tensor, beside: Tensor) -> Tensor:
        """Return the ReLU of its sum with what goes by it, (B, O, h, w), in whose place it is written."""
        behind: tuple[Any, ...] = (1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "relu", [], None)
        out: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            *self._read(x), *self.weights, beside, *self.rest, *behind
        )
        return out

    def _read(self, x: Tensor) -> tuple[Tensor, float, int]:
        return x if x.dtype == torch.uint8 else to_bytes(x, self.scale, self.zero), self.scale, self.zero


def to_bytes(x: Tensor, scale: float, zero: int) -> Tensor:
    """Return the nearest bytes of numbers (B, C, H, W), channels last, a block at a time that stays in the cache."""
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x, dtype=torch.uint8)
    numbers, places = (own.permute(0, 2, 3, 1).view(-1) for own in (x, out))
    middle = torch.tensor(zero + 0.5)  # what is cut off behind the point makes it the nearest
    for start in range(0, len(numbers), BLOCK):
        part = torch.add(middle, numbers[start : start + BLOCK], alpha=1 / scale)
        places[start : start + BLOCK] = part.clamp_(0, BYTES)
    return out


def eligible(network: nn.Module, run: Run, images: Tensor) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a network without batch norms that can be in int8, in the order in which they run."""
    kernels = all(hasattr(torch.ops.onednn, name) for name in ("qconv_prepack", "qconv2d_pointwise"))
    if not kernels or "onednn" not in torch.backends.quantized.supported_engines:
        raise NoInt8Error("this torch has no convolutions in int8: choose auto, fp32 or bf16")
    found: dict[str, nn.Conv2d] = {}
    for name, shape in watched(network, run, images, lambda module: False).shapes.items():
        own: Any = network.get_submodule(name)
        is_plain = own.groups == 1 and own.padding_mode == "zeros" and not isinstance(own.padding, str)
        if is_plain and own.in_channels >= LEAST_READ and shape[-2:].numel() > 1:
            found[name] = own
    return found


@torch.no_grad()
def in_int8(
    network: nn.Module,
    run: Run,
    images: Tensor,
    *,
    rounding: Rounding = compensated,
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> dict[str, Int8Convolution]:
    """Return the convolutions of a network in int8, each by what it reads on pictures behind those before it in int8.
    The network is without batch norms, and is left in what they compute.
    """
    names = {module: name for name, module in eligible(network, run, images[:1]).items()}
    made: dict[str, Int8Convolution] = {}

    def convert(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        own: Any = module
        found = Int8Convolution.of(own, inputs[0], rounding)
        made[names[own]] = found
        own.weight.data = found.weight * found.scales[:, None, None, None]
        own.bias = nn.Parameter(found.bias, requires_grad=False)
        report(len(made), len(names))
        return (found.read(inputs[0]),)

    hooks = [module.register_forward_pre_hook(convert) for module in names]
    try:
        run(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    return made


def _rows(convolution: Any, x: Tensor) -> Tensor:
    """Return what the filters of a convolution read at places drawn from (B, C, H, W): (n, C * h * w)."""
    steps = (convolution.kernel_size, convolution.dilation, convolution.padding, convolution.stride)
    rows = torch.cat([F.unfold(own, *steps)[0].T for own in x.contiguous().split(1)])
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_ROWS]]
