"""SC-CLIP's reading of a window, step by step in double precision: see `plain_last_block`."""

import numpy as np

from support.plain_last_block import LastBlock, blocks_of
from support.plain_vit import Arrays, softmax, to_map


def outlier_scores(patches, n):
    """A local outlier factor in which a patch's own distance to its n-th neighbour is the least reach."""
    count = len(patches)
    squares = np.array([[((a - b) ** 2).sum() for b in patches] for a in patches])
    nearest = [[j for j in np.argsort(squares[i], kind="stable") if j != i][:n] for i in range(count)]
    kth = [squares[i, nearest[i][-1]] for i in range(count)]
    density = [n / np.mean([max(squares[i, j], kth[i]) for j in nearest[i]]) for i in range(count)]
    return np.array([np.mean([density[j] for j in nearest[i]]) / density[i] for i in range(count)])


def textbook_scores(patches, n):
    """The local outlier factor of Breunig et al., on squared distances: the neighbour's n-th distance is the least."""
    squares = np.array([[((a - b) ** 2).sum() for b in patches] for a in patches])
    count = len(patches)
    nearest = [[j for j in np.argsort(squares[i], kind="stable") if j != i][:n] for i in range(count)]
    kth = [squares[i, nearest[i][-1]] for i in range(count)]
    density = [n / np.mean([max(squares[i, j], kth[j]) for j in nearest[i]]) for i in range(count)]
    return np.array([np.mean([density[j] for j in nearest[i]]) / density[i] for i in range(count)])


def repair(patches, anomalous, grid):
    mended = patches.copy()
    h, w = grid
    for y, x in np.ndindex(h, w):
        if not anomalous[y * w + x]:
            continue
        around = [
            patches[v * w + u]
            for v in range(max(y - 1, 0), min(y + 2, h))
            for u in range(max(x - 1, 0), min(x + 2, w))
            if (v, u) != (y, x) and not anomalous[v * w + u]
        ]
        if around:
            mended[y * w + x] = np.mean(around, axis=0)
    return mended


def cosines(patches):
    unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    return unit @ unit.T


def average(patches, similarity, beta):
    weights = np.where(similarity < beta, 0, similarity)
    return weights / (weights.sum(axis=1, keepdims=True) + 1e-6) @ patches


def last(block, patches, similarity):
    _, k, v = block.qkv(block.ln_1(patches))
    guide = (similarity - similarity.mean()) * 3
    guide = softmax(np.where(guide < 0, -np.inf, guide))
    keys = [softmax(k[head] @ k[head].T * k.shape[-1] ** -0.5) for head in range(len(k))]
    return block.out(np.stack([(guide + keys[head]) / 2 @ v[head] for head in range(len(v))]))


def read(p: Arrays, image, settings, *, patch, native, heads, layers):
    """A window (3, H, W), normalised -> (D, h, w)"""
    outputs, grid = blocks_of(p, image, patch=patch, native=native, heads=heads, layers=layers)
    block = LastBlock(p, layers, heads)
    c, patches = outputs[-1][:1], outputs[-1][1:]
    scores = outlier_scores(patches, min(settings.neighbours, len(patches) - 1))
    anomalous = scores > np.quantile(scores, 1 - settings.anomalies)
    patches = repair(patches, anomalous, grid)
    middle = cosines(repair(outputs[settings.middle_block][1:], anomalous, grid))
    low = cosines(outputs[settings.low_block][1:])
    patches = average(patches, middle, settings.similarity)
    y = average(last(block, patches, middle) + settings.cls_share * c, low, settings.similarity)
    z = sum(outputs[settings.levels[0] : settings.levels[1]])
    y = y + average(last(block, z[1:], middle) + settings.cls_share * z[:1], low, settings.similarity)
    return to_map(block.to_text(y), grid)
