"""PAMR pixel by pixel and neighbour by neighbour, written from its formulas."""

import numpy as np


def pamr(image, maps, iterations=10, dilations=(1, 2, 4, 8, 12, 24)):
    """image (H, W, 3), maps (K, H, W), float64 -> (K, H, W)."""
    height, width = image.shape[:2]
    weights = {pixel: neighbours(image, *pixel, dilations) for pixel in np.ndindex(height, width)}
    for _ in range(iterations):
        before, maps = maps, np.zeros_like(maps)
        for (row, column), own in weights.items():
            for (other_row, other_column), weight in own:
                maps[:, row, column] += weight * before[:, other_row, other_column]
    return maps


def neighbours(image, row, column, dilations):
    """[((row, column), weight)] of one pixel; outside the picture, the nearest pixel inside stands in."""
    height, width = image.shape[:2]
    places, around = [], []
    for far in dilations:
        for down in (-far, 0, far):
            for across in (-far, 0, far):
                place = min(max(row + down, 0), height - 1), min(max(column + across, 0), width - 1)
                around.append(image[place])
                if (down, across) != (0, 0):
                    places.append(place)
    deviation = np.std(around, axis=0, ddof=1)  # (3,)
    likeness = [-np.mean(np.abs(image[row, column] - image[place]) / (1e-8 + 0.1 * deviation)) for place in places]
    powers = np.exp(np.array(likeness) - max(likeness))
    return list(zip(places, powers / powers.sum(), strict=True))
