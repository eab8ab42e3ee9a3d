"""The words of TIPS and TIPSv2 (Maninis et al., ICLR 2025; google-deepmind/tips): a text tower that neither `timm` nor
`open_clip` has.

A plain transformer without a causal mask reads at most 64 pieces of SentencePiece; a text is the mean of its pieces.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import TEXT_BATCH, TOKENIZER_PROBE
from wordmask.errors import WordmaskError
from wordmask.extras import need
from wordmask.fingerprints import digest_of
from wordmask.names.prompts import GROUNDS
from wordmask.weights.addresses import resolve
from wordmask.weights.building import built_from
from wordmask.weights.loading import fingerprint, read_state_dict

CONTEXT = 64
"""Pieces that are read of a text; what is longer is cut."""
SLOWEST = 10_000
"""Of the sinusoids of the positions: the longest is so many times the shortest."""
HEAD_WIDTH = 64
HEADS_OF_WIDTH = {1152: 16}
"""Towers whose heads are not so wide."""
UNUSED = ("temperature",)
"""In the published files: the scale that the towers were trained at, which segmentation has no use for."""
Tokenizer = Callable[[Sequence[str]], list[list[int]]]


class TipsTextError(WordmaskError):
    """These are no words of TIPS."""


class Block(nn.Module):
    """Parameter names are the published files'."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)})

    def forward(self, x: Tensor, is_padding: Tensor) -> Tensor:
        """(B, L, D), (B, L) bool -> (B, L, D)"""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, key_padding_mask=is_padding, need_weights=False)[0]
        read: Tensor = x + self.mlp["c_proj"](self.mlp["c_fc"](self.ln_2(x)).relu())
        return read


class TipsTextTower(nn.Module):
    """Token numbers -> embeddings as wide as the image tower's patches."""

    def __init__(self, vocabulary: int, width: int, blocks: int, heads: int, hidden: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        resblocks = nn.ModuleList([Block(width, heads, hidden) for _ in range(blocks)])
        self.transformer = nn.ModuleDict({"resblocks": resblocks})
        self.ln_final = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, is_padding: Tensor) -> Tensor:
        """(B, L), (B, L) bool -> (B, D), not normalised."""
        x = self.token_embedding(tokens) * math.sqrt(self.token_embedding.embedding_dim)
        x = x + sinusoids(tokens.shape[1], x.shape[-1]).to(x)
        for block in self.transformer["resblocks"].children():
            x = block(x, is_padding)
        kept = self.ln_final(x) * ~is_padding[..., None]
        return kept.sum(dim=1) / (~is_padding).sum(dim=1, keepdim=True)


def sinusoids(length: int, width: int) -> Tensor:
    """Return the positions (length, width): sines, then cosines, of wavelengths in a geometric row."""
    count = width // 2
    step = math.log(SLOWEST) / max(count - 1, 1)
    angles = torch.arange(length)[:, None] * torch.exp(-step * torch.arange(count))
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


class TipsText:
    """What `TextEmbedder` needs of a tower with its tokenizer."""

    grounds = GROUNDS

    def __init__(self, tower: TipsTextTower, tokenizer: Tokenizer, *, name: str, device: str = "cpu"):
        self.model = tower.eval().requires_grad_(False).to(device)
        self.tokenizer, self.name = tokenizer, name
        self.embedding_size = int(tower.token_embedding.embedding_dim)

    @cached_property
    def text_fingerprint(self) -> str:
        return digest_of(f"{fingerprint(self.model)} {self.model!r} {self.tokenizer(list(TOKENIZER_PROBE))}")

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Whole prompts -> L2-normalised embeddings (n, D), float32."""
        device = self.model.token_embedding.weight.device
        found = torch.empty(len(prompts), self.embedding_size)
        for start in range(0, len(prompts), TEXT_BATCH):
            pieces = [own[:CONTEXT] for own in self.tokenizer(prompts[start : start + TEXT_BATCH])]
            if empty := [i for i, own in enumerate(pieces) if not own]:
                raise TipsTextError(f"{self.name} reads nothing in {prompts[start + empty[0]]!r}: word it otherwise")
            lengths = torch.tensor([len(own) for own in pieces])
            tokens = torch.zeros(len(pieces), int(lengths.max()), dtype=torch.int64)
            for row, own in enumerate(pieces):
                tokens[row, : len(own)] = torch.tensor(own)
            is_padding = torch.arange(tokens.shape[1]) >= lengths[:, None]
            read = self.model(tokens.to(device), is_padding.to(device))
            found[start : start + len(pieces)] = F.normalize(read.float(), dim=-1).cpu()
        return found.to(device)


def tips_text_at(address: str | Path, tokenizer: str | Path, compute: Compute) -> TipsText:
    """Return the words at an address, a file in the published layout; tokenizer: the address of SentencePiece's file.

    They compute in single precision, as names are read but once.
    """
    need("sentencepiece")
    state = read_state_dict(resolve(address, "text"))
    table, hidden = state.get("token_embedding.weight"), state.get("transformer.resblocks.0.mlp.c_fc.weight")
    if table is None or hidden is None or table.ndim != 2 or hidden.ndim != 2:
        raise TipsTextError(f"{address} holds no text tower of TIPS: there is no token_embedding.weight (32000, D)")
    blocks = len({key.split(".")[2] for key in state if key.startswith("transformer.resblocks.")})
    vocabulary, width = table.shape
    heads = HEADS_OF_WIDTH.get(width, max(1, width // HEAD_WIDTH))
    tower = built_from(
        lambda: TipsTextTower(vocabulary, width, blocks, heads, len(hidden)),
        state,
        what="the words of TIPS",
        allow_extra=UNUSED,
    )
    return TipsText(tower, _pieces_of(resolve(tokenizer, "tokenizer")), name=str(address), device=compute.device)


def _pieces_of(path: Path) -> Tokenizer:
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise TipsTextError(f"{path} is no file of SentencePiece's ({str(error).splitlines()[0]})") from error
    return lambda texts: [list(processor.encode(text.lower())) for text in texts]
