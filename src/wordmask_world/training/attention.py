"""Attention written out, for training: PyTorch's fused one is slow to go back through on processors, in bf16 most."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, heads, n, d) each -> (B, n, heads * d); mask (n, n) is added to the scores."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(dim=-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def apply_block(block: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """One residual attention block of an `open_clip` transformer, (B, n, C) -> (B, n, C)."""
    attention = block.attn
    normed = block.ln_1(x)
    mixed = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in mixed.chunk(3, dim=-1))
    x = x + block.ls_1(attention.out_proj(attend(q, k, v, mask)))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
