"""dino.txt (Jose et al., "DINOv2 Meets Text", CVPR 2025) as it is published for DINOv3: two blocks on a frozen DINO
that bring its tokens to words, and the words' own transformer.

Both lie in one file, behind a licence that has to be accepted. The patches pair with the second half of a text's
embedding; the first half pairs with CLS, of which segmentation has no use.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from timm.layers import LayerScale
from torch import Tensor, nn

from wordmask.compute import Compute
from wordmask.encoders.clip import TEXT_BATCH, TOKENIZER_PROBE, Tokenizer
from wordmask.encoders.dino import DinoFeatures
from wordmask.encoders.grid import to_maps
from wordmask.encoders.heads import merge_heads, split_heads
from wordmask.errors import WordmaskError
from wordmask.fingerprints import digest_of
from wordmask.names.prompts import GROUNDS
from wordmask.weights.addresses import resolve
from wordmask.weights.building import built_from
from wordmask.weights.loading import fingerprint, read_state_dict

HEAD_WIDTH = 64
"""Of both attentions: 16 heads on DINO ViT-L, 20 in the text tower."""


class DinoTextError(WordmaskError):
    """This is no file of dino.txt, or not one for this DINO."""


class Attention(nn.Module):
    """Self-attention without any code of places."""

    def __init__(self, width: int, heads: int, *, biased: bool, causal: bool):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=biased), nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)"""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        projected: Tensor = self.proj(merge_heads(mixed))
        return projected


class SwiGlu(nn.Module):
    """w3(silu(w1 x) * w2 x)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(width, hidden), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w3(F.silu(self.w1(x)) * self.w2(x))
        return out


class VisionBlock(nn.Module):
    """A block on DINO's tokens; parameter names are the published file's, as everywhere here."""

    def __init__(self, width: int, heads: int, hidden: int, *, biased: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, biased=biased, causal=False)
        self.ls1, self.ls2 = LayerScale(width, init_values=1), LayerScale(width, init_values=1)
        self.mlp = SwiGlu(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class VisionHead(nn.Module):
    """Blocks and a norm on [CLS, registers, patches]."""

    def __init__(self, width: int, blocks: int, heads: int, hidden: int, *, biased: bool):
        super().__init__()
        self.blocks = nn.ModuleList([VisionBlock(width, heads, hidden, biased=biased) for _ in range(blocks)])
        self.ln_final = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.ln_final(x)
        return out

    def patches(self, features: DinoFeatures) -> Tensor:
        """Return what DINO says of pictures as their patches among the words, (B, C, h, w)."""
        patches = features.tokens.flatten(2).transpose(1, 2)
        tokens = torch.cat([features.cls[:, None], features.registers, patches], dim=1)
        read = self(tokens.to(self.ln_final.weight))
        return to_maps(read[:, -patches.shape[1] :], features.grid).float()


class TextBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, *, biased: bool):
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, biased=biased, causal=True)
        self.feed_forward = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.feed_forward["fc2"](F.gelu(self.feed_forward["fc1"](self.ffn_norm(x))))
        return out


class TextBackbone(nn.Module):
    def __init__(
        self, vocabulary: int, context: int, width: int, blocks: int, heads: int, hidden: int, *, biased: bool
    ):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.ModuleList([TextBlock(width, heads, hidden, biased=biased) for _ in range(blocks)])
        self.ln_final = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, D)"""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.ln_final(x)
        return out


class TextTower(nn.Module):
    """The transformer, and the linear layer behind its end token."""

    def __init__(self, backbone: TextBackbone, out: int):
        super().__init__()
        self.backbone = backbone
        width = backbone.token_embedding.embedding_dim
        self.out = out
        self.head = nn.ModuleDict({"linear_projection": nn.Linear(width, out, bias=False)})

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, 2 C), not normalised. The end token has the largest number of all."""
        read = self.backbone(tokens)[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]
        out: Tensor = self.head["linear_projection"](read)
        return out


class DinoText:
    """What `TextEmbedder` needs of the text tower: the half of its embeddings that pairs with patches."""

    grounds = GROUNDS

    def __init__(self, tower: TextTower, tokenizer: Tokenizer, *, name: str, device: str = "cpu"):
        self.model = tower.eval().requires_grad_(False).to(device)
        self.tokenizer, self.name = tokenizer, name
        self.embedding_size = tower.out // 2

    @cached_property
    def text_fingerprint(self) -> str:
        probe = self.tokenizer(list(TOKENIZER_PROBE)).tolist()
        return digest_of(f"{fingerprint(self.model)} {self.model!r} {probe} patches")

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Whole prompts -> L2-normalised embeddings (n, C), float32. Long ones are cut by the tokenizer."""
        device = self.model.backbone.positional_embedding.device
        if not prompts:
            return torch.zeros(0, self.embedding_size, device=device)
        tokens = self.tokenizer(list(prompts))
        length = int(tokens.argmax(dim=-1).max()) + 1  # nothing behind the last end token is looked at
        read = [self.model(part.to(device)) for part in tokens[:, :length].split(TEXT_BATCH)]
        return F.normalize(torch.cat(read)[:, self.embedding_size :].float(), dim=-1)


def dinotxt_at(address: str | Path, width: int, compute: Compute) -> tuple[VisionHead, DinoText]:
    """Return both of a file in the published layout, for a DINO whose tokens have `width` numbers."""
    state = read_state_dict(resolve(address, "weights"), unwrap=("model", "state_dict"))
    what = "dino.txt"
    vision = _under("visual_model.head.", state)
    words = _under("text_model.", state)
    first, gate = vision.get("blocks.0.norm1.weight"), vision.get("blocks.0.mlp.w1.weight")
    table, places = words.get("backbone.token_embedding.weight"), words.get("backbone.positional_embedding")
    hidden, out = words.get("backbone.blocks.0.feed_forward.fc1.weight"), words.get("head.linear_projection.weight")
    if first is None or gate is None or table is None or places is None or hidden is None or out is None:
        raise DinoTextError(
            f"{address} is no file of dino.txt: visual_model.head.blocks.0 and text_model.backbone belong in it"
        )
    if len(first) != width:
        raise DinoTextError(f"{address} is for a DINO of {len(first)} numbers a patch, and this one has {width}")
    head = built_from(
        lambda: VisionHead(
            width,
            _count("blocks.", vision),
            max(1, width // HEAD_WIDTH),
            len(gate),
            biased="blocks.0.attn.qkv.bias" in vision,
        ),
        vision,
        what=f"{what}'s blocks on DINO",
    )
    tower = built_from(
        lambda: TextTower(
            TextBackbone(
                table.shape[0],
                places.shape[0],
                table.shape[1],
                _count("backbone.blocks.", words),
                max(1, table.shape[1] // HEAD_WIDTH),
                len(hidden),
                biased="backbone.blocks.0.attention.qkv.bias" in words,
            ),
            out.shape[0],
        ),
        words,
        what=f"{what}'s words",
    )
    tokenizer: Tokenizer = open_clip.SimpleTokenizer(context_length=places.shape[0])
    moved = head.eval().requires_grad_(False).to(compute.device)
    return moved, DinoText(tower, tokenizer, name=str(address), device=compute.device)


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _count(prefix: str, state: Mapping[str, Tensor]) -> int:
    return len({key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)})
