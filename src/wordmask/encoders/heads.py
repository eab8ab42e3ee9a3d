"""The heads of attention, side by side in every token or apart."""

from torch import Tensor


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, N, heads * d) -> (B, heads, N, d)"""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """(B, heads, N, d) -> (B, N, heads * d)"""
    return heads.transpose(1, 2).flatten(2)
