"""FOUND's seed, SelfMask's decoder, voting and losses written out in NumPy and loops, from the papers' formulas.

Slow, in double precision, and free of the code that it checks; the vision transformer's parts are `plain_vit`'s. And
a small DINO to try everything with.
"""

import math

import numpy as np

from support import small_dino
from support.plain_vit import attend, gelu, layer_norm, patches_of, to_map

PATCH, NATIVE, WIDTH, HEADS, BLOCKS = 8, 5, 48, small_dino.HEADS, small_dino.LAYERS


def tiny_dino(seed=0):
    return small_dino.small_dino(PATCH, NATIVE, seed, width=WIDTH, name="tiny")


def seed_background(attention, keys, similarity=0.3):
    """attention (heads, N), keys (heads, N, d) of one picture -> (N,) bool background, and the seed."""
    heads, count = attention.shape
    mean = sum(attention[h, i] for h in range(heads) for i in range(count)) / (heads * count)
    sparsity = [sum(attention[h, i] > mean for i in range(count)) / count + 1e-10 for h in range(heads)]
    weights = [math.log(sum(sparsity) / own) for own in sparsity]
    told = [sum(weights[h] * attention[h, i] for h in range(heads)) for i in range(count)]
    seed = told.index(min(told))
    vectors = [np.concatenate([weights[h] * keys[h, i] for h in range(heads)]) for i in range(count)]
    cosines = [v @ vectors[seed] / (np.linalg.norm(v) * np.linalg.norm(vectors[seed])) for v in vectors]
    return np.array([cosine > similarity for cosine in cosines]), seed


def linear(p, at, x):
    return x @ p[at + ".weight"].T + p[at + ".bias"]


def multihead(p, at, asking, compared, taken, heads):
    width = asking.shape[1]
    w, b = p[at + ".in_proj_weight"], p[at + ".in_proj_bias"]
    q, k, v = (
        x @ w[i * width : (i + 1) * width].T + b[i * width : (i + 1) * width]
        for i, x in enumerate((asking, compared, taken))
    )
    return linear(p, at + ".out_proj", attend(q, k, v, heads))


def decode(p, memory, heads, layers):
    """DETR's decoder under its published names: memory (N, D) -> one reading (Q, D) a layer."""

    def norm(at, x):
        return layer_norm(x, p[at + ".weight"], p[at + ".bias"], 1e-5)

    placed = p["query_embed"]
    x, readings = np.zeros_like(placed), []
    for n in range(layers):
        at = f"decoder.layers.{n}."
        x = norm(at + "norm1", x + multihead(p, at + "self_attn", x + placed, x + placed, x, heads))
        x = norm(at + "norm2", x + multihead(p, at + "multihead_attn", x + placed, memory, memory, heads))
        x = norm(at + "norm3", x + linear(p, at + "linear2", np.maximum(linear(p, at + "linear1", x), 0)))
        readings.append(norm("decoder.norm", x))
    return readings


def mlp(p, at, x):
    for n in range(3):
        x = linear(p, f"{at}.layers.{n}", x)
        x = np.maximum(x, 0) if n < 2 else x
    return x


def bilinear(plane, factor):
    """(D, h, w) -> (D, factor*h, factor*w), corners not aligned, border repeated."""
    for axis in (1, 2):
        old = plane.shape[axis]
        weights = np.zeros((int(old * factor), old))
        for i in range(len(weights)):
            centre = max((i + 0.5) / factor - 0.5, 0)
            low = min(int(centre), old - 1)
            weights[i, low] += 1 - (centre - low)
            weights[i, min(low + 1, old - 1)] += centre - low
        plane = np.moveaxis(np.tensordot(weights, np.moveaxis(plane, axis, 0), axes=1), 0, axis)
    return plane


