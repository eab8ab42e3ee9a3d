"""A small tokenizer for the world: byte pairs merged as often as its captions ask for, in `open_clip`'s own format.

Any word can be read, in pieces where it was never seen.
"""

import gzip
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import bytes_to_unicode
from torch import Tensor

from wordmask.files import atomic_write
from wordmask.names.prompts import templates
from wordmask_world.training.attention import apply_block

CONTEXT_LENGTH = 64
"""Positions of the text tower: the longest captions of crowded pictures have some fifty words."""
MERGES = 1200
"""The most merges; fewer when every word is whole before."""

Pair = tuple[str, str]


def template_words() -> Counter[str]:
    """The words of CLIP's prompts, which should not fall to pieces either."""
    sentences = (*templates("imagenet-85").sentences, *templates("photo").sentences)
    return count_words(sentence.replace("{}", "") for sentence in sentences)


def count_words(sentences: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(re.findall(r"[a-z]+", sentence.lower()))
    return counts


def learn_merges(words: Counter[str], most: int = MERGES) -> list[Pair]:
    """Byte-pair encoding: merge the most frequent neighbours, again and again; ties go by the alphabet."""
    letters = bytes_to_unicode()
    pieces = {word: _start(word, letters) for word in sorted(words)}
    merges: list[Pair] = []
    while len(merges) < most:
        pairs: Counter[Pair] = Counter()
        for word, parts in pieces.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}
    return merges


def _start(word: str, letters: dict[int, str]) -> list[str]:
    parts = [letters[byte] for byte in word.encode()]
    return [*parts[:-1], parts[-1] + "</w>"]


def _merged(parts: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def write_merges(path: Path, merges: Iterable[Pair]) -> None:
    """In the format that `open_clip.SimpleTokenizer` reads; equal merges give equal bytes."""
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    with atomic_write(path) as file:
        file.write(gzip.compress("\n".join(lines).encode(), mtime=0))


def load_tokenizer(path: Path, context_length: int = CONTEXT_LENGTH) -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(bpe_path=str(path), context_length=context_length)


def read_text(model: Any, tokens: Tensor) -> Tensor:
    """Tokens (n, L) -> embeddings (n, D), not normalised, of an `open_clip.CLIP`; unused positions cost nothing.

    The tower is causal, so what stands behind the end of the longest text changes nothing.
    """
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    for block in model.transformer.resblocks:
        x = apply_block(block, x, model.attn_mask[:length, :length])
    return model.ln_final(x)[torch.arange(len(tokens), device=x.device), ends] @ model.text_projection
