"""ResCLIP's reading of a window, step by step in double precision: see `plain_last_block`."""

import numpy as np

from support.plain_last_block import LastBlock, blocks_of, nearness
from support.plain_pamr import pamr
from support.plain_vit import Arrays, softmax, to_map
from support.plain_windows import bilinear


def attention(p: Arrays, n, x, heads):
    """A block's own, of queries with keys: (heads, N, N)"""
    block = LastBlock(p, n + 1, heads)
    q, k, _ = block.qkv(block.ln_1(x))
    return np.stack([softmax(q[i] @ k[i].T * q.shape[-1] ** -0.5) for i in range(heads)])


def belonging(labels, sigma=5.0):
    """(h, w) -> (1 + N, 1 + N)"""
    h, w = labels.shape
    places = list(np.ndindex(h, w))
    longest = max(h, w) - 1
    share = np.linspace(0, 1, longest + 1, dtype=np.float32)
    rows = np.zeros((h * w, h * w))
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            if labels[y, x] != labels[v, u]:
                continue
            steps = max(abs(y - v), abs(x - u))
            way = [(y * (1 - t) + v * t, x * (1 - t) + u * t) for t in share[: steps + 1]]
            straight = all(labels[round(float(a)), round(float(b))] == labels[y, x] for a, b in way)
            rows[i, j] = 1 if straight else np.exp(-steps / longest)
    size = min(h * w, int(6 * sigma + 1))
    size += 1 - size % 2
    kernel = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    blurred = np.zeros_like(rows)
    for i in range(h * w):
        for j in range(h * w):
            for m, weight in enumerate(kernel):
                if 0 <= j + m - size // 2 < h * w:
                    blurred[i, j] += weight * rows[i, j + m - size // 2]
    blurred /= blurred.sum(axis=1, keepdims=True) + 1e-8
    whole = np.zeros((h * w + 1, h * w + 1))
    whole[1:, 1:] = blurred / blurred.max()
    return whole


def last(p, settings, outputs, grid, layers, heads, belongs=None):
    """(D, h, w)"""
    block = LastBlock(p, layers, heads)
    _, k, v = block.qkv(block.ln_1(outputs[-1]))
    first, stop = settings.middle_blocks
    middle = np.mean([attention(p, n, outputs[n - 1], heads) for n in range(first, stop)], axis=0)
    mixed = []
    for head in range(heads):
        logits = k[head] @ k[head].T * k.shape[-1] ** -0.5
        if belongs is not None:
            share = settings.feedback_share
            logits = settings.feedback_scale * ((1 - share) * logits + share * belongs)
        weights = softmax(logits + nearness(grid))
        weights = settings.middle_scale * ((1 - settings.middle_share) * weights + settings.middle_share * middle[head])
        mixed.append(weights @ v[head])
    return to_map(block.to_text(block.out(np.stack(mixed)))[1:], grid)


def cosines(p: Arrays, image, window, text, settings, instead=0, *, patch, native, heads, layers):
    """A window (3, H, W), normalised, and the same in [0, 1] -> cosines (h, w, P), and the first answer by patches."""
    outputs, grid = blocks_of(p, image, patch=patch, native=native, heads=heads, layers=layers)

    def told(belongs=None):
        features = np.moveaxis(last(p, settings, outputs, grid, layers, heads, belongs), 0, -1)
        return features / np.linalg.norm(features, axis=-1, keepdims=True) @ text.T

    own = bilinear(told(), window.shape[1:])
    own = np.moveaxis(pamr(np.moveaxis(window, 0, -1), np.moveaxis(own, -1, 0), 10, (8, 16)), 0, -1)
    shares = softmax(settings.scale * own)
    labels = np.where(shares.max(axis=-1) < settings.feedback_threshold, instead, shares.argmax(axis=-1))
    patches = np.zeros(grid, int)
    for y, x in np.ndindex(*grid):
        counts = np.bincount(labels[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].ravel())
        patches[y, x] = counts.argmax()
    return told(belonging(patches)), patches
