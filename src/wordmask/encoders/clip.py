"""CLIP, as `open_clip` builds it: global image and text embeddings, and patch features for towers that have them.

Pictures enter as floats in [0, 1]; the encoder knows its own mean and deviation. Nothing here changes the model: a
call's result depends on its arguments alone.
"""

import difflib
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from wordmask.encoders.clip_dense import DenseFeatures, DenseResNet, DenseViT, NotDenseError, dense_reader
from wordmask.errors import WordmaskError
from wordmask.names.prompts import GROUNDS
from wordmask.text_files import read_text
from wordmask.weights import catalogue
from wordmask.weights import loading as weight_files
from wordmask.weights.building import built_from, check_numbers

Precision = Literal["fp32", "bf16"]
Tokenizer = Callable[[list[str]], Tensor]

TEXT_BATCH = 256
TOKENIZER_PROBE = ("a photo of a dog.", "Été 7")
"""Tokenizers that read these alike are taken for one."""


class ClipError(WordmaskError):
    """This CLIP cannot be built or cannot do what was asked."""


@dataclass(frozen=True)
class ImageStatistics:
    """Mean and deviation of the pictures that a model was trained on, per channel, for values in [0, 1]."""

    mean: tuple[float, float, float] = open_clip.OPENAI_DATASET_MEAN
    std: tuple[float, float, float] = open_clip.OPENAI_DATASET_STD

    def normalise(self, images: Tensor) -> Tensor:
        mean = images.new_tensor(self.mean)[:, None, None]
        std = images.new_tensor(self.std)[:, None, None]
        return (images - mean) / std


class ClipEncoder:
    """A frozen CLIP. `encoder.dense(images)` and `encoder.encode_text(prompts)` meet in one space."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        name: str,
        statistics: ImageStatistics | None = None,
        device: str | torch.device = "cpu",
    ):
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.name = name
        self.grounds: tuple[str, ...] = GROUNDS
        """Words for what lies behind things, where a name's rivals are needed."""
        self.statistics = statistics or ImageStatistics()
        self.device = torch.device(device)
        self.dtype: torch.dtype = next(p.dtype for p in model.visual.parameters() if p.ndim == 4)
        self._reader = dense_reader(model.visual, name)

    @property
    def precision(self) -> Precision:
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
        return hashlib.sha256(f"{weight_files.fingerprint(weights)} {shape}".encode()).hexdigest()

    @cached_property
    def image_fingerprint(self) -> str:
        """Changes whenever anything that shapes an image embedding does: a cache key."""
        tower = self.model.visual
        heads = [m.num_heads for m in tower.modules() if hasattr(m, "num_heads")]
        shape = f"{tower!r} {heads} {self.image_size} {self.statistics}"
        return hashlib.sha256(f"{weight_files.fingerprint(tower)} {shape}".encode()).hexdigest()

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
        self, images: Tensor, *, residual: bool | None = None, keys: bool = False, ln_2: Collection[int] = ()
    ) -> DenseFeatures:
        """Pictures (B, 3, H, W) in [0, 1], any size -> what the last attention says of every patch, float32.

        residual: see `DenseViT`; by default True for a ViT, and False for a ResNet, which has none.
        """
        reader = self._dense_reader()
        if residual is None:
            residual = isinstance(reader, DenseViT)
        read = reader(self._prepare(images), residual=residual, keys=keys, ln_2=ln_2)
        return DenseFeatures(
            values=read.values.float(),
            patch=read.patch,
            keys=None if read.keys is None else read.keys.float(),
            ln_2={index: features.float() for index, features in read.ln_2.items()},
        )

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str], batch_size: int = TEXT_BATCH) -> Tensor:
        """Whole prompts -> L2-normalised embeddings (n, D), float32, in the order given."""
        if not prompts:
            return torch.zeros(0, self.embedding_size)
        tokens = self.tokenizer(list(prompts))
        if not self._text_is_causal:
            batches = [self.model.encode_text(batch.to(self.device)) for batch in tokens.split(batch_size)]
            return F.normalize(torch.cat(batches).float(), dim=-1)
        # A causal tower never looks past the end token, so prompts need only as many positions as they have words:
        # sorted by length, a batch of short ones costs a small part of the full context, and nothing changes.
        ends = tokens.argmax(dim=-1)
        if int(ends.max()) == tokens.shape[1] - 1:
            raise ClipError(
                f"a prompt is longer than the {tokens.shape[1]} tokens that {self.name} reads: "
                f"{prompts[int(ends.argmax())][:60]!r}...; shorten the name"
            )
        order = ends.argsort(stable=True)
        embeddings = torch.empty(len(tokens), self.embedding_size)
        for rows in order.split(batch_size):
            length = int(ends[rows].max()) + 1
            read = self._read_text(tokens[rows, :length].to(self.device))
            embeddings[rows] = F.normalize(read.float(), dim=-1).cpu()
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


