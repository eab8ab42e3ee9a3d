"""COCO's run lengths from a stranger: checked before anything is made of them.

pycocotools writes as many pixels as the lengths say, whatever the size says beside them.
"""

import numpy as np

OFFSET, MORE, SIGN, BITS = 48, 32, 16, 5
"""Of COCO's letters: each is 48 and six bits, of which the sixth says that the number goes on, and the fifth of its
last letter that it is negative."""
MOST_LETTERS = 7
"""Of one number: 35 bits."""


def lengths_of(counts: str, size: tuple[int, int]) -> np.ndarray:
    """Return the lengths of COCO's compressed counts, by turns outside and inside, down the columns: (n,) int64.

    Raise ValueError where they are none, or do not fill a picture (H, W).
    """
    try:
        letters = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - OFFSET
    except UnicodeEncodeError as error:
        raise ValueError("its run lengths are not COCO's letters") from error
    if not len(letters) or ((letters < 0) | (letters > 63)).any() or letters[-1] & MORE:
        raise ValueError("its run lengths are not COCO's letters, or are cut short")
    ends = np.flatnonzero(letters & MORE == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    if widths.max() > MOST_LETTERS:
        raise ValueError("its run lengths hold a number that is too large")
    place = np.arange(len(letters)) - np.repeat(starts, widths)
    numbers = np.add.reduceat((letters & (MORE - 1)) << (BITS * place), starts)
    numbers -= np.where(letters[ends] & SIGN, np.int64(1) << (BITS * widths), 0)
    for first in (1, 2):  # from the fourth on, each says how far it is from the one before the last
        numbers[first::2] = np.cumsum(numbers[first::2])
    return checked_lengths(numbers, size)


def checked_lengths(lengths: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return lengths that fill a picture (H, W), none of them negative; raise ValueError for others."""
    if (lengths < 0).any() or (lengths > size[0] * size[1]).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError(f"its run lengths do not fill {size[1]} x {size[0]} pixels")
    return lengths


def mask_of(lengths: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W) bool of checked lengths."""
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(size[1], size[0]).T
