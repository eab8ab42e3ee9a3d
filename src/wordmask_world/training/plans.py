"""How much training fits a machine: two processor cores in two hours, or one data-centre accelerator in half an hour.

A plan is a set of changes to a recipe's settings: `ClipSettings(pictures=..., out=..., **PLANS["clip"]["cpu"])`.
"""

from typing import Any, Literal

from wordmask_world.drawing.scenes import Kind
from wordmask_world.training.batches import Stage
from wordmask_world.training.clip_teacher import ClipArchitecture

Machine = Literal["cpu", "accelerator"]
Model = Literal["clip-teacher", "clip", "dino", "resnet"]

MIXTURE: dict[Kind, float] = {"single": 0.45, "multi": 0.2, "clutter": 0.1, "pairs": 0.2, "empty": 0.05}
"""Of the training pictures: more with one thing alone than in the world at large; they are learnt from first."""
PICTURES: dict[Machine, int] = {"cpu": 48_000, "accelerator": 60_000}
SPARSE: tuple[Kind, ...] = ("single", "pairs", "empty")
"""Pictures whose captions say little that could be elsewhere."""
LARGER = ClipArchitecture(blocks=8)

SMALL_DINO: dict[str, Any] = {
    "prototypes": 128,
    "place_prototypes": 1024,
    "hidden": 256,
    "batch_norm": True,
    "centring": "sinkhorn",
    "teacher_temperature": (0.05, 0.05),
    "momentum": 0.97,
    "cutouts": 2.0,
    "global_area": (0.1, 0.6),
    "local_area": (0.15, 0.4),
    "upside_down": 0.5,
    "local_crops": 2,
    "output_stride": 8,
    "learning_rate": 2e-3,
}
"""Self-distillation in some thousand steps: the paper's takes a hundred thousand. output_stride is the ResNet's: maps
that guide the transformer have a cell for each of its patches."""

PLANS: dict[Model, dict[Machine, dict[str, Any]]] = {
    "clip-teacher": {
        "cpu": {
            "stages": (
                Stage(pictures=100_000, size=64, batch=128, kinds=SPARSE, least_crop=0.6),
                Stage(pictures=150_000, size=64, batch=128, least_crop=0.6),
                Stage(pictures=26_000, size=128, batch=128, learning_rate=7e-4),
            ),
            "learning_rate": 2e-3,
            "average": 0.98,
        },
        "accelerator": {
            "stages": (
                Stage(pictures=300_000, size=64, batch=256, kinds=SPARSE, least_crop=0.6),
                Stage(pictures=400_000, size=128, batch=256),
            ),
            "learning_rate": 2e-3,
            "average": 0.999,
            "channels": (64, 128, 256, 384),
            "architecture": LARGER,
        },
    },
    "clip": {
        "cpu": {
            "stages": (
                Stage(pictures=200_000, size=64, batch=128, least_crop=0.4),
                Stage(pictures=28_000, size=128, batch=64, learning_rate=1.2e-3),
            ),
            "learning_rate": 2e-3,
            "average": 0.985,
        },
        "accelerator": {
            "stages": (
                Stage(pictures=400_000, size=64, batch=256, least_crop=0.4),
                Stage(pictures=600_000, size=128, batch=256, least_crop=0.4),
            ),
            "average": 0.999,
            "teacher_channels": (64, 128, 256, 384),
            "architecture": LARGER,
        },
    },
    "dino": {
        "cpu": {
            **SMALL_DINO,
            "stages": (
                Stage(pictures=160_000, size=64, batch=64),
                Stage(pictures=9_600, size=128, batch=32, learning_rate=7e-4),
            ),
            "learning_rate": 1.5e-3,
            "momentum": 0.98,
        },
        "accelerator": {
            **SMALL_DINO,
            "stages": (Stage(pictures=800_000, size=96, batch=256),),
            "prototypes": 1024,
            "place_prototypes": 4096,
            "local_crops": 6,
            "local_size": 48,
            "blocks": 8,
            "learning_rate": 1e-3,
            "momentum": 0.996,
        },
    },
    "resnet": {
        "cpu": {**SMALL_DINO, "network": "resnet", "stages": (Stage(pictures=90_000, size=64, batch=64),)},
        "accelerator": {
            **SMALL_DINO,
            "network": "resnet",
            "stages": (Stage(pictures=800_000, size=96, batch=256),),
            "prototypes": 1024,
            "place_prototypes": 4096,
            "local_crops": 6,
            "local_size": 48,
            "learning_rate": 1e-3,
            "momentum": 0.996,
        },
    },
}
