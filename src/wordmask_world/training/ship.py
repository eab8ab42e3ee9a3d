"""From a run's checkpoint to the files that the package carries: half precision, in the libraries' own layouts."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wordmask.encoders.statistics import ImageStatistics
from wordmask.files import atomic_write
from wordmask.training.checkpoints import CHECKPOINT, read_checkpoint
from wordmask.training.logs import last_figures
from wordmask.weights.loading import write_state_dict
from wordmask_world.training.clip import ClipSettings, ClipStudent
from wordmask_world.training.clip_teacher import MERGES_FILE, STATISTICS, ClipTeacher, ClipTeacherSettings
from wordmask_world.training.dino import DinoSettings, SelfDistillation
from wordmask_world.training.dino_network import IMAGENET, PATCH
from wordmask_world.training.resnet import Four


def ship_clip(student: ClipStudent, settings: ClipSettings, folder: Path, *, command: str) -> None:
    """`open_clip`'s folder layout, and the tokenizer's merges beside it."""
    config = {
        "model_cfg": settings.architecture.config(student.teacher.words.tokenizer.vocab_size),
        "preprocess_cfg": {"mean": STATISTICS.mean, "std": STATISTICS.std},
    }
    _write_json(folder / "open_clip_config.json", config)
    shutil.copyfile(settings.out / MERGES_FILE, folder / MERGES_FILE)
    write_state_dict(folder / "open_clip_model.safetensors", _halved(student.clip), _origin(settings.out, command))


def ship_clip_teacher(teacher: ClipTeacher, settings: ClipTeacherSettings, folder: Path, *, command: str) -> None:
    """The teacher's trunk: a backbone for segmenters that knows what captions tell."""
    config = _resnet_config(settings.channels, settings.depths) | _seen(STATISTICS, settings.architecture.image_size)
    _ship_backbone(teacher.trunk, config, folder, _origin(settings.out, command))


def ship_dino(model: SelfDistillation, settings: DinoSettings, folder: Path, *, command: str) -> None:
    """`timm`'s folder layout: config.json names an architecture of `timm`'s and how it differs."""
    if settings.network == "resnet":
        config = _resnet_config(settings.channels, settings.depths)
    else:
        changes = {
            "img_size": settings.image_size,
            "patch_size": PATCH,
            "embed_dim": settings.width,
            "depth": settings.blocks,
            "num_heads": settings.heads,
        }
        config = {"architecture": "vit_tiny_patch16_224", "model_args": changes}
    seen = _seen(IMAGENET, settings.image_size)
    _ship_backbone(model.teacher["backbone"], config | seen, folder, _origin(settings.out, command))


def _resnet_config(channels: Four, depths: Four) -> dict[str, Any]:
    changes = {"channels": channels, "layers": depths, "stem_width": channels[0] // 2}
    return {"architecture": "resnet10t", "model_args": changes}


def _seen(statistics: ImageStatistics, size: int) -> dict[str, Any]:
    """What pictures the network is used to."""
    told = {"mean": statistics.mean, "std": statistics.std, "input_size": [3, size, size]}
    return {"num_classes": 0, "pretrained_cfg": told}


def _ship_backbone(backbone: nn.Module, config: dict[str, Any], folder: Path, origin: dict[str, str]) -> None:
    _write_json(folder / "config.json", config)
    write_state_dict(folder / "model.safetensors", _halved(backbone), origin)


def _halved(model: nn.Module) -> Mapping[str, Tensor]:
    state = model.state_dict()
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def _origin(run: Path, command: str) -> dict[str, str]:
    """How the weights came about and how good they are."""
    checkpoint = read_checkpoint(run / CHECKPOINT)
    return {
        "command": command,
        "settings": checkpoint["run"],
        "precision": checkpoint["precision"],
        "steps": str(checkpoint["step"]),
        "world_version": str(json.loads(checkpoint["pictures"])["version"]),
        "figures": json.dumps(last_figures(run)),
        "torch": torch.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    """Of the source that runs, where it is a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
