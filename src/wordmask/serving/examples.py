"""Pictures to begin with, on the page and on /docs: those that plug-ins bring."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from wordmask.plugins import installed, named


@dataclass(frozen=True)
class Examples:
    """about: what they are. pictures: each (H, W, 3) uint8 with what is on it. offered: names that a visitor may be
    offered where a method takes any. asked: what /docs asks for on the first picture.
    """

    about: str
    pictures: tuple[tuple[np.ndarray, tuple[str, ...]], ...]
    offered: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


@cache
def find_examples() -> Examples:
    """Return the examples of all plug-ins; it takes a while, once, as they may be drawn."""
    found: list[Examples] = [named(plugin.examples)() for plugin in installed() if plugin.examples is not None]
    return Examples(
        ", ".join(examples.about for examples in found),
        tuple(picture for examples in found for picture in examples.pictures),
        offered=tuple(name for examples in found for name in examples.offered),
        asked=found[0].asked if found else (),
    )
