"""Vision transformers, CLIP's attention pool and DINO's read-outs, written out in NumPy from the papers' formulas.

Slow, in double precision, and free of the libraries that it checks: it reads nothing but a dictionary of arrays.
"""

import math

import numpy as np
from scipy.special import erf

Arrays = dict[str, np.ndarray]


def arrays_of(module) -> Arrays:
    return {key: value.detach().double().numpy() for key, value in module.state_dict().items()}


def layer_norm(x, weight, bias, eps):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def cubic(t, a=-0.75):
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    if t < 2:
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return 0.0


def bicubic(plane, size, scale=None):
    """(h, w, D) -> (H, W, D): Keys' cubic with a = -0.75, corners not aligned, border repeated, no antialiasing.

    scale: source pixels per output pixel and axis; by default h / H.
    """
    for axis in (0, 1):
        old, new = plane.shape[axis], size[axis]
        step = old / new if scale is None else scale[axis]
        weights = np.zeros((new, old))
        for i in range(new):
            centre = (i + 0.5) * step - 0.5
            base = math.floor(centre)
            for j in range(base - 1, base + 3):
                weights[i, min(max(j, 0), old - 1)] += cubic(centre - j)
        plane = np.moveaxis(np.tensordot(weights, np.moveaxis(plane, axis, 0), axes=1), 0, axis)
    return plane


def patches_of(image, patch):
    """(3, H, W) -> (h, w, 3 * patch * patch), zero-padded at the right and the bottom."""
    _, height, width = image.shape
    image = np.pad(image, ((0, 0), (0, -height % patch), (0, -width % patch)))
    h, w = image.shape[1] // patch, image.shape[2] // patch
    return np.stack(
        [
            np.stack([image[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch].ravel() for j in range(w)])
            for i in range(h)
        ]
    )


def embed_clip(p: Arrays, image, patch, native, offset=0.0):
    """(3, H, W), normalised -> tokens (1 + h*w, C) and the grid. offset: DINO's, of the new grid."""
    pieces = patches_of(image, patch)
    h, w = pieces.shape[:2]
    kernel = p["conv1.weight"].reshape(p["conv1.weight"].shape[0], -1)
    positions = p["positional_embedding"]
    plane = positions[1:].reshape(*native, -1)
    if (h, w) != tuple(native):
        plane = bicubic(plane, (h, w), [o / (n + offset) for o, n in zip(native, (h, w), strict=True)])
    tokens = pieces @ kernel.T + plane
    cls = p["class_embedding"] + positions[0]
    x = np.concatenate([cls[None], tokens.reshape(h * w, -1)])
    return layer_norm(x, p["ln_pre.weight"], p["ln_pre.bias"], 1e-5), (h, w)


def attend(q, k, v, heads):
    out = []
    for head in range(heads):
        d = q.shape[1] // heads
        part = slice(head * d, (head + 1) * d)
        out.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(d)) @ v[:, part])
    return np.concatenate(out, axis=1)


def clip_block(p: Arrays, n, x, heads, act):
    """One block; also what its ln_1 and ln_2 gave."""
    at = f"transformer.resblocks.{n}."
    normed = layer_norm(x, p[at + "ln_1.weight"], p[at + "ln_1.bias"], 1e-5)
    q, k, v = np.split(normed @ p[at + "attn.in_proj_weight"].T + p[at + "attn.in_proj_bias"], 3, axis=1)
    x = x + attend(q, k, v, heads) @ p[at + "attn.out_proj.weight"].T + p[at + "attn.out_proj.bias"]
    second = layer_norm(x, p[at + "ln_2.weight"], p[at + "ln_2.bias"], 1e-5)
    hidden = act(second @ p[at + "mlp.c_fc.weight"].T + p[at + "mlp.c_fc.bias"])
    return x + hidden @ p[at + "mlp.c_proj.weight"].T + p[at + "mlp.c_proj.bias"], second


