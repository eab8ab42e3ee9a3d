"""The training of the world's DINO, small enough for a test."""

from pathlib import Path

from wordmask_world.training.batches import Stage
from wordmask_world.training.dino import DinoSettings

CHANNELS = (8, 12, 16, 20)


def settings(pictures: Path, out: Path, **changes: object) -> DinoSettings:
    options = {
        "image_size": 32, "width": 24, "blocks": 3, "heads": 2, "channels": CHANNELS, "prototypes": 8,
        "place_prototypes": 6, "hidden": 8, "bottleneck": 4, "batch_norm": True, "centring": "sinkhorn",
        "local_crops": 1, "local_size": 16, "precision": "fp32", "threads": 1, "save_every": 1,
        "stages": (Stage(pictures=12, size=32, batch=4),), **changes,
    }  # fmt: skip
    return DinoSettings(pictures=pictures, out=out, **options)
