"""The world's small models, from the files that the package carries. Nothing is downloaded."""

from pathlib import Path
from typing import Any

from torch import nn

from wordmask.compute import PLAIN, Compute
from wordmask.encoders.clip import ClipEncoder
from wordmask.encoders.clip_building import clip_at
from wordmask.encoders.dino import DinoEncoder
from wordmask.encoders.timm_building import dino_at, load_timm_folder
from wordmask.fingerprints import digest_of_files
from wordmask.text_files import shown
from wordmask.weights.addresses import Found, UnknownNameError, files_of
from wordmask.weights.checkpoints import WeightsError
from wordmask.weights.loading import read_metadata
from wordmask_world.drawing.names import NAMES, STUFF, THINGS
from wordmask_world.weights import WEIGHTS

CLIP, CLIP_RESNET, DINO, RESNET = "clip", "clip-resnet", "dino", "resnet"
FOUND, SELFMASK, HEADS, STUDENT = "found", "selfmask", "clip-dinoiser", "namedmask"
MAPPER, KINDS = "talk2dino", "kinds"

TRAINED_BY = {
    CLIP: "world train-clip",
    CLIP_RESNET: "world train-clip",
    DINO: "world train-dino",
    RESNET: "world train-dino --network resnet",
    FOUND: "train-found --preset world",
    SELFMASK: "train-selfmask --preset world",
    HEADS: "train-dinoiser --preset world",
    STUDENT: "distill --preset world",
    KINDS: "world train-kinds",
    MAPPER: "train-talk2dino --preset world",
}
ROLES = {"backbone": RESNET, "head": FOUND, "heads": HEADS, "mapper": MAPPER, "network": SELFMASK, "student": STUDENT}
"""What is asked for, where it is not called as the model is."""

_FILES = {CLIP: "open_clip_model.safetensors"} | dict.fromkeys((CLIP_RESNET, DINO, RESNET), "model.safetensors")


class WorldModelError(WeightsError):
    """A model of the world that there is not, or that this installation does not carry."""


class UnknownModelError(WorldModelError, UnknownNameError):
    """A model of the world that there is not."""


def find(name: str) -> Found:
    """Return what `world:NAME` stands for."""
    name = ROLES.get(name, name)
    if name not in TRAINED_BY:
        raise UnknownModelError(f"the world has no model {shown(name)}; choose one of {', '.join(TRAINED_BY)}")
    place = WEIGHTS / name if name in _FILES else WEIGHTS / f"{name}.safetensors"
    if not (place / _FILES[name] if name in _FILES else place).exists():
        raise WorldModelError(
            f"this installation carries no weights for the world's {name} ({place}): install wordmask from a wheel, "
            f"or train it with `wordmask {TRAINED_BY[name]}`"
        )
    grounds = STUFF if name == CLIP else None
    concepts = _others() if name == CLIP else None
    known_by = () if name in (RESNET, CLIP_RESNET, KINDS) else _taking_part()
    return Found(place, f"world/{name}", grounds, known_by, concepts)


def _others() -> dict[str, tuple[str, ...]]:
    """Return what a name of the world is held against: all other things. In its captions things stand together by
    chance, so that statistics tell none from another.
    """
    return {name: tuple(other for other in THINGS if other != name) for name in NAMES}


def _taking_part() -> tuple[Path, ...]:
    """All that may take part in a distillation, in the order in which runs have always been known by it. A backbone
    that a training starts from is known by itself.
    """
    saliency = [path for path in (WEIGHTS / f"{name}.safetensors" for name in (FOUND, SELFMASK)) if path.is_file()]
    encoders = [path for path in files_of(WEIGHTS) if path.parent.parent == WEIGHTS]
    return (*saliency, *encoders)


def fingerprint() -> str:
    """Return a hash of all files that the package carries: weights, configs, the tokenizer."""
    return digest_of_files(path for path in files_of(WEIGHTS) if path.is_file() and path.suffix != ".py")


def world_clip(compute: Compute = PLAIN) -> ClipEncoder:
    """Return the CLIP that learnt from the world's captions: an `open_clip` ViT with patches of 8 pixels."""
    return clip_at("world:clip", None, compute)


def world_dino(compute: Compute = PLAIN) -> DinoEncoder:
    """Return the DINO that learnt from the world's pictures alone: a `timm` ViT with patches of 8 pixels."""
    return dino_at("world:dino", None, compute)


def world_resnet(device: Any = "cpu", output_stride: int = 32) -> nn.Module:
    """Return the ResNet that learnt in the same way, without a classifier, in training mode: a segmenter's backbone."""
    model: nn.Module = load_timm_folder(find(RESNET).path, what="the world's resnet", output_stride=output_stride)
    return model.to(device)


def world_weights() -> dict[str, dict[str, str]]:
    """Return, for every encoder that is there, how it was trained, and its figures on held-out pictures."""
    files = {name: WEIGHTS / name / file for name, file in _FILES.items()}
    return {name: read_metadata(path) for name, path in files.items() if path.exists()}
