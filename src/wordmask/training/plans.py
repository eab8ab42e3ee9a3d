"""Trainings by name: the papers' own, and those that plug-ins bring.

A plan is a set of changes to a recipe's settings, which are the paper's where a plan says nothing.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from wordmask.methods import nearest
from wordmask.plugins import installed, named, presets_of, where_from
from wordmask.saliency.base import SaliencyError
from wordmask.text_files import shown
from wordmask.training.loop import PicturesTraining
from wordmask.training.pictures import Drawn

Recipe = TypeVar("Recipe", bound=PicturesTraining)

PAPER = "paper"
DRAWN_INTO = "pictures.npy"
"""In a run's folder, the pictures that it draws."""


def presets_to_train_by(recipe: type[PicturesTraining]) -> Mapping[str, Mapping[str, Any]]:
    """Return the plans of a recipe: preset -> changes to its settings."""
    return presets_of(recipe.verb, {PAPER: {}})


def plan(recipe: type[Recipe], preset: str, *, pictures: Path, out: Path, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe's settings for these pictures: a preset's, with single ones changed."""
    presets = presets_to_train_by(recipe)
    if preset not in presets:
        raise SaliencyError(
            f"there is no preset {preset!r} to train by; choose one of {', '.join(presets)}{where_from(preset)}"
        )
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


def drawn_for(
    recipe: type[PicturesTraining], preset: str, *, missing: str = "--images is missing: give a folder of pictures"
) -> Drawn:
    """Return the pictures that a preset draws for a training where none are given. missing: what is said where it
    draws none.
    """
    known = {name: found for plugin in installed() for name, found in plugin.drawn.get(recipe.verb, {}).items()}
    if preset not in known:
        but = f" (only --preset {' or '.join(known)} draws its own)" if known else ""
        raise SaliencyError(f"{missing}{but}")
    drawn: Drawn = named(known[preset])
    return drawn
