"""The protocol of SCLIP and its descendants, step by step in double precision."""

import numpy as np

from support.plain_pamr import pamr
from support.plain_vit import softmax
from support.plain_windows import bilinear, starts, text_vectors
from wordmask.pictures.images import to_tensor


def window_cosines(clip, window, text, read, multiple):
    """A window (3, h, w) in [0, 1] -> cosines (h, w, P). read: a normalised picture (3, h, w) -> (D, h', w')."""
    height, width = window.shape[1:]
    normal = (window - np.array(clip.statistics.mean)[:, None, None]) / np.array(clip.statistics.std)[:, None, None]
    down, across = (-side % multiple if multiple else 0 for side in (height, width))
    top, left = down // 2, across // 2
    normal = np.pad(normal, ((0, 0), (top, down - top), (left, across - left)))
    features = np.moveaxis(read(normal), 0, -1)
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return bilinear(features @ text.T, normal.shape[1:])[top : top + height, left : left + width]


def cosines(clip, image, phrases, read, *, resized=None, window=32, stride=16, multiple=None, refined=False):
    """A picture (H, W, 3) uint8 -> the averaged cosines at its own size, (H, W, P)."""
    tensor = to_tensor(image, resized).double().numpy()
    text = text_vectors(clip, phrases)
    height, width = tensor.shape[1:]
    if window is None:
        normal = (tensor - np.array(clip.statistics.mean)[:, None, None]) / np.array(clip.statistics.std)[:, None, None]
        features = np.moveaxis(read(normal), 0, -1)
        own = bilinear(features / np.linalg.norm(features, axis=-1, keepdims=True) @ text.T, image.shape[:2])
    else:
        total, count = np.zeros((height, width, len(phrases))), np.zeros((height, width, 1))
        for top in starts(height, window, stride):
            for left in starts(width, window, stride):
                cut = tensor[:, top : top + window, left : left + window]
                place = slice(top, top + cut.shape[1]), slice(left, left + cut.shape[2])
                total[place] += window_cosines(clip, cut, text, read, multiple)
                count[place] += 1
        own = bilinear(total / count, image.shape[:2])
    if refined:
        guide = bilinear(np.moveaxis(tensor, 0, -1), image.shape[:2])
        own = np.moveaxis(pamr(guide, np.moveaxis(own, -1, 0), 10, (8, 16)), 0, -1)
    return own


def decide(own, owner, *, scale=40.0, threshold=0.0, area=None, background=0):
    """Cosines (H, W, P) -> labels (H, W) and the names' probabilities (H, W, K)."""
    shares = softmax(scale * own)
    owner = np.array(owner)
    names = np.stack([shares[..., owner == name].max(axis=-1) for name in range(owner.max() + 1)], axis=-1)
    if area is not None:
        pixels = [(names.argmax(axis=-1) == name).sum() for name in range(names.shape[-1])]
        things = sum(count for name, count in enumerate(pixels) if name != background)
        for name, count in enumerate(pixels):
            if name != background and count <= area * things:
                names[..., name] = 0
    labels = names.argmax(axis=-1)
    labels[names.max(axis=-1) < threshold] = background
    return labels, names
