"""How the methods of the last block read CLIP, patch by patch, in double precision: see `plain_vit`."""

import numpy as np

from support.plain_vit import Arrays, clip_block, embed_clip, gelu, layer_norm, softmax, to_map

DINO_OFFSET = 0.1


def blocks_of(p: Arrays, image, *, patch, native, heads, layers, offset=DINO_OFFSET, act=gelu):
    """Return the outputs of all blocks but the last, (1 + h*w, C) each, and the grid."""
    x, grid = embed_clip(p, image, patch, native, offset)
    outputs = []
    for n in range(layers - 1):
        x, _ = clip_block(p, n, x, heads, act)
        outputs.append(x)
    return outputs, grid


class LastBlock:
    """Its parts, by the names of the papers."""

    def __init__(self, p: Arrays, layers, heads, act=gelu):
        self.p, self.at, self.heads, self.act = p, f"transformer.resblocks.{layers - 1}.", heads, act

    def ln_1(self, x):
        return layer_norm(x, self.p[self.at + "ln_1.weight"], self.p[self.at + "ln_1.bias"], 1e-5)

    def qkv(self, u):
        """(N, C) -> three times (heads, N, d)"""
        weight, bias = self.p[self.at + "attn.in_proj_weight"], self.p[self.at + "attn.in_proj_bias"]
        return [
            np.stack(np.split(u @ w.T + b, self.heads, axis=1))
            for w, b in zip(np.split(weight, 3), np.split(bias, 3), strict=True)
        ]

    def out(self, heads):
        """(heads, N, d) -> (N, C)"""
        weight, bias = self.p[self.at + "attn.out_proj.weight"], self.p[self.at + "attn.out_proj.bias"]
        return np.concatenate(list(heads), axis=1) @ weight.T + bias

    def mlp(self, x):
        p, at = self.p, self.at
        hidden = layer_norm(x, p[at + "ln_2.weight"], p[at + "ln_2.bias"], 1e-5)
        hidden = self.act(hidden @ p[at + "mlp.c_fc.weight"].T + p[at + "mlp.c_fc.bias"])
        return hidden @ p[at + "mlp.c_proj.weight"].T + p[at + "mlp.c_proj.bias"]

    def to_text(self, x):
        return layer_norm(x, self.p["ln_post.weight"], self.p["ln_post.bias"], 1e-5) @ self.p["proj"]


def nearness(grid, sigma=5.0):
    """(1 + N, 1 + N): NACLIP's window, two loops over the patches."""
    places = list(np.ndindex(*grid))
    window = np.zeros((len(places) + 1, len(places) + 1))
    for i, (y, x) in enumerate(places, start=1):
        for j, (v, u) in enumerate(places, start=1):
            window[i, j] = np.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * sigma**2))
    return window


def read(method, p: Arrays, image, *, patch, native, heads, layers, offset=DINO_OFFSET, act=gelu):
    """SCLIP's, ClearCLIP's and NACLIP's features of a picture (3, H, W), normalised: (D, h, w)."""
    shape = {"patch": patch, "native": native, "heads": heads, "layers": layers}
    outputs, grid = blocks_of(p, image, **shape, offset=offset, act=act)
    block, x = LastBlock(p, layers, heads, act), outputs[-1]
    q, k, v = block.qkv(block.ln_1(x))
    scale = q.shape[-1] ** -0.5
    mixed = []
    for head in range(heads):
        of_queries, of_keys = (scale * part[head] @ part[head].T for part in (q, k))
        if method == "sclip":
            weights = softmax(of_queries) + softmax(of_keys)
        elif method == "clearclip":
            weights = softmax(of_queries)
        else:
            weights = softmax(of_keys + nearness(grid))
        mixed.append(weights @ v[head])
    y = block.out(mixed)
    if method == "sclip":
        y = x + y
        y = y + block.mlp(y)
    return to_map(block.to_text(y)[1:], grid)
