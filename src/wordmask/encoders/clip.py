"""CLIP, as `open_clip` builds it: global image and text embeddings, and patch features for towers that have them.

Pictures enter as floats in [0, 1]; the encoder knows its own mean and deviation. Nothing here changes the model: a
call's result depends on its arguments alone.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from wordmask.compute import Precision
from wordmask.encoders.clip_dense import DenseFeatures, DenseViT, NotDenseError, Reading, Tokens
from wordmask.encoders.clip_dense_resnet import DenseResNet, dense_reader
from wordmask.encoders.clip_regions import run_in_regions
from wordmask.encoders.grid import CLIP_POSITIONS, PositionRule
from wordmask.encoders.int8_agreement import MARK, Host
from wordmask.encoders.int8_blocks import NoInt8Error, Stack
from wordmask.encoders.statistics import ImageStatistics
from wordmask.errors import WordmaskError
from wordmask.fingerprints import digest_of
from wordmask.names.contrast import Concepts, shipped
from wordmask.names.prompts import GROUNDS
from wordmask.weights.loading import fingerprint

Tokenizer = Callable[[list[str]], Tensor]

TEXT_BATCH = 256
TOKENIZER_PROBE = ("a photo of a dog.", "Été 7")
"""Tokenizers that read these alike are taken for one."""


class ClipError(WordmaskError):
    """This CLIP cannot be built or cannot do what was asked."""


class ClipEncoder:
    """A frozen CLIP. `encoder.dense(images)` and `encoder.encode_text(prompts)` meet in one space."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        name: str,
        statistics: ImageStatistics | None = None,
        grounds: tuple[str, ...] | None = None,
        concepts: Concepts | None = None,
        device: str | torch.device = "cpu",
    ):
        """grounds: words for what lies behind things, where a name's rivals are needed. concepts: what few names are
        held against, words that it has read; by default those of the benchmarks' names.
        """
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.name = name
        self.grounds: tuple[str, ...] = GROUNDS if grounds is None else grounds
        self._concepts = concepts
        self.statistics = statistics or ImageStatistics()
        self.dtype: torch.dtype = next(p.dtype for p in model.visual.parameters() if p.ndim == 4)
        self._reader = dense_reader(model.visual, name)

    @property
    def concepts(self) -> Concepts:
        return shipped() if self._concepts is None else self._concepts

    @property
    def device(self) -> torch.device:
        return next(iter(self.model.parameters())).device

    @property
    def precision(self) -> Precision:
        if isinstance(self._reader, DenseViT) and self._reader.stack is not None:
            return "int8"
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the pictures that the model was trained on."""
        size = self.model.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def patch_size(self) -> int:
        """Pixels along one side of a patch (the total stride of a ResNet)."""
        return self._dense_reader().patch

    @cached_property
    def text_fingerprint(self) -> str:
        """Changes whenever anything that shapes a text embedding does, weights or architecture: a cache key."""
        model = self.model
        tower = model.text if hasattr(model, "text") else model.transformer
        heads = [m.num_heads for m in tower.modules() if isinstance(m, nn.MultiheadAttention)]
        pool = getattr(model, "text_pool_type", getattr(tower, "pool_type", None))
        shape = f"{tower!r} {heads} {pool} {self.tokenizer(list(TOKENIZER_PROBE)).tolist()}"
        weights = {k: v for k, v in model.state_dict().items() if not k.startswith("visual.")}
        return digest_of(f"{fingerprint(weights)} {shape}")

    @property
    def image_fingerprint(self) -> str:
        """Changes whenever anything that shapes an image embedding does: a cache key."""
        return digest_of(f"{self._tower_mark} {MARK}") if self.precision == "int8" else digest_of(self._tower_mark)

    @cached_property
    def _tower_mark(self) -> str:
        """All of that but what the blocks compute in."""
        tower = self.model.visual
        heads = [m.num_heads for m in tower.modules() if hasattr(m, "num_heads")]
        return f"{fingerprint(tower)} {tower!r} {heads} {self.image_size} {self.statistics}"

    def int8_host(self) -> Host:
        """Return where its blocks can be put in int8."""
        vit = self._reader
        if not isinstance(vit, DenseViT):
            raise NoInt8Error(f"{self.name} cannot be computed in int8: its image tower is no plain vision transformer")

        def place(stack: Stack | None) -> None:
            vit.stack = stack

        return Host(
            f"CLIP {self.name}",
            vit.blocks[:-1],
            self._tower_mark,
            lambda pictures: [self.dense(pictures).values.flatten(2).transpose(1, 2)],
            place,
        )

    @torch.inference_mode()
    def encode_image(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] -> L2-normalised global embeddings (B, D), float32.

        Plain ViTs and ResNets take any size; other towers only the one they were trained at.
        """
        images = self._prepare(images)
        if isinstance(self._reader, NotDenseError):
            if tuple(images.shape[-2:]) != self.image_size:
                height, width = self.image_size
                raise ClipError(
                    f"{self.name} takes pictures of {height}x{width} only, not "
                    f"{images.shape[-2]}x{images.shape[-1]}: resize them first"
                )
            features = self.model.encode_image(images)
        else:
            features = self._reader.pooled(images)
        return F.normalize(features.float(), dim=-1)

    @torch.inference_mode()
    def dense(
        self,
        images: Tensor,
        *,
        reading: Reading | None = None,
        keys: bool = False,
        ln_2: Collection[int] = (),
        positions: PositionRule = CLIP_POSITIONS,
    ) -> DenseFeatures:
        """Pictures (B, 3, H, W) in [0, 1], any size -> what the last block says of every patch, float32.

        reading: how the last block is read; by default as CLIP-DINOiser does, and a ResNet as MaskCLIP does. positions:
        how learnt positions come to another grid.
        """
        reader = self._dense_reader()
        read = reader(self._prepare(images), reading=reading, keys=keys, ln_2=ln_2, positions=positions)
        return DenseFeatures(
            values=read.values.float(),
            patch=read.patch,
            keys=None if read.keys is None else read.keys.float(),
            ln_2={index: features.float() for index, features in read.ln_2.items()},
        )

    @torch.inference_mode()
    def run(self, images: Tensor, *, keep: Collection[int] = (), positions: PositionRule = CLIP_POSITIONS) -> Tokens:
        """Run all blocks but the last on pictures (B, 3, H, W) in [0, 1], whose sides are multiples of the patch; what
        comes of it is read with the parts of `vit`. See `DenseViT.run`.
        """
        return self.vit.run(self._prepare(images), keep=keep, positions=positions)

    @torch.inference_mode()
    def run_in_regions(
        self, image: Tensor, members: Tensor, *, keep: Collection[int] = (), positions: PositionRule = CLIP_POSITIONS
    ) -> tuple[Tokens, Tensor]:
        """Run one picture (1, 3, H, W) in [0, 1] as `run` does, and beside it a copy of CLS for each of some regions of
        its patches. See `encoders.clip_regions`.
        """
        return run_in_regions(self.vit, self._prepare(image), members, keep=keep, positions=positions)

    @property
    def vit(self) -> DenseViT:
        """The image tower, block by block; an error where it is no plain transformer."""
        reader = self._dense_reader()
        if isinstance(reader, DenseResNet):
            raise NotDenseError(
                f"{self.name} is a ResNet, which has no transformer blocks to read; choose a ViT such as ViT-B-16"
            )
        return reader

    @torch.inference_mode()
    def encode_text(
        self, prompts: Sequence[str], batch_size: int = TEXT_BATCH, *, unit: bool = True, cut: bool = False
    ) -> Tensor:
        """Whole prompts -> embeddings (n, D), float32, in the order given.

        unit: L2-normalised; else as the tower projects them. cut: read no more of a long text than the tower can.
        """
        if not prompts:
            return torch.zeros(0, self.embedding_size)
        tokens = self.tokenizer(list(prompts))
        if not self._text_is_causal:
            batches = [self.model.encode_text(batch.to(self.device)) for batch in tokens.split(batch_size)]
            read = torch.cat(batches).float()
            return F.normalize(read, dim=-1) if unit else read
        # A causal tower never looks past the end token, so prompts need only as many positions as they have words:
        # sorted by length, a batch of short ones costs a small part of the full context, and nothing changes.
        ends = tokens.argmax(dim=-1)
        if not cut and int(ends.max()) == tokens.shape[1] - 1:
            raise ClipError(
                f"a prompt is longer than the {tokens.shape[1]} tokens that {self.name} reads: "
                f"{prompts[int(ends.argmax())][:60]!r}...; shorten the name"
            )
        order = ends.argsort(stable=True)
        embeddings = torch.empty(len(tokens), self.embedding_size)
        for rows in order.split(batch_size):
            length = int(ends[rows].max()) + 1
            read = self._read_text(tokens[rows, :length].to(self.device))
            embeddings[rows] = (F.normalize(read.float(), dim=-1) if unit else read.float()).cpu()
        return embeddings.to(self.device)

    @property
    def embedding_size(self) -> int:
        if hasattr(self.model, "text"):
            return int(self.model.text.output_dim)
        projection = self.model.text_projection
        return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])

    @cached_property
    def _text_is_causal(self) -> bool:
        model = self.model
        return (
            isinstance(model, open_clip.CLIP)
            and model.text_pool_type == "argmax"
            and model.attn_mask is not None
            and all(type(block) is ResidualAttentionBlock for block in model.transformer.resblocks)
        )

    def _read_text(self, tokens: Tensor) -> Tensor:
        """Tokens (n, L), L up to the context length -> text embeddings (n, D), not normalised."""
        model, length = self.model, tokens.shape[1]
        cast = model.transformer.get_cast_dtype()
        x = model.token_embedding(tokens).to(cast) + model.positional_embedding[:length].to(cast)
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        x = x[torch.arange(len(tokens), device=x.device), tokens.argmax(dim=-1)]
        projection = model.text_projection
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def _dense_reader(self) -> DenseViT | DenseResNet:
        if isinstance(self._reader, NotDenseError):
            raise self._reader
        return self._reader

    def _prepare(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"pictures must be (B, 3, H, W), not {tuple(images.shape)}")
        return self.statistics.normalise(images.to(self.device, torch.float32)).to(self.dtype)
