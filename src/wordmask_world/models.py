"""The world's small models, from the files that the package carries. Nothing is downloaded."""

import json
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from torch import nn

from wordmask.encoders.clip import ClipEncoder, Precision, load_clip_folder
from wordmask.encoders.dino import DinoEncoder, DinoError
from wordmask.errors import WordmaskError
from wordmask.weights.loading import load_into, read_metadata, read_state_dict
from wordmask_world.drawing.names import STUFF
from wordmask_world.weights import WEIGHTS

CLIP, CLIP_RESNET, DINO, RESNET = "clip", "clip-resnet", "dino", "resnet"

TRAINED_BY = {
    CLIP: "train-clip",
    CLIP_RESNET: "train-clip",
    DINO: "train-dino",
    RESNET: "train-dino --network resnet",
}

_FILES = {CLIP: "open_clip_model.safetensors"} | dict.fromkeys((CLIP_RESNET, DINO, RESNET), "model.safetensors")


class WorldModelError(WordmaskError):
    """A model of the world that this installation does not carry."""


def world_clip(device: str | torch.device = "cpu", precision: Precision = "fp32") -> ClipEncoder:
    """The CLIP that learnt from the world's captions: an `open_clip` vision transformer with patches of 8 pixels."""
    folder = _folder(CLIP)
    config = json.loads((folder / "open_clip_config.json").read_text())
    tokenizer = open_clip.SimpleTokenizer(
        bpe_path=str(folder / "merges.txt.gz"), context_length=config["model_cfg"]["text_cfg"]["context_length"]
    )
    encoder = load_clip_folder(folder, tokenizer=tokenizer, device=device, precision=precision)
    encoder.name = "world/clip"
    encoder.grounds = STUFF
    return encoder


def world_dino(device: str | torch.device = "cpu", precision: Precision = "fp32") -> DinoEncoder:
    """The DINO that learnt from the world's pictures alone: a `timm` vision transformer with patches of 8 pixels."""
    return DinoEncoder(_timm_model(DINO, precision, dynamic_img_size=True), name="world/dino", device=device)


def world_resnet(device: str | torch.device = "cpu", output_stride: int = 32) -> nn.Module:
    """The ResNet that learnt in the same way, without a classifier: a backbone for segmenters, in training mode."""
    model: nn.Module = _timm_model(RESNET, "fp32", output_stride=output_stride)
    return model.to(device)


def world_clip_resnet(device: str | torch.device = "cpu", output_stride: int = 32) -> nn.Module:
    """The trunk of the small CLIP's teacher, of the same shape: it learnt from captions what things are called."""
    model: nn.Module = _timm_model(CLIP_RESNET, "fp32", output_stride=output_stride)
    return model.to(device)


def world_weights() -> dict[str, dict[str, str]]:
    """For every model that is there: how it was trained, and its figures on held-out pictures."""
    files = {name: WEIGHTS / name / file for name, file in _FILES.items()}
    return {name: read_metadata(path) for name, path in files.items() if path.exists()}


def _timm_model(name: str, precision: Precision, **options: Any) -> Any:
    folder = _folder(name)
    config = json.loads((folder / "config.json").read_text())
    # `create_model` would take a pretrained_cfg for weights to fetch; only its statistics are wanted
    model = timm.create_model(
        config["architecture"], pretrained=False, num_classes=0, **config["model_args"], **options
    )
    model.pretrained_cfg.update(config["pretrained_cfg"])
    load_into(model, read_state_dict(folder / _FILES[name]), what=f"the world's {name}")
    if precision == "bf16":
        return model.to(torch.bfloat16)
    if precision != "fp32":
        raise DinoError(f"precision {precision!r} is unknown: choose fp32 or bf16")
    return model


def _folder(name: str) -> Path:
    folder = WEIGHTS / name
    if not (folder / _FILES[name]).exists():
        raise WorldModelError(
            f"this installation carries no weights for the world's {name} ({folder}): install wordmask from a wheel, "
            f"or train it with `wordmask world {TRAINED_BY[name]}`"
        )
    return folder