def maskclip_vit(p: Arrays, image, *, patch, native, heads, layers, residual, act=gelu):
    """MaskCLIP: (values (D, h, w), keys (C, h, w), ln_2 outputs per block (C, h, w))."""
    x, grid = embed_clip(p, image, patch, native)
    seconds = []
    for n in range(layers):
        before = x
        x, second = clip_block(p, n, x, heads, act)
        seconds.append(to_map(second[1:], grid))
    at = f"transformer.resblocks.{layers - 1}."
    normed = layer_norm(before, p[at + "ln_1.weight"], p[at + "ln_1.bias"], 1e-5)
    _, k, v = np.split(normed @ p[at + "attn.in_proj_weight"].T + p[at + "attn.in_proj_bias"], 3, axis=1)
    v = v @ p[at + "attn.out_proj.weight"].T + p[at + "attn.out_proj.bias"]
    if residual:
        v = before + v
        hidden = layer_norm(v, p[at + "ln_2.weight"], p[at + "ln_2.bias"], 1e-5)
        hidden = act(hidden @ p[at + "mlp.c_fc.weight"].T + p[at + "mlp.c_fc.bias"])
        v = v + hidden @ p[at + "mlp.c_proj.weight"].T + p[at + "mlp.c_proj.bias"]
    values = layer_norm(v, p["ln_post.weight"], p["ln_post.bias"], 1e-5) @ p["proj"]
    return to_map(values[1:], grid), to_map(k[1:], grid), seconds


def clip_global(p: Arrays, image, *, patch, native, heads, layers, act=gelu):
    x, _ = embed_clip(p, image, patch, native)
    for n in range(layers):
        x, _ = clip_block(p, n, x, heads, act)
    pooled = layer_norm(x[0], p["ln_post.weight"], p["ln_post.bias"], 1e-5) @ p["proj"]
    return pooled / np.linalg.norm(pooled)


def dino(p: Arrays, image, *, patch, native, heads, layers, offset=0.1):
    """(q, k, v per head (heads, h*w, d), CLS logits and attention (heads, h*w), tokens (C, h, w), cls (C,))."""
    pieces = patches_of(image, patch)
    h, w = pieces.shape[:2]
    kernel = p["patch_embed.proj.weight"].reshape(p["patch_embed.proj.weight"].shape[0], -1)
    positions = p["pos_embed"][0]
    plane = positions[1:].reshape(*native, -1)
    if (h, w) != tuple(native):
        scale = [o / (n + offset) for o, n in zip(native, (h, w), strict=True)]
        plane = bicubic(plane, (h, w), scale)
    tokens = pieces @ kernel.T + p["patch_embed.proj.bias"] + plane
    x = np.concatenate([(p["cls_token"][0, 0] + positions[0])[None], tokens.reshape(h * w, -1)])
    for n in range(layers):
        at = f"blocks.{n}."
        normed = layer_norm(x, p[at + "norm1.weight"], p[at + "norm1.bias"], 1e-6)
        q, k, v = np.split(normed @ p[at + "attn.qkv.weight"].T + p[at + "attn.qkv.bias"], 3, axis=1)
        x = x + attend(q, k, v, heads) @ p[at + "attn.proj.weight"].T + p[at + "attn.proj.bias"]
        hidden = layer_norm(x, p[at + "norm2.weight"], p[at + "norm2.bias"], 1e-6)
        hidden = gelu(hidden @ p[at + "mlp.fc1.weight"].T + p[at + "mlp.fc1.bias"])
        x = x + hidden @ p[at + "mlp.fc2.weight"].T + p[at + "mlp.fc2.bias"]
    d = q.shape[1] // heads
    q, k, v = (np.stack(np.split(part, heads, axis=1)) for part in (q, k, v))  # (heads, N, d)
    logits = np.stack([q[i, 0] @ k[i].T / math.sqrt(d) for i in range(heads)])
    attention = softmax(logits)
    x = layer_norm(x, p["norm.weight"], p["norm.bias"], 1e-6)
    return q[:, 1:], k[:, 1:], v[:, 1:], logits[:, 1:], attention[:, 1:], to_map(x[1:], (h, w)), x[0]


READ_OUTS = ("queries", "keys", "values", "cls_logits", "cls_attention", "tokens", "cls")


def farthest_from_dino(read, place, p: Arrays, image, **shape):
    """How far the read-outs of one picture of a batch are from those of `dino`, at the most."""
    expected = dict(zip(READ_OUTS, dino(p, image, **shape), strict=True))
    return max(np.abs(getattr(read, name)[place].numpy() - of).max() for name, of in expected.items())


def to_map(tokens, grid):
    return tokens.T.reshape(-1, *grid)
