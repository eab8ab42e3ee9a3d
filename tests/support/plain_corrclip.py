"""CorrCLIP's reading of one window, in double precision and loops: regions, scope, and three branches.

As it is published: copies of CLS go before the other tokens, and a mask keeps them apart in every block.
"""

import numpy as np

from support.plain_last_block import DINO_OFFSET, LastBlock
from support.plain_vit import embed_clip, gelu, layer_norm, softmax, to_map
from support.plain_windows import bilinear


def nearest(plane, size):
    """(H, W) -> (h, w)"""
    rows, columns = ([i * old // new for i in range(new)] for old, new in zip(plane.shape, size, strict=True))
    return np.array([[plane[y, x] for x in columns] for y in rows])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def merge(regions, features, none, distance):
    """(h, w) and unit features (h*w, C): regions that look alike take one number."""
    values = sorted(set(regions.ravel().tolist()))
    if len(values) <= 2:
        return regions
    own = [value for value in values if value != none]
    means = [
        unit(np.mean([f for f, r in zip(features, regions.ravel(), strict=True) if r == value], axis=0))
        for value in own
    ]
    most = max(a @ b for a in means for b in means)
    cluster = list(range(len(own)))
    changed = True
    while changed:  # whoever is near takes the smaller number, until nothing changes
        changed = False
        for i, a in enumerate(means):
            for j, b in enumerate(means):
                if most - a @ b <= distance and cluster[i] != cluster[j]:
                    cluster[i] = cluster[j] = min(cluster[i], cluster[j])
                    changed = True
    merged = regions.copy()
    for value, label in zip(own, cluster, strict=True):
        merged[regions == value] = 10**9 + label
    return merged


def scope(features, regions, none, tau):
    """Unit features (N, C) and regions (N,) -> who listens to whom, (N, N)."""
    similar = features @ features.T
    mean, count = similar.mean(), len(features)
    logits = np.full((count, count), -np.inf)
    for i in range(count):
        for j in range(count):
            together = regions[i] == regions[j] != none
            outside = none in (regions[i], regions[j]) and similar[i, j] > mean
            if together or outside:
                logits[i, j] = tau * similar[i, j]
    return softmax(logits)


def attend(q, k, v, allowed):
    """(heads, N, d) each, allowed (N, N) bool"""
    return np.stack(
        [softmax(np.where(allowed, q[h] @ k[h].T / np.sqrt(q.shape[-1]), -np.inf)) @ v[h] for h in range(len(q))]
    )


def whole_block(p, n, x, heads, allowed, act):
    block = LastBlock(p, n + 1, heads, act)
    q, k, v = block.qkv(block.ln_1(x))
    x = x + block.out(attend(q, k, v, allowed))
    return x + block.mlp(x)


def features(
    p,
    window,
    dino_features,
    dino_grid,
    regions,
    *,
    patch,
    native,
    heads,
    layers,
    lower,
    act=gelu,
    none=None,
    distance=0.2,
    tau=4.0,
    spatial=1.0,
    semantic=0.5,
):
    """A normalised window (3, H, W), unit features (N, C) of DINO and regions (H, W) -> (D, h, w) on DINO's grid.

    none: the number of no region; by default the least of the window's.
    """
    regions = nearest(regions, dino_grid)
    none = regions.min() if none is None else none
    if distance is not None:
        regions = merge(regions, dino_features, none, distance)
    weights = scope(dino_features, regions.ravel(), none, tau)

    x, grid = embed_clip(p, window, patch, native, DINO_OFFSET)
    on_clip = nearest(regions, grid)
    values = sorted(set(on_clip.ravel().tolist()))
    copies = len(values)
    x = np.concatenate([np.repeat(x[:1], copies, axis=0), x])
    allowed = np.zeros((len(x), len(x)), bool)
    allowed[copies:, copies:] = True
    for row, value in enumerate(values):
        allowed[row, copies] = True
        for place, own in enumerate(on_clip.ravel()):
            allowed[row, copies + 1 + place] = own == value
    outputs = []
    for n in range(layers - 1):
        x = whole_block(p, n, x, heads, allowed, act)
        outputs.append(x[copies:])
    semantic_vectors = whole_block(p, layers - 1, x, heads, allowed, act)[:copies]

    last = LastBlock(p, layers, heads, act)

    def mixed(tokens):
        v = np.concatenate(list(last.qkv(last.ln_1(tokens))[2]), axis=1)[1:]
        fine = bilinear(v.reshape(*grid, -1), dino_grid).reshape(-1, v.shape[1])
        taken = weights @ fine
        return last.out(np.stack(np.split(taken, heads, axis=1)))

    def normed(tokens):
        return layer_norm(tokens, p["ln_post.weight"], p["ln_post.bias"], 1e-5)

    painted = np.array([semantic_vectors[values.index(value)] for value in nearest(on_clip, dino_grid).ravel()])
    low = np.mean([outputs[n] for n in lower], axis=0)
    total = normed(mixed(outputs[-1])) + spatial * normed(mixed(low)) + semantic * normed(painted)
    return to_map(total @ p["proj"], dino_grid)
