"""Convolutions as a processor computes them fastest: weights laid out once for oneDNN's kernels, and the sum and the
ReLU behind a convolution made in its kernel, without another pass over memory.

The operators are those that torch's own compiler puts in place of convolutions; here, no size of picture is compiled.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from wordmask.encoders.int8_convolutions import Int8Convolution, Int8Packed
from wordmask.encoders.watching import Run, watched
from wordmask.encoders.winograd import Winograd, has_form, tiles

LEAST_CHANNELS = 128
"""Read and made by a convolution, from which on Winograd's way is faster: below, bringing tiles into another basis and
back takes longer than the products that it saves."""
LEAST_TILES = 64
"""Of a picture, from which on it is; weights are four times as large, and few tiles do not make up for reading them."""


class Packed(nn.Module):
    """A convolution, and what follows it."""

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size, relu: bool):
        """shape: of what it reads, (B, C, H, W), by which a layout is chosen; others are right as well."""
        super().__init__()
        steps: Any = (convolution.padding, convolution.stride, convolution.dilation)
        self.steps: list[list[int]] = [list(own) for own in steps]
        self.groups, self.relu = convolution.groups, relu
        self.bias = None if convolution.bias is None else convolution.bias.detach()
        weight = convolution.weight.detach()
        is_wide = min(weight.shape[:2]) >= LEAST_CHANNELS
        self.has_tiles = weight.dtype == torch.float32 and is_wide and has_form(convolution)
        self.tiled: Winograd | None = None  # made when it is first of use, as its weights are large
        lay_out: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = lay_out(weight.contiguous().to_mkldnn(), *self.steps, self.groups, list(shape))

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, O, h, w), channels last. beside: (B, O, h, w), to be added before the ReLU."""
        if self.has_tiles and tiles(x.shape[2], x.shape[3], self.steps[2][0]) >= LEAST_TILES:
            if self.tiled is None:
                self.tiled = Winograd(self.weight.to_dense(), self.bias, self.steps[2][0])
            made: Tensor = self.tiled(x, relu=self.relu and beside is None)
            return made if beside is None else made.add_(beside).relu_()
        own, steps = torch.ops.mkldnn._convolution_pointwise, (*self.steps, self.groups)
        if beside is None:
            made = own(x, self.weight, self.bias, *steps, "relu" if self.relu else "none", [], "")
        else:
            made = own.binary(x, beside, self.weight, self.bias, *steps, "add", 1.0, "relu", [], None)
        return made


class Residual(nn.Module):
    """A block of a ResNet, whose last convolution adds what goes by it."""

    def __init__(self, layers: Sequence[Packed | Int8Packed], beside: nn.Module | None, is_first: bool):
        """is_first: of its stage; what enters one of the others is read by nothing else."""
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.beside = nn.Identity() if beside is None else beside
        self.is_read = beside is None and is_first

    def forward(self, x: Tensor) -> Tensor:
        beside = self.beside(x)
        for layer, after in pairwise(self.layers):
            in_bytes = isinstance(layer, Int8Packed) and isinstance(after, Int8Packed)
            x = layer(x, then=after) if in_bytes else layer(x)
        last: Any = self.layers[-1]
        if isinstance(last, Int8Packed):
            return last.added(x, beside.clone() if self.is_read else beside)
        out: Tensor = last(x, beside)
        return out


def can_pack(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether this torch has the operators, and this processor what they need."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(
    network: nn.Module,
    run: Run,
    images: Tensor,
    size: tuple[int, int],
    int8: Mapping[str, Int8Convolution] | None = None,
) -> None:
    """Lay out the convolutions that a network runs once on pictures; it is on the processor, without batch norms. size:
    of pictures that are to come: kernels are chosen by it, and their layouts with them. int8: those that are.
    """
    int8 = int8 or {}
    more = [own / before for own, before in zip(size, images.shape[-2:], strict=True)]
    seen = watched(network, run, images, lambda module: type(module) is nn.ReLU)
    followed = dict(seen.pairs)
    blocks = {name: module for name, module in network.named_modules() if _is_plain(module)}
    for name, block in blocks.items():
        followed.pop(f"{name}.{_layers(block)[-1]}", None)  # the sum is made in its place, and read in its stead
    for name, small in seen.shapes.items():
        sides = (1 if side == 1 else max(1, round(side * own)) for side, own in zip(small[-2:], more, strict=True))
        shape = torch.Size((1, small[1], *sides))
        convolution: Any = network.get_submodule(name)
        if convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str):
            relu = name in followed
            own = Int8Packed(convolution, int8[name], shape, relu) if name in int8 else Packed(convolution, shape, relu)
            network.set_submodule(name, own)
            if name in followed:
                network.set_submodule(followed[name], nn.Identity())
    for name, block in blocks.items():
        layers = [getattr(block, own) for own in _layers(block)]
        if all(type(layer) in (Packed, Int8Packed) for layer in layers) and all(layer.relu for layer in layers[:-1]):
            is_first = name.rpartition(".")[2] == "0"
            network.set_submodule(name, Residual(layers, block.downsample, is_first))


def _layers(block: Any) -> tuple[str, ...]:
    return ("conv1", "conv2", "conv3") if isinstance(block, Bottleneck) else ("conv1", "conv2")


def _is_plain(module: Any) -> bool:
    """Return whether a module is a block of `timm`'s that does nothing but convolve, add and cut off below zero."""
    if type(module) not in (BasicBlock, Bottleneck):
        return False
    is_long = isinstance(module, Bottleneck)
    nothing = [module.bn1, module.bn2, module.drop_block, module.aa, *([module.bn3] if is_long else [])]
    last = module.act3 if is_long else module.act2
    is_bare = module.se is None and module.drop_path is None
    return is_bare and type(last) is nn.ReLU and all(type(own) is nn.Identity for own in nothing)
