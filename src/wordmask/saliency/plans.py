"""Trainings by name: the papers' own, and the world's, which are made for two processor cores.

A plan is a set of changes to a recipe's settings, which are the paper's where a plan says nothing.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from wordmask.saliency.base import SaliencyError
from wordmask.saliency.found import WORLD
from wordmask.saliency.found_training import FoundTraining
from wordmask.saliency.selfmask_training import SelfMaskTraining
from wordmask.saliency.training import SaliencyTraining
from wordmask.world import Kind

Recipe = TypeVar("Recipe", bound=SaliencyTraining)

WORLD_PICTURES = 6_000
"""Drawn where none are given: half a minute on two cores, and three minutes of voting."""
WORLD_KINDS: dict[Kind, float] = {"single": 0.7, "multi": 0.15, "pairs": 0.15}
"""Like DUTS, which both papers learn from: in most pictures one thing stands out."""

PLANS: dict[type[SaliencyTraining], dict[str, dict[str, Any]]] = {
    FoundTraining: {
        "paper": {},
        "world": {
            "dino": WORLD,
            "crop": 128,
            "scale": (0.5, 2.0),
            "batch": 32,
            "steps": 300,
            "decay_every": 30,
            "seed_steps": 60,
            "precision": "bf16",
        },
    },
    SelfMaskTraining: {
        "paper": {},
        "world": {
            "dino": WORLD,
            "voters": (WORLD,),
            "voting_zoom": 2,
            "most_pictures": WORLD_PICTURES,
            "crop": 128,
            "scale": (1.0, 1.4),
            "flip": 0.5,
            "batch": 16,
            "epochs": 3,
            "layers": 3,
            "learning_rate": 3e-4,
            "encoder_pace": 0.1,
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
        raise SaliencyError(f"the training has no setting {unknown[0]!r}; it has {', '.join(known)}")
    try:
        return TypeAdapter(recipe).validate_python({**presets[preset], **changes, "pictures": pictures, "out": out})
    except ValidationError as error:
        first = error.errors()[0]
        raise SaliencyError(f"{first['loc'][0]}={first['input']!r} cannot be used: {first['msg'].lower()}") from error
