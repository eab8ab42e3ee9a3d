"""Whether a network says the same in int8: it is asked about drawn pictures, once for its weights, and the answer kept
below `cache_dir()` with what its channels reach on them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wordmask.encoders.int8 import Int8Stack
from wordmask.encoders.int8_blocks import Block, Channels, Linear, PlainStack, Stack, blocks_of, smoothed
from wordmask.files import is_special
from wordmask.fingerprints import digest_of
from wordmask.weights.cache import cache_dir
from wordmask.weights.loading import WeightsError, read_metadata, read_state_dict, write_state_dict

LEAST_SAME = 0.987
"""Of the patches must be nearest to the same direction, so that 99% of the pixels keep their label. Directions at
random are closer to one another than names: of the methods that were tried, the worst changes three labels where the
patches change four, the others one (`benchmarks/same_labels.py`)."""
DIRECTIONS, DRAWS = 21, 20
"""As many as a benchmark has names, so many times."""
PICTURES, SIDE = 4, 224
LEAVES = 250
"""Of a picture: they cover all of it."""
FOLDER, FORMAT = "int8", "1"
MOST_BYTES = 1 << 26
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Host:
    """A network with a stack of blocks that can be put in another's place.

    what: for people. modules: the stack's. fingerprint: of all that its features hang on. features: from pictures
    (B, 3, H, W) in [0, 1] to what it says of patches, each (..., D). place: puts a stack in.
    """

    what: str
    modules: Sequence[nn.Module]
    fingerprint: str
    features: Callable[[Tensor], Sequence[Tensor]]
    place: Callable[[Stack | None], None]


@dataclass(frozen=True)
class Agreement:
    """How many patches of drawn pictures say the same in int8. channels: what those of each block are there."""

    what: str
    same: float
    channels: Sequence[Channels]

    @property
    def is_enough(self) -> bool:
        return self.same >= LEAST_SAME


def compute_in_int8(host: Host) -> Agreement:
    """Put the stack in int8 into its network, and return how far that says the same; `NoInt8Error` where its blocks
    have no such form.
    """
    blocks = blocks_of(host.modules)
    path = cache_dir() / FOLDER / f"{digest_of(f'{FORMAT} {host.fingerprint}')}.safetensors"
    known = _read(path, blocks)
    if known is not None:
        host.place(Int8Stack(map(smoothed, blocks, known.channels)))
        return known
    pictures, plain = leaves(PICTURES, SIDE), PlainStack(blocks)
    try:
        host.place(plain)
        exact = host.features(pictures)
        host.place(Int8Stack(map(smoothed, blocks, plain.channels)))
        same = min(map(same_directions, exact, host.features(pictures)))
    except BaseException:
        host.place(None)
        raise
    found = Agreement(host.what, same, plain.channels)
    _write(path, found)
    _log.debug("%s says the same of %.2f%% of patches in int8", host.what, 100 * same)
    return found


def kept() -> list[Agreement]:
    """Return what the cache holds."""
    paths = sorted((cache_dir() / FOLDER).glob("*.safetensors"))
    found = (_read(path, None) for path in paths)
    return sorted((own for own in found if own is not None), key=lambda own: own.what)


def same_directions(exact: Tensor, other: Tensor) -> float:
    """Return the share of patches (..., D) that are nearest to the same one of some directions, drawn at random from
    where the patches' mean lies: what is common to all patches decides nothing.
    """
    exact, other = (found.detach().float().flatten(0, -2) for found in (exact, other))
    middle, chance = exact.mean(dim=0), torch.Generator().manual_seed(0)
    same = [
        ((exact - middle) @ directions).argmax(dim=1) == ((other - middle) @ directions).argmax(dim=1)
        for directions in (torch.randn(exact.shape[1], DIRECTIONS, generator=chance) for _ in range(DRAWS))
    ]
    return torch.stack(same).float().mean().item()


def leaves(count: int, side: int) -> Tensor:
    """Draw pictures (B, 3, H, W) of dead leaves: discs of many sizes that cover one another, whose statistics are near
    to those of photographs (Lee, Mumford and Huang, IJCV 2001).
    """
    chance, (rows, columns) = np.random.default_rng(0), np.mgrid[:side, :side]
    drawn = np.empty((count, side, side, 3))
    for picture in drawn:
        for _ in range(LEAVES):
            radius, (row, column) = side / (2 + 30 * chance.random()), side * chance.random(2)
            picture[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = chance.random(3)
        picture += chance.normal(0, 0.03, picture.shape)
    return torch.from_numpy(drawn.clip(0, 1)).permute(0, 3, 1, 2).float()


def _read(path: Path, blocks: Sequence[Block[Linear]] | None) -> Agreement | None:
    try:
        if not path.exists():
            return None
        if is_special(path) or path.stat().st_size > MOST_BYTES:
            raise WeightsError("too large")
        metadata, state = read_metadata(path), read_state_dict(path)
        count = len(state) // (2 * len(PARTS))
        channels = [
            Channels(*(tuple(state[f"{index}.{what}.{part}"] for part in PARTS) for what in ("largest", "means")))
            for index in range(count)
        ]
        found = Agreement(metadata["what"], float(metadata["same"]), channels)
        fits = blocks is None or [len(own.means[0]) for own in channels] == [block.width for block in blocks]
        if metadata["format"] != FORMAT or not fits or not 0 <= found.same <= 1:
            raise WeightsError("nothing of these blocks")
    except (OSError, RuntimeError, WeightsError, KeyError, ValueError) as error:
        _log.debug("%s cannot be read, so that int8 is tried anew: %s", path, error)
        return None
    return found


PARTS = ("norm_1", "attention", "norm_2", "activation")
"""What a file calls those of `Channels`."""


def _write(path: Path, found: Agreement) -> None:
    state: dict[str, Any] = {
        f"{index}.{what}.{part}": value
        for index, own in enumerate(found.channels)
        for what, values in (("largest", own.largest), ("means", own.means))
        for part, value in zip(PARTS, values, strict=True)
    }
    try:
        write_state_dict(path, state, {"format": FORMAT, "what": found.what, "same": repr(found.same)})
    except (OSError, WeightsError, RuntimeError) as error:
        _log.debug("%s is not kept, so that every process tries int8: %s", path, error)
