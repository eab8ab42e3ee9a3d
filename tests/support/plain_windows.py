"""What the papers compute of a picture's windows, the slow way, and random pictures to compute it of."""

import numpy as np

from wordmask.segmenters.maskclip import MaskClipSettings

TOLERANCE = 1e-5


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def settings(**changes):
    return MaskClipSettings(**{"templates": "photo", "shorter_side": None, "window": 32, "stride": 16, **changes})


def bilinear(plane, size):
    """(h, w, K) -> (H, W, K), corners not aligned: the slow way."""
    for axis in (0, 1):
        old, new = plane.shape[axis], size[axis]
        weights = np.zeros((new, old))
        for i in range(new):
            at = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
            base = min(int(at), old - 1)
            weights[i, base] += 1 - (at - base)
            weights[i, min(base + 1, old - 1)] += at - base
        plane = np.moveaxis(np.tensordot(weights, np.moveaxis(plane, axis, 0), axes=1), 0, axis)
    return plane


def text_vectors(clip, names):
    return clip.encode_text([f"a photo of {'an' if n[0] in 'aeiou' else 'a'} {n}" for n in names]).double().numpy()


def starts(length, window, stride):
    found = []
    at = 0
    while True:
        found.append(max(min(at, length - window), 0))
        if at + window >= length:
            return found
        at += stride
