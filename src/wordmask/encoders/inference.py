"""A network as it computes fastest once it has learnt: batch norms folded, and dilated depthwise convolutions as sums.

What is saved, exported or trained is the network itself; this is a copy beside it.
"""

import logging
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NARROW_DILATION = 6
"""The widest for which oneDNN has a fast depthwise kernel; measured: beyond it, its own one takes 3 to 30 times as
long as the sum of shifted pictures."""
BLOCK_BYTES = 1 << 20
"""Of a sum that is made together: it stays in a core's second-level cache while all nine pictures are added to it."""
LOOK = (1, 3, 64, 64)
"""Pictures that a network is watched on."""
SAME = 1e-3
"""Of the largest number that a network gives on them: further apart is more than what folding rounds."""
_log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)
Run = Callable[[Any, Tensor], Tensor]
"""What a network does with pictures (B, 3, H, W)."""


@torch.no_grad()
def for_inference(network: Network, run: Run) -> Network:
    """Return a copy that gives the same to what rounding leaves, faster: without batch norms, channels last.

    `network` is in evaluation mode, in fp32.
    """
    device = next(network.parameters()).device
    images = torch.randn(LOOK, generator=torch.Generator().manual_seed(0)).to(device)
    pairs, expected = _watch(network, run, images)
    copy = deepcopy(network)
    for convolution, norm in pairs:
        own: Any = copy.get_submodule(convolution)
        after: Any = copy.get_submodule(norm)
        fused = fuse_conv_bn_eval(own.double(), deepcopy(after).double())
        _replace(copy, convolution, fused.float())  # rounded once
        _replace(copy, norm, _after(after))
    apart = (run(copy, images) - expected).abs().max()
    if not apart <= SAME * expected.abs().max():  # put so that NaN is caught as well
        # Something else reads what a convolution gives, or the numbers are too large for what is folded.
        _log.debug("%s gives other numbers without its batch norms, so they stay", type(network).__name__)
        copy = deepcopy(network)
    for name, module in list(copy.named_modules()):
        if isinstance(module, nn.Conv2d) and is_wide(module):
            _replace(copy, name, WideDepthwise(module))
    return copy.requires_grad_(False).to(memory_format=torch.channels_last)


def _watch(network: nn.Module, run: Run, images: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """Return the names of convolutions and of the batch norms that read them, and what the network gives."""
    writer: dict[int, str] = {}
    kept: list[Tensor] = []  # so that no other tensor comes to lie where one of them was
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []

    def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[name] += 1
        if isinstance(module, nn.BatchNorm2d):
            if (before := writer.get(id(inputs[0]))) is not None:
                pairs.append((before, name))
        else:
            writer[id(output)] = name
            kept.append(output)

    hooks = [
        module.register_forward_hook(partial(watch, name))
        for name, module in network.named_modules()
        if type(module) is nn.Conv2d or (isinstance(module, nn.BatchNorm2d) and module.running_var is not None)
    ]
    try:
        expected = run(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1], expected


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


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