def patch_tokens(p, image, heads, blocks):
    """A normalised picture (3, H, W) at the native size -> (N, D), under DINO's names behind "encoder."."""
    pieces = patches_of(image, PATCH)
    h, w = pieces.shape[:2]
    kernel = p["encoder.patch_embed.proj.weight"].reshape(p["encoder.cls_token"].shape[-1], -1)
    tokens = (pieces @ kernel.T + p["encoder.patch_embed.proj.bias"]).reshape(h * w, -1)
    x = np.concatenate([p["encoder.cls_token"][0], tokens]) + p["encoder.pos_embed"][0]
    for n in range(blocks):
        at = f"encoder.blocks.{n}."
        normed = layer_norm(x, p[at + "norm1.weight"], p[at + "norm1.bias"], 1e-6)
        q, k, v = np.split(linear(p, at + "attn.qkv", normed), 3, axis=1)
        x = x + linear(p, at + "attn.proj", attend(q, k, v, heads))
        normed = layer_norm(x, p[at + "norm2.weight"], p[at + "norm2.bias"], 1e-6)
        x = x + linear(p, at + "mlp.fc2", gelu(linear(p, at + "mlp.fc1", normed)))
    return layer_norm(x, p["encoder.norm.weight"], p["encoder.norm.bias"], 1e-6)[1:], (h, w)


def selfmask(p, image, *, heads, blocks, layers):
    """Published weights p, a normalised picture (3, H, W) -> masks (L, Q, 2h, 2w) and objectness (L, Q)."""
    memory, grid = patch_tokens(p, image, heads, blocks)
    pixels = bilinear(to_map(memory, grid), 2)
    masks, objectness = [], []
    for reading in decode(p, memory, heads, layers):
        asking = mlp(p, "mask_mlp", reading) if "mask_mlp.layers.0.weight" in p else reading
        masks.append(1 / (1 + np.exp(-np.tensordot(asking, pixels, axes=1))))
        objectness.append(mlp(p, "ffn", reading)[:, 0])
    return np.stack(masks), np.stack(objectness)


def selfmask_loss(masks, objectness, targets):
    """masks (L, B, Q, h, w), objectness (L, B, Q), targets (B, h, w) of one size -> dice and ranking."""
    dice_sum = ranking_sum = 0.0
    layers, pictures, queries = objectness.shape
    for b in range(pictures):
        if not targets[b].any():
            continue
        for n in range(layers):
            dice = []
            for q in range(queries):
                m, t = masks[n, b, q], targets[b]
                dice.append(1 - (2 * (m * t).sum() + 1) / (m.sum() + t.sum() + 1))
            score = 1 / (1 + np.exp(-objectness[n, b]))
            dice_sum += sum(dice)
            for i in range(queries):
                for j in range(queries):
                    if dice[i] < dice[j]:
                        ranking_sum += max(0.0, score[j] - score[i])
    return dice_sum / pictures, ranking_sum / pictures


def normalised_eigenvectors(points, count):
    """(N, D) -> (N, count): from the dense N x N affinity, rescaled to [0, 1], and Shi and Malik's Laplacian."""
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    affinity = unit @ unit.T
    affinity = (affinity - affinity.min()) / (affinity.max() - affinity.min())
    degrees = affinity.sum(axis=1)
    laplacian = np.eye(len(points)) - affinity / np.sqrt(degrees[:, None] * degrees)
    _, vectors = np.linalg.eigh(laplacian)
    return vectors[:, :count] / np.sqrt(degrees)[:, None]


def vote(masks):
    """(n, H, W) bool -> the number of the winner."""
    n, height, width = masks.shape
    spanning = []
    for mask in masks:
        ys, xs = np.nonzero(mask)
        spanning.append((ys.min() == 0 and ys.max() == height - 1) or (xs.min() == 0 and xs.max() == width - 1))
    stay = [i for i in range(n) if not spanning[i]] or list(range(n))
    sums = [sum((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() for j in stay) for i in stay]
    return stay[sums.index(max(sums))]
