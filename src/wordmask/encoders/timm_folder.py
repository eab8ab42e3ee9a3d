"""Networks of `timm` from a folder in its own layout: config.json beside model.safetensors."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
from torch import nn

from wordmask.errors import WordmaskError
from wordmask.text_files import read_text
from wordmask.weights.building import built_from, check_numbers
from wordmask.weights.loading import read_state_dict

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
