"""The S-measure (Fan et al., ICCV 2017): how alike the structure of a saliency map and of its truth are."""

import numpy as np

OBJECTS_SHARE = 0.5
"""alpha of equation 1: how much the objects count against the regions."""
TINY = float(np.finfo(np.float64).eps)


def s_measure(soft: np.ndarray, mask: np.ndarray) -> float:
    """Compare a map (H, W) in [0, 1] with the true foreground (H, W) bool; at most 1. Equation 1."""
    soft = soft.astype(np.float64)
    if not mask.any():
        return float(1 - soft.mean())
    if mask.all():
        return float(soft.mean())
    return max(0.0, OBJECTS_SHARE * of_objects(soft, mask) + (1 - OBJECTS_SHARE) * of_regions(soft, mask))


def of_objects(soft: np.ndarray, mask: np.ndarray) -> float:
    """Equation 6: foreground and background apart, each by its share of the picture."""
    share = float(mask.mean())
    return share * _evenness(soft[mask]) + (1 - share) * _evenness(1 - soft[~mask])


def of_regions(soft: np.ndarray, mask: np.ndarray) -> float:
    """Equation 4: the four parts around the foreground's centre, each by its share of the picture."""
    rows, columns = np.nonzero(mask)
    row, column = round(float(rows.mean())) + 1, round(float(columns.mean())) + 1
    total = 0.0
    for vertical in (slice(None, row), slice(row, None)):
        for horizontal in (slice(None, column), slice(column, None)):
            part = mask[vertical, horizontal]
            if part.size:
                total += part.size / mask.size * _alike(soft[vertical, horizontal], part.astype(np.float64))
    return total


def _evenness(values: np.ndarray) -> float:
    """Equation 5: 1 where all values are 1; unevenness counts against it."""
    mean = float(values.mean())
    deviation = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean * mean + 1 + deviation + TINY)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity of two parts as they are, equation 3."""
    x, y = float(one.mean()), float(other.mean())
    free = one.size - 1 + TINY
    spread_x, spread_y = float(((one - x) ** 2).sum() / free), float(((other - y) ** 2).sum() / free)
    together = float(((one - x) * (other - y)).sum() / free)
    above, below = 4 * x * y * together, (x * x + y * y) * (spread_x + spread_y)
    if above != 0:
        return above / (below + TINY)
    return 1.0 if below == 0 else 0.0
