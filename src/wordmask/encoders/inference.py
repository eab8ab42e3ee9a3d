"""A network as it computes fastest once it has learnt: batch norms folded, dilated depthwise convolutions as sums, and
weights laid out.

What is saved, exported or trained is the network itself; this is a copy beside it.
"""

import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wordmask.encoders.int8_blocks import NoInt8Error
from wordmask.encoders.int8_convolutions import Int8Convolution
from wordmask.encoders.packed import can_pack, pack
from wordmask.encoders.watching import Run, watched

NARROW_DILATION = 6
"""The widest for which oneDNN has a fast depthwise kernel; measured: beyond it, its own one takes 3 to 30 times as
long as the sum of shifted pictures."""
BLOCK_BYTES = 1 << 20
"""Of a sum that is made together: it stays in a core's second-level cache while all nine pictures are added to it."""
LOOK = (1, 3, 64, 64)
"""Pictures that a network is watched on."""
USUAL = (384, 384)
SAME = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Of the largest number that a network gives on them: further apart is more than what folding rounds."""
_log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def for_inference(
    network: Network,
    run: Run,
    dtype: torch.dtype = torch.float32,
    *,
    packed: bool | None = None,
    int8: Mapping[str, Int8Convolution] | None = None,
    size: tuple[int, int] = USUAL,
) -> Network:
    """Return a copy that gives the same to what rounding leaves, faster: without batch norms, channels last, and, on
    processors, with weights as their kernels read them.

    `network` is in evaluation mode, in fp32. dtype: of the copy. packed: whether its weights are laid out; by default
    wherever that can be. int8: its convolutions that are to be, without batch norms, by their names.
    size: of the pictures (H, W) that are to come, for which weights are laid out; others take longer, and are right.
    """
    device = next(network.parameters()).device
    images = torch.randn(LOOK, generator=torch.Generator().manual_seed(0)).to(device)
    seen = watched(network, run, images, _is_norm)
    expected = seen.given
    copy = deepcopy(network)
    for convolution, norm in seen.pairs:
        own: Any = copy.get_submodule(convolution)
        after: Any = copy.get_submodule(norm)
        fused = fuse_conv_bn_eval(own.double(), deepcopy(after).double())
        copy.set_submodule(convolution, fused.float())  # rounded once
        copy.set_submodule(norm, _after(after))
    if not _is_near(run(copy, images), expected, torch.float32):
        # Something else reads what a convolution gives, or the numbers are too large for what is folded.
        _log.debug("%s gives other numbers without its batch norms, so they stay", type(network).__name__)
        copy = deepcopy(network)
    for name, module in list(copy.named_modules()):
        if isinstance(module, nn.Conv2d) and is_wide(module):
            copy.set_submodule(name, WideDepthwise(module))
    copy = copy.requires_grad_(False).to(dtype).to(memory_format=torch.channels_last)
    if packed is False or device.type != "cpu" or not can_pack(dtype):
        if int8 is not None:
            raise NoInt8Error(
                f"convolutions are in int8 on processors alone, not on {device}: choose another precision"
            )
        return copy
    images = images.to(dtype).contiguous(memory_format=torch.channels_last)
    pack(copy, run, images, size, int8)
    if int8 is not None:
        return copy  # how near it is, is found out by what it says
    if not _is_near(run(copy, images), expected, dtype):
        _log.debug("%s gives other numbers when it is packed, so it is not", type(network).__name__)
        return for_inference(network, run, dtype, packed=False)
    return copy


def _is_near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    return bool((found.float() - expected).abs().max() <= SAME[dtype] * expected.abs().max())  # NaN is not


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_var is not None


def _after(norm: nn.Module) -> nn.Module:
    """Return what a batch norm does beside the norm: `timm` has some that end in an activation."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()


class WideDepthwise(nn.Module):
    """A depthwise convolution of 3 x 3 with a wide dilation, as the sum of nine shifted pictures.

    What lies outside is padding and is not added, so that the wider the dilation, the less there is to do.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.convolution = convolution
        taps = convolution.weight[:, 0].permute(1, 2, 0).contiguous()  # (3, 3, C)
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        if x.device.type != "cpu":
            out: Tensor = self.convolution(x)
            return out
        return shifted_sum(x, self.taps, self.convolution.dilation, self.convolution.bias)  # type: ignore[arg-type]


def is_wide(convolution: nn.Conv2d) -> bool:
    """Return whether a convolution is one that `WideDepthwise` computes, and is slow as it stands."""
    return (
        convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.kernel_size == (3, 3)
        and convolution.stride == (1, 1)
        and convolution.padding == convolution.dilation
        and convolution.padding_mode == "zeros"
        and max(convolution.dilation) > NARROW_DILATION
    )


def shifted_sum(x: Tensor, taps: Tensor, dilation: tuple[int, int], bias: Tensor | None = None) -> Tensor:
    """Return pictures (B, C, H, W) convolved with taps (3, 3, C), a block of rows at a time."""
    seen = x.permute(0, 2, 3, 1)  # (B, H, W, C): without a copy where channels are last
    count, height, width, channels = seen.shape
    out = seen.new_empty(seen.shape)
    rows = max(1, BLOCK_BYTES // max(1, count * width * channels * x.element_size()))
    shifts = [
        (i, j, (i - 1) * dilation[0], (j - 1) * dilation[1]) for i in range(3) for j in range(3) if (i, j) != (1, 1)
    ]
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        torch.mul(seen[:, top:bottom], taps[1, 1], out=out[:, top:bottom])
        for i, j, down, right in shifts:
            first, last = max(top, -down), min(bottom, height - down)
            left, end = max(0, -right), width - max(0, right)
            if first < last and left < end:
                near = seen[:, first + down : last + down, left + right : end + right]
                out[:, first:last, left:end].addcmul_(near, taps[i, j])
    if bias is not None:
        out += bias
    return out.permute(0, 3, 1, 2)
