"""Parts of networks that are timed for the whole: one block of a transformer, one of each stage of a ResNet.

They are the networks' own, of exactly their widths, on as many patches as pictures usually have; what the weights are
plays no part.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock
from open_clip.transformer import VisionTransformer as ClipTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from wordmask.compute import Precision
from wordmask.encoders.clip_dense import DenseViT, through_block
from wordmask.encoders.int8 import Int8Stack
from wordmask.encoders.int8_blocks import NoInt8Error, Turns, blocks_of
from wordmask.encoders.int8_calibration import in_int8
from wordmask.encoders.int8_rounding import to_nearest
from wordmask.encoders.precision import Sample

USUAL_SIDE = 448
"""Pixels of a picture or a window, or twice the side that the network was trained at, if that is less."""
USUAL_PATCHES, MOST_PATCHES = 784, 1600
"""Small grids are timed several at a time, as windows are read; of large ones, a part is enough to tell."""
RESNET_STRIDES = (4, 8, 16, 32)

Part = tuple[Any, tuple[int, ...]]
"""A module, and the shape of what enters it."""


def clip_sample(what: str, build: Callable[[Precision], Any]) -> Sample:
    """Return the sample of a CLIP's image tower. build: the model in a precision, on the meta device."""

    def parts(precision: Precision) -> list[Part]:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            tower = build("fp32" if precision == "int8" else precision).visual
            if precision == "int8" and not (isinstance(tower, ClipTransformer) and DenseViT.why_not(tower) is None):
                raise NoInt8Error(f"{what}: its image tower is no plain vision transformer")
            return _parts_of_tower(tower)

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        transformer = getattr(build("fp32").visual, "transformer", None)
    return _sample(what, parts, blocks=len(getattr(transformer, "resblocks", ())))


def transformer_sample(what: str, network: VisionTransformer | Eva, *, last_in_fp32: bool = True) -> Sample:
    """Return the sample of a vision transformer of `timm`'s that computes in the type of its parameters.

    last_in_fp32: whether its last block is never in int8.
    """
    return _sample(what, lambda precision: [_block(network)], blocks=len(network.blocks) if last_in_fp32 else 0)


def whole_sample(
    what: str, network: nn.Module, ready: Callable[[Precision], Callable[[Tensor], Any]], images: tuple[int, ...]
) -> Sample:
    """Return the sample of a network of which all is timed.

    ready: from a precision to what computes in it, from pictures of its type. images: the shape (B, 3, H, W) of
    pictures that are small for it.
    """

    def call(precision: Precision) -> Callable[[], object]:
        run = ready(precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        pictures = _random(images, dtype).contiguous(memory_format=torch.channels_last)
        return lambda: run(pictures)

    return Sample(what, f"whole {_shape_of([(network, images)])}", call)


def _sample(what: str, parts: Callable[[Precision], list[Part]], *, blocks: int) -> Sample:
    """blocks: of the network, if the last one is never in int8; else 0."""

    def call(precision: Precision) -> Callable[[], object]:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        ready = [(_filled(module, dtype), _random(shape, dtype)) for module, shape in parts(precision)]
        if precision == "int8":
            ((module, x),) = ready
            return _in_int8(module, x)
        return lambda: [_ours(module, inputs) for module, inputs in ready]

    return Sample(what, _shape_of(parts("fp32")), call, in_int8=1 - 1 / blocks if blocks else 1.0)


def _ours(module: nn.Module, x: Tensor) -> Any:
    """Run a part the way that the encoders do, whose attention is not the module's own."""
    return through_block(module, x) if isinstance(module, ResidualAttentionBlock) else module(x)


def _in_int8(module: Any, x: Tensor) -> Callable[[], object]:
    (block,) = blocks_of([module])
    turns = None
    if block.rotation is not None:
        turns = Turns.of(torch.zeros(x.shape[1], 2 * block.width // block.heads), 0)
    stack = Int8Stack(in_int8([block], x, turns, rounding=to_nearest))
    return lambda: [stack(x, turns).x]


def _parts_of_tower(tower: Any) -> list[Part]:
    size = tower.image_size
    side = min(USUAL_SIDE, 2 * (size if isinstance(size, int) else max(size)))
    if isinstance(tower, ClipTransformer):
        return [(tower.transformer.resblocks[0], _tokens(side, tower.patch_size[0], tower.conv1.out_channels))]
    if isinstance(tower, ModifiedResNet):
        stages = [tower.layer1, tower.layer2, tower.layer3, tower.layer4]
        return [
            (stage[-1], (1, stage[-1].conv1.in_channels, side // stride, side // stride))
            for stage, stride in zip(stages, RESNET_STRIDES, strict=True)
        ]
    trunk = getattr(tower, "trunk", None)
    if isinstance(trunk, VisionTransformer | Eva):
        return [_block(trunk)]
    return [(tower, (1, 3, *((size, size) if isinstance(size, int) else size)))]


def _block(network: VisionTransformer | Eva) -> Part:
    embed: Any = network.patch_embed
    side = min(USUAL_SIDE, 2 * max(embed.img_size or (USUAL_SIDE,)))
    return network.blocks[0], _tokens(side, embed.patch_size[0], network.embed_dim)


def _tokens(side: int, patch: int, width: int) -> tuple[int, int, int]:
    patches = min(MOST_PATCHES, max(1, side // patch) ** 2)
    return max(1, round(USUAL_PATCHES / patches)), 1 + patches, width


def _filled(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy on the processor, with random weights where it has none. One whose weights are all in single
    precision is cast; others were built in theirs.
    """
    if any(value.is_meta for value in module.parameters()):
        module = module.to_empty(device="cpu")
        chance = torch.Generator().manual_seed(0)
        for value in (*module.parameters(), *module.buffers()):
            if value.ndim > 1 and value.is_floating_point():
                value.data.normal_(0, 0.02, generator=chance)
            else:
                value.data.fill_(1 if value.is_floating_point() else 0)
        return module.eval()
    return deepcopy(module).to("cpu", dtype).eval()


def _random(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _shape_of(parts: Sequence[Part]) -> str:
    """Return a text of all that the time hangs on: layers with their sizes and heads, and what enters them."""
    told = []
    for module, shape in parts:
        heads = [part.num_heads for part in module.modules() if hasattr(part, "num_heads")]
        told.append(f"{module!r} heads {heads} on {tuple(shape)}")
    return "\n".join(told)
