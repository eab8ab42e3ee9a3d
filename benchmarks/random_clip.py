"""A CLIP of random weights that reads any words as the same: for what takes time, and what its precision changes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import build_clip

CONTEXT = 77
"""Tokens that CLIP reads of a text."""


def no_words(prompts: list[str]) -> Tensor:
    return torch.zeros(len(prompts), CONTEXT, dtype=torch.long)


def random_clip(
    architecture: str,
    precision: Any = "fp32",
    *,
    like: Any = None,
    tokenizer: Callable[[list[str]], Tensor] = no_words,
    device: str | torch.device = "cpu",
    **more: Any,
) -> ClipEncoder:
    """Return a CLIP whose weights are the next that torch's generator gives, or those of the model `like`.

    more: of `build_clip`.
    """
    model = build_clip(architecture, precision=precision, **more)
    if like is not None:
        model.load_state_dict(like.state_dict())
    return ClipEncoder(model, tokenizer, name=architecture, device=device)
