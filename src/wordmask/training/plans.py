"""Trainings by name: the papers' own, and the world's, which are made for two processor cores.

A plan is a set of changes to a recipe's settings, which are the paper's where a plan says nothing.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from wordmask.methods import nearest
from wordmask.saliency.base import SaliencyError
from wordmask.text_files import shown
from wordmask.training.found import FoundTraining
from wordmask.training.loop import PicturesTraining
from wordmask.training.selfmask import SelfMaskTraining
from wordmask_world import Kind

Recipe = TypeVar("Recipe", bound=PicturesTraining)

WORLD_PICTURES = 6_000
"""Drawn where none are given, in half a minute on two cores."""
VOTED_PICTURES = 3_000
"""As many of these as two cores vote for in six minutes."""
WORLD_KINDS: dict[Kind, float] = {"single": 0.7, "multi": 0.15, "pairs": 0.15}
"""Like DUTS, which both papers learn from: in most pictures one thing stands out."""

PLANS: dict[type[PicturesTraining], dict[str, dict[str, Any]]] = {
    FoundTraining: {
        "paper": {},
        "world": {
            "dino": "world",
            "similarity": 0.7,
            "crop": 256,
            "scale": (1.7, 2.5),
            "blur": 0.0,
            "batch": 16,
            "steps": 120,
            "seed_steps": 120,  # the head's own answers, as targets, made it lose the things that it was unsure of
            "decay": 0.6,
            "decay_every": 20,
            "precision": "bf16",
        },
    },
    SelfMaskTraining: {
        "paper": {},
        "world": {
            "dino": "world",
            "voters": ("world",),
            "voting_zoom": 2,
            "most_pictures": VOTED_PICTURES,
            "crop": 128,
            "scale": (1.0, 1.4),
            "flip": 0.5,
            "batch": 16,
            "epochs": 6,
            "layers": 2,
            "learning_rate": 1e-3,
            "encoder_pace": 0.0,
            "compare": "grid",
            "precision": "bf16",
        },
    },
}


def plan(recipe: type[Recipe], preset: str, *, pictures: Path, out: Path, changes: Mapping[str, Any]) -> Recipe:
    """A recipe's settings for these pictures: a preset's, with single ones changed."""
    presets = PLANS[recipe]
    if preset not in presets:
        raise SaliencyError(f"there is no preset {preset!r} to train by; choose one of {', '.join(presets)}")
    known = [field.name for field in fields(recipe)]
    if unknown := [name for name in changes if name not in known]:
        where = f"{recipe.__module__}.{recipe.__name__}"
        raise SaliencyError(f"the training has no setting {shown(unknown[0])}; {nearest(unknown[0], known, where)}")
    try:
        return TypeAdapter(recipe).validate_python({**presets[preset], **changes, "pictures": pictures, "out": out})
    except ValidationError as error:
        first = error.errors()[0]
        raise SaliencyError(
            f"{first['loc'][0]}={shown(first['input'])} cannot be used: {first['msg'].lower()}"
        ) from error
