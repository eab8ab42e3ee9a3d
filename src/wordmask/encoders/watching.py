"""Which modules of a network read what its convolutions give: found by running it on some pictures."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[Any, Tensor], Tensor]
"""What a network does with pictures (B, 3, H, W)."""


@dataclass(frozen=True)
class Watched:
    """given: what the network gives. shapes: of what enters convolutions that ran once, by their names. pairs: of those
    and the names of modules that read one of them, and ran once, too.
    """

    given: Tensor
    shapes: dict[str, torch.Size]
    pairs: list[tuple[str, str]]


def watched(network: nn.Module, run: Run, images: Tensor, is_reader: Callable[[nn.Module], bool]) -> Watched:
    """Run a network on pictures and return what its convolutions and some modules behind them did."""
    writer: dict[int, str] = {}
    kept: list[Tensor] = []  # so that no other tensor comes to lie where one of them was
    calls: Counter[str] = Counter()
    shapes: dict[str, torch.Size] = {}
    pairs: list[tuple[str, str]] = []

    def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[name] += 1
        if type(module) is nn.Conv2d:
            shapes[name], writer[id(output)] = inputs[0].shape, name
            kept.append(output)
        elif (before := writer.get(id(inputs[0]))) is not None:
            pairs.append((before, name))

    hooks = [
        module.register_forward_hook(partial(watch, name))
        for name, module in network.named_modules()
        if type(module) is nn.Conv2d or is_reader(module)
    ]
    try:
        given = run(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    return Watched(
        given,
        {name: shape for name, shape in shapes.items() if calls[name] == 1},
        [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1],
    )
