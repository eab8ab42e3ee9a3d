"""Text towers, and towers read by their values, written out in NumPy from their equations."""

import math

import numpy as np

from support.plain_vit import attend, gelu, layer_norm, patches_of, softmax


def linear(p, at, x):
    return x @ p[f"{at}.weight"].T + p.get(f"{at}.bias", 0.0)


def norm(p, at, x, eps=1e-5):
    return layer_norm(x, p[f"{at}.weight"], p[f"{at}.bias"], eps)


def tips_text(p, tokens, heads):
    """Numbers of one text's pieces -> its embedding (D,), not normalised."""
    width = p["token_embedding.weight"].shape[1]
    x = np.zeros((len(tokens), width))
    count = width // 2
    for i, token in enumerate(tokens):
        for j in range(count):
            wave = math.exp(-math.log(10_000) * j / (count - 1))
            x[i, j], x[i, count + j] = math.sin(i * wave), math.cos(i * wave)
        x[i] += p["token_embedding.weight"][token] * math.sqrt(width)
    blocks = len({key.split(".")[2] for key in p if key.startswith("transformer.resblocks")})
    for n in range(blocks):
        at = f"transformer.resblocks.{n}."
        normed = norm(p, at + "ln_1", x)
        q, k, v = np.split(normed @ p[at + "attn.in_proj_weight"].T + p[at + "attn.in_proj_bias"], 3, axis=1)
        x = x + linear(p, at + "attn.out_proj", attend(q, k, v, heads))
        hidden = np.maximum(linear(p, at + "mlp.c_fc", norm(p, at + "ln_2", x)), 0)
        x = x + linear(p, at + "mlp.c_proj", hidden)
    return norm(p, "ln_final", x).mean(axis=0)


def read_by_values(p, image, *, patch, heads, layers):
    """A DINOv2-like tower with registers on a picture (3, H, W) of its own size -> patches (C, h, w)."""
    pieces = patches_of(image, patch)
    h, w = pieces.shape[:2]
    kernel = p["patch_embed.proj.weight"].reshape(p["patch_embed.proj.weight"].shape[0], -1)
    tokens = (pieces @ kernel.T + p["patch_embed.proj.bias"]).reshape(h * w, -1) + p["pos_embed"][0]
    x = np.concatenate([p["cls_token"][0], p["reg_token"][0], tokens])
    for n in range(layers):
        at = f"blocks.{n}."
        q, k, v = np.split(linear(p, at + "attn.qkv", norm(p, at + "norm1", x, 1e-6)), 3, axis=1)
        mixed = v if n == layers - 1 else attend(q, k, v, heads)
        x = x + p[at + "ls1.gamma"] * linear(p, at + "attn.proj", mixed)
        hidden = gelu(linear(p, at + "mlp.fc1", norm(p, at + "norm2", x, 1e-6)))
        x = x + p[at + "ls2.gamma"] * linear(p, at + "mlp.fc2", hidden)
    specials = 1 + p["reg_token"].shape[1]
    return norm(p, "norm", x, 1e-6)[specials:].T.reshape(-1, h, w)


def dinotxt_head(p, tokens, heads):
    """[CLS, registers, patches] (N, D) -> (N, D)"""
    x = tokens
    for n in range(len({key.split(".")[1] for key in p if key.startswith("blocks.")})):
        at = f"blocks.{n}."
        q, k, v = np.split(linear(p, at + "attn.qkv", norm(p, at + "norm1", x)), 3, axis=1)
        x = x + p[at + "ls1.gamma"] * linear(p, at + "attn.proj", attend(q, k, v, heads))
        normed = norm(p, at + "norm2", x)
        gate = linear(p, at + "mlp.w1", normed)
        hidden = gate / (1 + np.exp(-gate)) * linear(p, at + "mlp.w2", normed)
        x = x + p[at + "ls2.gamma"] * linear(p, at + "mlp.w3", hidden)
    return norm(p, "ln_final", x)


def dinotxt_text(p, tokens, heads):
    """The numbers of one text up to its end token -> its embedding, not normalised: each token sees those before it."""
    x = p["backbone.token_embedding.weight"][tokens] + p["backbone.positional_embedding"][: len(tokens)]
    d = x.shape[1] // heads
    for n in range(len({key.split(".")[2] for key in p if key.startswith("backbone.blocks.")})):
        at = f"backbone.blocks.{n}."
        q, k, v = np.split(linear(p, at + "attention.qkv", norm(p, at + "attention_norm", x)), 3, axis=1)
        mixed = np.zeros_like(x)
        for i in range(len(tokens)):
            for h in range(heads):
                part = slice(h * d, (h + 1) * d)
                weights = softmax(q[i, part] @ k[: i + 1, part].T / math.sqrt(d))
                mixed[i, part] = weights @ v[: i + 1, part]
        x = x + linear(p, at + "attention.proj", mixed)
        hidden = gelu(linear(p, at + "feed_forward.fc1", norm(p, at + "ffn_norm", x)))
        x = x + linear(p, at + "feed_forward.fc2", hidden)
    return p["head.linear_projection.weight"] @ norm(p, "backbone.ln_final", x)[-1]


def soft_choice(maps_of, plan, names, image, bilinear):
    """Each window's softmax over the names at its pixels, averaged where windows overlap: (H, W, K).

    maps_of: a window (h, w, 3) -> cosines (gh, gw, K). plan: boxes (top, left, bottom, right).
    """
    height, width = image.shape[:2]
    total, times = np.zeros((height, width, names)), np.zeros((height, width, 1))
    for top, left, bottom, right in plan:
        cosines = bilinear(maps_of(image[top:bottom, left:right]), (bottom - top, right - left))
        total[top:bottom, left:right] += softmax(cosines)
        times[top:bottom, left:right] += 1
    return total / times
