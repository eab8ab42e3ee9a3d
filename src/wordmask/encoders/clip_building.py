"""CLIPs by their addresses, built and filled."""

import difflib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch

from wordmask.compute import PLAIN, Compute
from wordmask.encoders.clip import ClipEncoder, ClipError, Tokenizer
from wordmask.encoders.precision import Sample, confirmed, settled
from wordmask.encoders.samples import clip_sample
from wordmask.encoders.statistics import OPENAI_MEAN, OPENAI_STD, ImageStatistics
from wordmask.names.contrast import Concepts
from wordmask.text_files import read_text
from wordmask.weights import catalogue
from wordmask.weights.addresses import check_scheme, file_at, find, folder_at, is_brought, resolve
from wordmask.weights.building import built_from, check_numbers
from wordmask.weights.loading import load_into, read_state_dict

CONFIG, WEIGHTS, MERGES = "open_clip_config.json", "open_clip_model.safetensors", "merges.txt.gz"


def clip_at(address: str | Path, weights: str | Path | None, compute: Compute) -> ClipEncoder:
    """Return the CLIP at an address: "ARCHITECTURE/TAG" of `open_clip`, "ARCHITECTURE" with `weights` (a tag, a file, a
    URL or a catalogue name), a folder in `open_clip`'s layout, or what a plug-in brings.
    """
    folder = folder_at(address)
    if is_brought(address) or (folder and (folder / CONFIG).is_file()):
        if weights is not None:
            raise ClipError(f"clip={str(address)!r} brings its own weights; name the architecture that {weights} is of")
        found = find(address, "clip")
        if not (found.path / CONFIG).is_file():
            raise ClipError(f"clip={str(address)!r} is no CLIP: what it stands for holds no {CONFIG}")
        concepts = None if found.concepts is None else Concepts(found.concepts, nearest=True)
        return load_clip_folder(found.path, compute, name=found.name, grounds=found.grounds, concepts=concepts)
    architecture, _, tag = str(address).removeprefix("open_clip:").partition("/")
    if open_clip.get_model_config(architecture) is None:
        if folder:
            raise ClipError(f"clip={str(address)!r} is a folder without {CONFIG}: give one in open_clip's layout")
        if file_at(address):
            raise ClipError(f"clip={str(address)!r} is a file: give clip=ARCHITECTURE, clip_weights=FILE")
        if not architecture:
            raise ClipError(f"clip={str(address)!r} is no folder on this machine, nor ARCHITECTURE/TAG of open_clip")
        check_scheme(address)
    if weights is None and not tag:
        raise ClipError(f"clip={str(address)!r} names no weights: write ARCHITECTURE/TAG, or give clip_weights=FILE")
    return load_clip(architecture, weights or tag, compute)


def load_clip(
    architecture: str,
    weights: str | Path,
    compute: Compute = PLAIN,
    *,
    quick_gelu: bool | None = None,
) -> ClipEncoder:
    """Return a CLIP of an `open_clip` architecture with weights from a tag of `open_clip`'s, a file, or a URL.

    quick_gelu: OpenAI's models use it. By default a tag's own; a file of OpenAI's is known by its keys, others go by
    the architecture's name ("ViT-B-16-quickgelu").
    """
    _check_architecture(architecture)
    source, tag = _published(architecture, weights)
    path = resolve(source)
    state = read_state_dict(path, unwrap=("state_dict",), strip=("module.",))
    if quick_gelu is None:
        quick_gelu = bool(tag.get("quick_gelu", False)) or OPENAI_KEY in state
    what, build = f"CLIP {architecture}", partial(build_clip, architecture, quick_gelu=quick_gelu)

    def sample() -> Sample:
        return clip_sample(what, lambda precision: build(precision=precision, device="meta"))

    def make(chosen: Compute) -> ClipEncoder:
        model = build(precision=chosen.of_parameters)
        load_into(model, state, what=what, allow_extra=UNUSED_KEYS)
        return ClipEncoder(
            model,
            _tokenizer_of(architecture),
            name=f"{architecture}/{weights}",
            statistics=ImageStatistics(tuple(tag["mean"]), tuple(tag["std"])) if tag else ImageStatistics(),
            device=chosen.device,
        )

    chosen = settled(compute, sample)
    return confirmed(make(chosen), ClipEncoder.int8_host, chosen, sample if compute.is_open else None, make)


def _published(architecture: str, weights: str | Path) -> tuple[str | Path, dict[str, Any]]:
    """Return what `weights` means, and what is known of it: a file first, then a tag of open_clip's, then a catalogue
    name.
    """
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
    precision: str = "fp32",
    device: str | torch.device = "cpu",
) -> Any:
    """Return an `open_clip` model with random weights. Nothing is downloaded."""
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
    compute: Compute = PLAIN,
    *,
    name: str | None = None,
    grounds: tuple[str, ...] | None = None,
    concepts: Concepts | None = None,
) -> ClipEncoder:
    """Return a CLIP from a folder in `open_clip`'s own layout.

    That is open_clip_config.json beside open_clip_model.safetensors; merges.txt.gz where its tokenizer has others than
    OpenAI's.

    name: by default the folder's. grounds, concepts: see `ClipEncoder`.
    """
    config_path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(read_text(config_path))
        model_config, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
        context = model_config["text_cfg"].get("context_length", 77)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ClipError(
            f"{config_path}: not a readable open_clip config ({error}); the folder must hold {CONFIG} and {WEIGHTS}"
        ) from error
    what, state = f"CLIP of {folder}", read_state_dict(folder / WEIGHTS)
    check_numbers(model_config, state, what)

    def build(precision: str) -> Any:
        device = torch.get_default_device()  # where `built_from` wants it
        return open_clip.create_model(f"local-dir:{folder}", precision=precision, load_weights=False, device=device)

    chosen = compute

    def sample() -> Sample:
        return clip_sample(f"CLIP {name or folder.name}", build)

    def settle() -> None:
        nonlocal chosen
        chosen = settled(chosen, sample)

    def make(given: Compute) -> ClipEncoder:
        nonlocal chosen
        chosen = given
        with _expecting_random_weights():
            model = built_from(lambda: build(chosen.of_parameters), state, what=what, on_draft=settle)
        return ClipEncoder(
            model,
            _tokenizer_in(folder, context),
            name=name or folder.name,
            statistics=ImageStatistics(
                tuple(preprocess.get("mean", OPENAI_MEAN)),
                tuple(preprocess.get("std", OPENAI_STD)),
            ),
            grounds=grounds,
            concepts=concepts,
            device=chosen.device,
        )

    made = make(compute)
    return confirmed(made, ClipEncoder.int8_host, chosen, sample if compute.is_open else None, make)


def _tokenizer_in(folder: Path, context: int) -> Tokenizer:
    merges = folder / MERGES
    own = {"bpe_path": str(merges)} if merges.is_file() else {}
    tokenizer: Tokenizer = open_clip.SimpleTokenizer(context_length=context, **own)
    return tokenizer


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
    it does step by step it says to whoever wants a training's log.
    """

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
