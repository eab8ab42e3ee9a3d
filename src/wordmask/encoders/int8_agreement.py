"""A network in int8, and whether it says the same: made by some drawn pictures and asked about others, once for its
weights, and kept below `cache_dir()` with the answer.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from wordmask.console.progress import progress_bar
from wordmask.encoders.int8 import Int8Stack
from wordmask.encoders.int8_blocks import PlainStack, Stack, blocks_of
from wordmask.encoders.int8_calibration import Int8Block, in_int8
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
ENOUGH_TOKENS, MOST_PICTURES = 2500, 16
"""That layers are rounded by; the pictures that have them are none of those that the network is asked about."""
LEAVES = 250
"""Of a picture: they cover nearly all of it."""
PREPARING = "{}: preparing int8, once on this machine"
FOLDER, FORMAT = "int8", "2"
MARK = f"int8 {FORMAT}"
"""Of what a network in int8 says: in another format it says something else."""
MOST_BYTES = 1 << 31
"""Of a file; the largest vision transformers have half as many weights."""
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

    def make(self) -> list[Int8Block]:
        """Return blocks in int8, by what enters them on drawn pictures; those in single precision are left in place."""
        blocks = blocks_of(self.modules)
        plain = PlainStack(blocks)
        self.place(plain)
        self.features(leaves(1, SIDE, seed=1))
        count = math.ceil(ENOUGH_TOKENS / plain.entered[0].shape[1])
        self.features(leaves(min(count, MOST_PICTURES), SIDE, seed=1))
        with progress_bar(PREPARING.format(self.what), len(blocks), counts=False) as report:
            return in_int8(blocks, *plain.entered, report=report)

    def tensors(self, made: Sequence[Int8Block]) -> dict[str, Tensor]:
        """Return all of what was made."""
        return {f"{index}.{name}": value for index, own in enumerate(made) for name, value in own.tensors().items()}

    def read(self, tensors: Mapping[str, Tensor]) -> list[Int8Block]:
        """Return what these are of, or raise a `KeyError` or `ValueError` where they are not of this network."""
        blocks = blocks_of(self.modules)
        return [Int8Block.of(block, _below(f"{index}.", tensors)) for index, block in enumerate(blocks)]

    def use(self, made: Sequence[Int8Block]) -> None:
        self.place(Int8Stack(made))

    def judge(self, exact: Sequence[Tensor], found: Sequence[Tensor]) -> "Agreement":
        """Return how far both features say the same."""
        return Agreement(self.what, min(map(same_directions, exact, found)))


class Rounded(Protocol):
    """A network, or a part of one, that can be rounded to int8: see `Host`."""

    @property
    def what(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def features(self) -> Callable[[Tensor], Sequence[Tensor]]: ...
    @property
    def place(self) -> Callable[[None], None]: ...
    def make(self) -> Any: ...
    def tensors(self, made: Any) -> dict[str, Tensor]: ...
    def read(self, tensors: Mapping[str, Tensor]) -> Any: ...
    def use(self, made: Any) -> None: ...
    def judge(self, exact: Sequence[Tensor], found: Sequence[Tensor]) -> "Agreement": ...


@dataclass(frozen=True)
class Agreement:
    """How many patches of drawn pictures say the same in int8, and how many must."""

    what: str
    same: float
    least: float = LEAST_SAME

    @property
    def is_enough(self) -> bool:
        return self.same >= self.least


def compute_in_int8(host: Rounded) -> Agreement:
    """Put what is in int8 into its network, and return how far that says the same; `NoInt8Error` where there is no such
    form of it.
    """
    path = cache_dir() / FOLDER / f"{digest_of(f'{FORMAT} {host.fingerprint}')}.safetensors"
    known = _read(path, host)
    if known is not None:
        found, made = known
        host.use(made)
        return found
    try:
        made = host.make()
        pictures = leaves(PICTURES, SIDE)
        exact = host.features(pictures)
        host.use(made)
        found = host.judge(exact, host.features(pictures))
    except BaseException:
        host.place(None)
        raise
    _write(path, found, host.tensors(made))
    _log.debug("%s says the same of %.2f%% of patches in int8", host.what, 100 * found.same)
    return found


def kept() -> list[Agreement]:
    """Return what the cache holds."""
    found = map(_agreement, sorted((cache_dir() / FOLDER).glob("*.safetensors")))
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


def leaves(count: int, side: int, seed: int = 0) -> Tensor:
    """Draw pictures (B, 3, H, W) of dead leaves: discs of many sizes that cover one another, whose statistics are near
    to those of photographs (Lee, Mumford and Huang, IJCV 2001).
    """
    chance, (rows, columns) = np.random.default_rng(seed), np.mgrid[:side, :side]
    drawn = np.full((count, side, side, 3), 0.5)
    for picture in drawn:
        for _ in range(LEAVES):
            radius, (row, column) = side / (2 + 30 * chance.random()), side * chance.random(2)
            picture[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = chance.random(3)
        picture += chance.normal(0, 0.03, picture.shape)
    return torch.from_numpy(drawn.clip(0, 1)).permute(0, 3, 1, 2).float()


def _agreement(path: Path) -> Agreement | None:
    """Return what a file says, without its blocks; None where there is none of ours."""
    try:
        if not path.exists():
            return None
        if is_special(path) or path.stat().st_size > MOST_BYTES:
            raise WeightsError("too large")
        metadata = read_metadata(path)
        found = Agreement(metadata["what"], float(metadata["same"]), float(metadata.get("least", LEAST_SAME)))
        if metadata["format"] != FORMAT or not 0 <= found.same <= 1:
            raise WeightsError("of another format")
    except (OSError, RuntimeError, WeightsError, KeyError, ValueError) as error:
        _log.debug("%s cannot be read, so that int8 is tried anew: %s", path, error)
        return None
    return found


def _read(path: Path, host: Rounded) -> tuple[Agreement, Any] | None:
    found = _agreement(path)
    if found is None:
        return None
    try:
        made = host.read(read_state_dict(path))
    except (OSError, RuntimeError, WeightsError, KeyError, ValueError) as error:
        _log.debug("%s has nothing of this network, so that int8 is tried anew: %s", path, error)
        return None
    return found, made


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _write(path: Path, found: Agreement, tensors: Mapping[str, Tensor]) -> None:
    told = {"format": FORMAT, "what": found.what, "same": repr(found.same), "least": repr(found.least)}
    try:
        write_state_dict(path, tensors, told)
    except (OSError, WeightsError, RuntimeError) as error:
        _log.debug("%s is not kept, so that every process tries int8: %s", path, error)
