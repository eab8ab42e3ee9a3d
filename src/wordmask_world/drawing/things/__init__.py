"""Parametric drawings of the things the world knows, one function each."""

from __future__ import annotations

from collections.abc import Callable

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Sketch
from wordmask_world.drawing.things.birds import bird
from wordmask_world.drawing.things.craft import aeroplane, boat
from wordmask_world.drawing.things.cycles import bicycle, motorbike
from wordmask_world.drawing.things.farm import cow, horse, sheep
from wordmask_world.drawing.things.furniture import chair, sofa, table, tv_monitor
from wordmask_world.drawing.things.household import bottle, bowl, cup, umbrella
from wordmask_world.drawing.things.people import person, rider
from wordmask_world.drawing.things.pets import cat, dog
from wordmask_world.drawing.things.plants import mushroom, potted_plant
from wordmask_world.drawing.things.vehicles import bus, car, train

DRAWINGS: dict[str, Callable[[Dice], Sketch]] = {
    "aeroplane": aeroplane,
    "bicycle": bicycle,
    "bird": bird,
    "boat": boat,
    "bottle": bottle,
    "bowl": bowl,
    "bus": bus,
    "car": car,
    "cat": cat,
    "chair": chair,
    "cow": cow,
    "cup": cup,
    "dog": dog,
    "horse": horse,
    "motorbike": motorbike,
    "mushroom": mushroom,
    "person": person,
    "potted plant": potted_plant,
    "sheep": sheep,
    "sofa": sofa,
    "table": table,
    "train": train,
    "tv monitor": tv_monitor,
    "umbrella": umbrella,
}

__all__ = ["DRAWINGS", "rider"]
