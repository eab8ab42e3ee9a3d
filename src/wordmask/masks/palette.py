"""A colour for every name, the same in every picture."""

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

from wordmask.names.vocabulary import BACKGROUND

Colour = tuple[int, int, int]

BACKGROUND_COLOUR: Colour = (60, 60, 60)
SPACING = 0.03
"""OKLab distance of neighbours on the wheel: fine enough that two names seldom want the same colour."""
LIGHTNESS = (0.45, 0.88)
LEAST_CHROMA = 0.08
"""Neither near black or white nor greyish: visible on dark and on light pictures, and unlike the background's grey."""
CLEARLY_UNLIKE = (0.25, 0.2, 0.16, 0.12, 0.08, 0.04, 0.0)
"""Least OKLab distance between two names' colours, and what to settle for as the wheel fills up.

0.02 is about what an eye can just tell apart side by side; red and orange are 0.2 apart.
"""


def colours_of(names: Sequence[str]) -> list[Colour]:
    """One colour a name, far from those of the names before it.

    A name's letters alone (upper or lower case) rank the colours, and it takes the first that is clearly unlike those
    taken. What this gives:

    - A name that is added at the end changes no other colour. One that is put in between may change those after it,
      where it stands in their way.
    - The same list has the same colours everywhere. In another order it may have others.
    - 3 names are 0.25 apart in OKLab, 4 are 0.2, 8 are 0.16, 20 are 0.12, 30 are 0.08; all differ until the wheel of
      about 1200 is used up, then colours repeat.
    """
    return list(_chosen(tuple(names)))


@lru_cache(maxsize=16)  # a run's pictures share their names, and 20,000 of them take a second
def _chosen(names: tuple[str, ...]) -> tuple[Colour, ...]:
    lab, rgb = _wheel()
    nearest = np.full(len(lab), np.inf, dtype=np.float32)  # of every colour to those taken
    chosen = [BACKGROUND_COLOUR] * len(names)
    for i, name in enumerate(names):
        if name.casefold() == BACKGROUND:
            continue
        place = _best_free(_liking(name), nearest)
        np.minimum(nearest, np.linalg.norm(lab - lab[place], axis=1), out=nearest)
        chosen[i] = rgb[place]
    return tuple(chosen)


def _liking(name: str) -> np.ndarray:
    """Return how much a name likes each colour: rendezvous hashing, where one key's ranking knows of no other's."""
    count = len(_wheel()[0])
    return np.frombuffer(hashlib.shake_256(_letters(name)).digest(4 * count), dtype="<u4")


def _letters(name: str) -> bytes:
    return name.casefold().encode(errors="surrogatepass")


def _best_free(liking: np.ndarray, nearest: np.ndarray) -> int:
    for enough in CLEARLY_UNLIKE:
        free = nearest > enough
        if free.any():
            return int(np.where(free, liking, 0).argmax())
    return int(liking.argmax())


@cache
def _wheel() -> tuple[np.ndarray, list[Colour]]:
    """Return a cubic lattice in OKLab, cut to lively colours that a screen can show: (N, 3) float32 and as RGB."""
    reach = SPACING * np.arange(-12, 13)  # past the most colourful of sRGB, chroma 0.32
    lattice = np.meshgrid(np.arange(*LIGHTNESS, SPACING), reach, reach, indexing="ij")
    lab = np.stack(lattice, axis=-1).reshape(-1, 3)
    linear = _linear_rgb(lab)
    shown = ((linear >= 0) & (linear <= 1)).all(axis=1) & (np.hypot(lab[:, 1], lab[:, 2]) >= LEAST_CHROMA)
    lab, linear = lab[shown], linear[shown]
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours = [(red, green, blue) for red, green, blue in np.round(255 * srgb).astype(int).tolist()]
    return lab.astype(np.float32), colours


def _linear_rgb(lab: np.ndarray) -> np.ndarray:
    """Björn Ottosson's OKLab (N, 3) to linear sRGB (N, 3), below 0 or above 1 where the gamut ends."""
    to_cones = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear: np.ndarray = (lab @ to_cones.T) ** 3 @ to_linear.T
    return linear
