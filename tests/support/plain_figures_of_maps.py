"""IoU, max F and MAE of maps, from their definitions."""

import numpy as np


def plain_figures(pairs):
    """(map, mask) of every picture -> the three in percent."""
    best = 0.0
    for level in range(256):
        scores = []
        for soft, mask in pairs:
            if not mask.any():
                continue
            chosen = np.rint(soft * 255) >= level
            right = (chosen & mask).sum()
            precision, recall = right / max(chosen.sum(), 1), right / mask.sum()
            scores.append(1.3 * precision * recall / (0.3 * precision + recall) if right else 0.0)
        best = max(best, float(np.mean(scores)))
    masks = [(soft > 0.5, mask) for soft, mask in pairs]
    ious = [(own & mask).sum() / (own | mask).sum() if (own | mask).any() else 1 for own, mask in masks]
    errors = [np.abs(soft - mask).mean() for soft, mask in pairs]
    return tuple(100 * float(np.mean(figure)) for figure in (ious, best, errors))
