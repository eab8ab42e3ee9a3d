"""Saliency from any instance segmenter, as the CLIP-DIY paper's appendix does it with CutLER."""

from collections.abc import Callable, Sequence

import numpy as np

from wordmask.saliency.base import Saliency, SaliencyError, SaliencySettings

LEAST_SCORE = 0.3
"""CLIP-DIY's: instances that are less sure are dropped."""

FindInstances = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""A picture (H, W, 3) uint8 -> masks (n, H, W), bool or soft, and their scores (n,)."""


def instance_map(masks: np.ndarray, scores: np.ndarray, *, least_score: float = LEAST_SCORE) -> np.ndarray:
    """Masks (n, H, W) and scores (n,) -> a map (H, W) float32 in [0, 1]: the sum of score x mask over the instances
    that are sure enough, divided by its maximum over the pixels. Where none is left, nothing is foreground.
    """
    masks, scores = np.asarray(masks), np.asarray(scores, dtype=np.float64)
    if masks.ndim != 3 or scores.shape != masks.shape[:1]:
        raise SaliencyError(f"instances must be masks (n, H, W) and scores (n,), not {masks.shape} and {scores.shape}")
    if not np.isfinite(scores).all() or not np.isfinite(masks).all() or (masks < 0).any():
        raise SaliencyError("instances have scores or masks that are negative or no finite numbers")
    summed = np.zeros(masks.shape[1:])
    for mask, score in zip(masks, scores, strict=True):  # one at a time: hundreds of full-size masks are large
        if score >= least_score:
            summed += score * mask
    highest = summed.max(initial=0)
    return (summed / highest if highest > 0 else summed).astype(np.float32)


class InstanceSaliency(Saliency):
    """`find` is any instance segmenter: CutLER, a COCO detector, your own."""

    method = "instances"

    def __init__(
        self,
        find: FindInstances,
        settings: SaliencySettings | None = None,
        *,
        least_score: float = LEAST_SCORE,
    ):
        self.find = find
        self.settings = settings or SaliencySettings()
        self.least_score = least_score

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        maps = []
        for image in images:
            masks, scores = self.find(image)
            if len(masks) and np.asarray(masks).shape[1:] != image.shape[:2]:
                raise SaliencyError(f"the instances' masks are {np.asarray(masks).shape[1:]}, not {image.shape[:2]}")
            masks = np.asarray(masks).reshape(-1, *image.shape[:2])
            maps.append(instance_map(masks, scores, least_score=self.least_score))
        return maps