def load_clip(
    architecture: str,
    weights: str | Path,
    *,
    quick_gelu: bool | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> ClipEncoder:
    """A CLIP of an `open_clip` architecture with weights from a tag of `open_clip`'s, a file, or a URL.

    quick_gelu: OpenAI's models use it. By default a tag's own; a file of OpenAI's is known by its keys, others go by
    the architecture's name ("ViT-B-16-quickgelu").
    """
    _check_architecture(architecture)
    source, tag = _published(architecture, weights)
    path = weight_files.resolve(source)
    state = weight_files.read_state_dict(path, unwrap=("state_dict",), strip=("module.",))
    if quick_gelu is None:
        quick_gelu = bool(tag.get("quick_gelu", False)) or OPENAI_KEY in state
    model = build_clip(architecture, quick_gelu=quick_gelu, precision=precision)
    weight_files.load_into(model, state, what=f"CLIP {architecture}", allow_extra=UNUSED_KEYS)
    return ClipEncoder(
        model,
        _tokenizer_of(architecture),
        name=f"{architecture}/{weights}",
        statistics=ImageStatistics(tuple(tag["mean"]), tuple(tag["std"])) if tag else ImageStatistics(),
        device=device,
    )


def _published(architecture: str, weights: str | Path) -> tuple[str | Path, dict[str, Any]]:
    """What `weights` means, and what is known of it: a file first, then a tag of open_clip's, then a catalogue name."""
    if Path(weights).is_file() or catalogue.is_url(str(weights)):
        return weights, {}
    tag = open_clip.get_pretrained_cfg(architecture, str(weights))
    if tag:
        return f"open_clip:{architecture}/{weights}", tag
    try:
        entry = catalogue.find(str(weights))
    except catalogue.CatalogueError as error:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        near = difflib.get_close_matches(str(weights), tags, n=3, cutoff=0.3) or tags[:3]
        raise ClipError(
            f"{str(weights)!r} is no file on this machine, no URL, no name in the catalogue (`wordmask models`) and no "
            f"tag of {architecture}; tags like it: {', '.join(near) or 'none'}"
        ) from error
    made_for, _, tag_name = entry.source.removeprefix("open_clip:").partition("/")
    if not tag_name or made_for != architecture.removesuffix("-quickgelu"):
        raise ClipError(f"{entry.name} is not made for {architecture}: its source is {entry.source}")
    return entry.name, open_clip.get_pretrained_cfg(made_for, tag_name)


OPENAI_KEY = "input_resolution"
"""Only files of OpenAI's own hold it, and all of OpenAI's models use the quick GELU."""
UNUSED_KEYS = ("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids")
"""Numbers that OpenAI keeps among the weights, and a counter of old text towers: not parameters."""


def build_clip(
    architecture: str,
    *,
    quick_gelu: bool = False,
    precision: Precision = "fp32",
    device: str | torch.device = "cpu",
) -> Any:
    """An `open_clip` model with random weights. Nothing is downloaded."""
    _check_architecture(architecture)
    _check_precision(precision)
    with _expecting_random_weights():
        return open_clip.create_model(
            architecture,
            precision=precision,
            force_quick_gelu=quick_gelu,
            pretrained_text=False,
            load_weights=False,
            device=device,
        )


def load_clip_folder(
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> ClipEncoder:
    """A CLIP from a folder in `open_clip`'s own layout: open_clip_config.json beside open_clip_model.safetensors."""
    config_path = folder / "open_clip_config.json"
    try:
        config: dict[str, Any] = json.loads(read_text(config_path))
        model_config, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
        context = model_config["text_cfg"].get("context_length", 77)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ClipError(
            f"{config_path}: not a readable open_clip config ({error}); the folder must hold open_clip_config.json "
            "and open_clip_model.safetensors"
        ) from error
    _check_precision(precision)
    what, state = f"CLIP of {folder}", weight_files.read_state_dict(folder / "open_clip_model.safetensors")
    check_numbers(model_config, state, what)

    def build() -> Any:
        device = torch.get_default_device()  # where `built_from` wants it
        return open_clip.create_model(f"local-dir:{folder}", precision=precision, load_weights=False, device=device)

    with _expecting_random_weights():
        model = built_from(build, state, what=what)
    return ClipEncoder(
        model,
        tokenizer or open_clip.SimpleTokenizer(context_length=context),
        name=folder.name,
        statistics=ImageStatistics(
            tuple(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)),
            tuple(preprocess.get("std", open_clip.OPENAI_DATASET_STD)),
        ),
        device=device,
    )


def _tokenizer_of(architecture: str) -> Tokenizer:
    """Plain CLIPs bring theirs with `open_clip`; others fetch a tokenizer from the hub, through transformers."""
    try:
        return open_clip.get_tokenizer(architecture)
    except (ImportError, OSError, ValueError) as error:
        raise ClipError(
            f"the tokenizer of {architecture} is not on this machine and could not be fetched "
            f"({str(error).splitlines()[0]}); plain CLIPs such as ViT-B-16 need no download for it"
        ) from error


def _check_architecture(architecture: str) -> None:
    if open_clip.get_model_config(architecture) is None:
        raise ClipError(
            f"no CLIP architecture is called {architecture!r}; a few that are: ViT-B-16, ViT-B-32, ViT-L-14, "
            "ViT-L-14-336, RN50 (open_clip.list_models() has them all)"
        )


@contextmanager
def _expecting_random_weights() -> Iterator[None]:
    """open_clip warns when a model starts with random weights; here that is on purpose, as they are loaded next. What
    it does step by step it says to whoever wants a training's log."""

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING and "nitialized randomly" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _check_precision(precision: str) -> None:
    if precision not in ("fp32", "bf16"):
        raise ClipError(f"precision {precision!r} is unknown: choose fp32 or bf16")
