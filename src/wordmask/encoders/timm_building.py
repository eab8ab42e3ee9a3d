"""DINOs by their addresses, built and filled; and any network of `timm` from a folder in its own layout, config.json
beside model.safetensors.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import eva, vision_transformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from wordmask.compute import PLAIN, Compute
from wordmask.encoders.dino import DinoEncoder, DinoError
from wordmask.encoders.precision import Sample, confirmed, settled
from wordmask.encoders.samples import transformer_sample
from wordmask.errors import WordmaskError
from wordmask.text_files import read_text
from wordmask.weights.addresses import check_scheme, file_at, find, folder_at, is_brought, resolve
from wordmask.weights.building import built_from, check_numbers
from wordmask.weights.loading import load_into, read_state_dict

USUAL_WEIGHTS = {"vit_small_patch8_224.dino": "dino-vit-s-8"}
"""FOUND's head and SelfMask were trained on the authors' 300-epoch run; `timm` carries another one under this name."""


def dino_at(address: str | Path, weights: str | Path | None, compute: Compute) -> DinoEncoder:
    """Return the DINO at an address: a name of `timm`'s, a folder in `timm`'s layout, or what a plug-in brings.

    weights: for a name, in place of its usual ones; a catalogue name, a file or a URL.
    """
    folder = folder_at(address)
    if is_brought(address) or (folder and is_timm_folder(folder)):
        if weights is not None:
            raise DinoError(f"dino={str(address)!r} brings its own weights; name the architecture that {weights} is of")
        found = find(address, "dino")
        if not is_timm_folder(found.path):
            raise DinoError(f"dino={str(address)!r} is no DINO: what it stands for is no folder in timm's layout")
        return load_dino_folder(found.path, compute, name=found.name)
    architecture = str(address).removeprefix("timm:")
    if not timm.is_model(architecture):
        if file_at(address):
            raise DinoError(f"dino={str(address)!r} is a file: give dino=ARCHITECTURE, dino_weights=FILE")
        check_scheme(address)
    return load_dino(architecture, weights or USUAL_WEIGHTS.get(architecture), compute)


def build_dino(architecture: str, *, precision: str = "fp32", **timm_options: Any) -> Any:
    """Return a `timm` vision transformer with random weights. Nothing is downloaded."""
    if not timm.is_model(architecture):
        raise DinoError(
            f"no network of timm's is called {architecture!r}; a few that serve here: vit_small_patch8_224.dino, "
            "vit_base_patch16_224.dino, vit_small_patch14_dinov2.lvd142m, vit_small_patch16_dinov3.lvd1689m"
        )
    model = timm.create_model(architecture, pretrained=False, num_classes=0, dynamic_img_size=True, **timm_options)
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    elif precision != "fp32":
        raise DinoError(f"precision {precision!r} is unknown: choose fp32 or bf16")
    return model


def load_dino(architecture: str, weights: str | Path | None = None, compute: Compute = PLAIN) -> DinoEncoder:
    """Return a DINO by its `timm` name ("vit_small_patch8_224.dino").

    weights: a file or a URL in `timm`'s layout or in the authors' (DINO's backbone and full checkpoints, DINOv2,
    DINOv3); by default `timm`'s own.
    """
    model = build_dino(architecture)
    path = resolve(f"timm:{architecture}" if weights is None else weights, "dino_weights")
    state = read_state_dict(path, unwrap=("teacher", "state_dict", "model"), strip=("module.", "backbone."))
    state = {key: value for key, value in state.items() if not key.startswith("head.")}
    convert = eva.checkpoint_filter_fn if isinstance(model, Eva) else vision_transformer.checkpoint_filter_fn
    load_into(model, convert(state, model), what=f"DINO {architecture}")
    return _encoder(model, architecture, compute)


def load_dino_folder(folder: Path, compute: Compute = PLAIN, *, name: str | None = None) -> DinoEncoder:
    """Return a DINO from a folder in `timm`'s own layout: config.json beside model.safetensors."""
    model = load_timm_folder(folder, what=f"DINO of {folder}", dynamic_img_size=True)
    return _encoder(model, name or folder.name, compute)


def _encoder(model: Any, name: str, compute: Compute) -> DinoEncoder:
    def sample() -> Sample:
        return transformer_sample(f"DINO {name}", model)

    def make(chosen: Compute) -> DinoEncoder:
        return DinoEncoder(model.to(chosen.dtype), name=name, device=chosen.device)

    if not isinstance(model, VisionTransformer | Eva):
        return make(compute)  # which refuses it
    chosen = settled(compute, sample)
    return confirmed(make(chosen), DinoEncoder.int8_host, chosen, sample if compute.is_open else None, make)


CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLASSIFIERS = ("head.*", "fc.*")
"""Of files, which networks that are read for their features have no use for."""
RESERVED = frozenset(
    {"cache_dir", "checkpoint_path", "features_only", "output_stride"}
    | {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}
)
"""What `timm.create_model` takes beside the options of a network; a file may come from anywhere."""


class TimmFolderError(WordmaskError):
    """This folder holds no network that can be read."""


def load_timm_folder(folder: Path, *, what: str | None = None, **options: Any) -> Any:
    """Return the folder's network without its classifier, on the CPU, in single precision.

    options: of `timm.create_model`, beside those that the folder says. what: what messages call the network.
    """
    architecture, arguments, statistics = _read_config(folder)
    what, state = what or f"network of {folder}", read_state_dict(folder / WEIGHTS)
    check_numbers(arguments, state, what)

    def build() -> nn.Module:
        # `create_model` would take a pretrained_cfg for weights to fetch; only its statistics are wanted
        network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments, **options)
        return network

    network: Any = built_from(build, state, what=what, allow_extra=CLASSIFIERS)
    network.pretrained_cfg.update(statistics)
    return network


def _read_config(folder: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(read_text(path))
        architecture, arguments = str(config["architecture"]), dict(config.get("model_args") or {})
        statistics = dict(config.get("pretrained_cfg") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TimmFolderError(
            f"{path}: no readable config of timm's ({error}); the folder must hold {CONFIG} and {WEIGHTS}"
        ) from error
    if not timm.is_model(architecture):
        raise TimmFolderError(f"{path}: no network of timm's is called {architecture!r}")
    if reserved := sorted({*RESERVED, "num_classes"} & arguments.keys()):
        raise TimmFolderError(f"{path}: model_args may not hold {', '.join(reserved)}")
    return architecture, arguments, {key: statistics[key] for key in statistics.keys() & STATISTICS}


STATISTICS = frozenset({"mean", "std", "input_size", "interpolation", "crop_pct"})
"""What is wanted of a pretrained_cfg."""


def is_timm_folder(folder: Path, files: Iterable[str] = (CONFIG, WEIGHTS)) -> bool:
    """Return whether a network lies there."""
    return all((folder / file).is_file() for file in files)
