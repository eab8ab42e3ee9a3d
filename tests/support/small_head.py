"""Students on frozen features that are quick to make: two small towers, what a head on them learns from and by."""

import json
from dataclasses import replace
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from support.small_archive import NAMES
from support.small_dino import small_dino
from wordmask.distillation.augmentations import Augmentation
from wordmask.distillation.batches import Examples
from wordmask.distillation.crowds import Crowds
from wordmask.distillation.head_student import HeadStudentSettings
from wordmask.segmenters.head import HeadSettings

LABEL_OF = {name: label for label, name in enumerate(NAMES, start=1)}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 48, "layers": 2, "head_width": 12},
    "text_cfg": {"context_length": 77, "width": 32, "heads": 2, "layers": 1},
}
DINO = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}


def towers_in(folder: Path) -> tuple[str, str]:
    """A CLIP with patches of 16 pixels and a DINO with patches of 8, in their libraries' layouts; their addresses."""
    dino, clip = folder / "dino", folder / "clip"
    dino.mkdir(parents=True)
    save_file(small_dino().model.state_dict(), dino / "model.safetensors")
    (dino / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "model_args": DINO}))
    clip.mkdir()
    torch.manual_seed(0)
    model = open_clip.CLIP(**CLIP)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, clip / "open_clip_model.safetensors"
    )
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    return str(clip), str(dino)


def quick(backbones: tuple[str, ...], **changes) -> HeadStudentSettings:
    told = {
        "backbones": backbones,
        "head": HeadSettings(width=16, blocks=1, fine=12, guide=8),
        "augmentation": Augmentation(crop=32, scale=(0.6, 1.0)),
        "views": 2,
        "steps": 6,
        "batch": 4,
        "learning_rate": 3e-3,
        "save_every": 2,
        "log_every": 1,
    }
    return HeadStudentSettings(**{**told, **changes})


def crowds(masks, share, crop=32, **changes):
    augmentation = replace(quick(("any",)).augmentation, crop=crop)
    options = {"most_pasted": 3, "seed": 3, "ignore": 255, **changes}
    return Crowds(Examples(masks, LABEL_OF), augmentation, crowds=share, **options)
