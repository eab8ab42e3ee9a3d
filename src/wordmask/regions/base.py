"""What makes regions, and what a map of them is.

A map (H, W) of integers: 0 where a pixel is of no region, and a number for every region. Regions have no names and do
not overlap.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.fingerprints import short_digest_of
from wordmask.methods import LOADED_BY, Declared
from wordmask.refinement.by_name import by_pamr, by_solver
from wordmask.text_files import counted, shown
from wordmask.weights.loading import fingerprint

LEAST_SCORE = 0.5
"""CorrCLIP's, of instances that become regions."""
MOST_NUMBER = 2**20
"""Of a region, below which numbers are looked up in a table."""


class RegionError(WordmaskError):
    """This maker cannot be set up so, or what it makes is no map of regions."""


@runtime_checkable
class RegionMaker(Protocol):
    """Anything from a picture (H, W, 3) uint8 to a map (H, W) of integers, 0 where there is no region.

    Where it makes negative numbers, the least of them is no region. Instead of a map it may return a tuple: masks
    (n, H, W) and their scores (n,), as instance segmenters do; see `painted`.
    """

    def __call__(self, image: np.ndarray, /) -> Any: ...


class Regions(Declared, ABC):
    """A maker that has a name, settings and networks."""

    loaded_by = LOADED_BY["regions"]
    settings: Any

    @abstractmethod
    def __call__(self, image: np.ndarray, /) -> np.ndarray:
        """Return the map (H, W) int32 of a picture (H, W, 3) uint8."""


def described(maker: RegionMaker) -> dict[str, Any]:
    """Return all that a maker's regions hang on, for records; of a function, its name."""
    if not isinstance(maker, Regions):
        name = getattr(maker, "__qualname__", type(maker).__qualname__)
        return {"function": f"{getattr(maker, '__module__', type(maker).__module__)}:{name}"}
    networks = " ".join(fingerprint(network) for network in maker.networks.values())
    return {"method": maker.method, "settings": asdict(maker.settings), "networks": short_digest_of(networks)}


def region_map(maker: RegionMaker, image: np.ndarray) -> np.ndarray:
    """Return the map (H, W) int32 that a maker makes of a picture, with numbers from 0 to that of the regions."""
    size, found = image.shape[:2], maker(image)
    if isinstance(found, tuple):
        if len(found) != 2:
            raise RegionError(
                f"a maker of regions returned {counted(len(found), 'thing')}: a map, or masks and scores, are wanted"
            )
        found = painted(found[0], found[1], size)
    found = np.asarray(found)
    if found.shape != size or not np.issubdtype(found.dtype, np.integer):
        raise RegionError(f"a map of regions must be integers {size}, not {found.dtype} {found.shape}")
    return numbered(found)


def numbered(found: np.ndarray) -> np.ndarray:
    """Return a map with its regions numbered from 1 without gaps, in their order: int32. 0 stays 0."""
    wide = found.astype(np.int64)
    wide -= min(int(wide.min(initial=0)), 0)
    if wide.max(initial=0) < MOST_NUMBER:
        there = np.bincount(wide.ravel()) > 0
        there[0] = False
        numbers: np.ndarray = np.cumsum(there, dtype=np.int32)
        numbers[0] = 0
        return numbers[wide]
    there, inverse = np.unique(wide, return_inverse=True)
    return (inverse.reshape(found.shape) + (there[0] != 0)).astype(np.int32)


def painted(
    masks: np.ndarray | Sequence[np.ndarray],
    scores: np.ndarray | Sequence[float],
    size: tuple[int, int],
    *,
    least_score: float = LEAST_SCORE,
) -> np.ndarray:
    """Return instances as a map of regions (H, W) int32: those that score enough, from the least sure to the surest, so
    that the surer one has the pixels that two claim. masks: (n, H, W) bool; scores: (n,).
    """
    sure = np.asarray(scores, dtype=np.float64)
    if sure.ndim != 1 or len(masks) != len(sure):
        raise RegionError(
            f"instances are masks and as many scores: {counted(len(masks), 'mask')}, scores {shown(sure.shape)}"
        )
    if not np.isfinite(sure).all():
        raise RegionError("instances have scores that are no finite numbers")
    order = np.argsort(sure, kind="stable")
    return in_order([masks[i] for i in order if sure[i] >= least_score], size)


def in_order(masks: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return masks (H, W) as a map of regions, the later ones over the earlier: (H, W) int32."""
    found = np.zeros(size, dtype=np.int32)
    for number, mask in enumerate(masks, start=1):
        own = np.asarray(mask)
        if own.shape != size:
            raise RegionError(f"an instance's mask is {own.shape}, the picture {size}")
        found[own.astype(bool)] = number
    return numbered(found)


def mask_refiner(how: str, image: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes masks (H, W) bool of a picture follow its edges, or not ("none"): (H, W) float32."""
    import torch

    if how == "none":
        return lambda mask: mask.astype(np.float32)
    refine = {"pamr": by_pamr, "solver": by_solver}[how](torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
    return lambda mask: refine(torch.from_numpy(mask[None].astype(np.float32)))[0].numpy()
