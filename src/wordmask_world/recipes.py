"""The papers' trainings on the world's pictures: changes to their settings, made for two processor cores."""

from functools import partial
from typing import Any

from wordmask.training.pictures import Drawn
from wordmask_world.drawing.scenes import Kind
from wordmask_world.files.training_file import write_array
from wordmask_world.files.writing import write_shards
from wordmask_world.presets import CORRELATED, SIMILARITY, WORLD

VOTED_PICTURES = 3_000
"""As many of them as two cores vote for in six minutes."""
ONE_STANDS_OUT: dict[Kind, float] = {"single": 0.7, "multi": 0.15, "pairs": 0.15}
"""Like DUTS, which FOUND and SelfMask learn from: in most pictures one thing stands out."""

TRAIN_FOUND: dict[str, Any] = {
    "dino": WORLD,
    "similarity": SIMILARITY,
    "crop": 256,
    "scale": (1.7, 2.5),
    "blur": 0.0,
    "batch": 16,
    "steps": 120,
    "seed_steps": 120,  # the head's own answers, as targets, made it lose the things that it was unsure of
    "decay": 0.6,
    "decay_every": 20,
    "precision": "bf16",
}
TRAIN_SELFMASK: dict[str, Any] = {
    "dino": WORLD,
    "voters": (WORLD,),
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
}
SALIENCY_PICTURES = Drawn(6_000, partial(write_array, count=6_000, kinds=ONE_STANDS_OUT))
"""Drawn in half a minute on two cores."""

DINOISER_PICTURES = Drawn(2_000, partial(write_array, count=2_000))
"""Twice as many as the paper needs."""
TRAIN_DINOISER: dict[str, Any] = {
    "clip": WORLD,
    "dino": WORLD,
    "found": WORLD,
    "most_pictures": DINOISER_PICTURES.count,
    "crop": 128,
    "scale": (1.0, 1.4),
    "batch": 8,
    "learning_rate": 5e-4,
    "steps": 1500,
    "decay_after": 1200,
    "threshold": CORRELATED,
    "precision": "bf16",
}

TALK2DINO_PICTURES = Drawn(10_000, partial(write_shards, count=10_000))
TRAIN_TALK2DINO: dict[str, Any] = {
    "clip": WORLD,
    "dino": WORLD,
    "crop": 128,
    "learning_rate": 3e-4,  # chosen on validation pictures, with the epochs: longer or faster learns captions by heart
    "epochs": 40,
}
