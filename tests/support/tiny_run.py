"""A whole run of the pipeline in seconds: colours for names, tiny networks, one thread.

As a script it is a nursery of processes to be killed: it imports everything once, and then starts a run for every line
of its input, which costs no start of Python each time.
"""

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ["red", "green", "blue"]
NETWORK = {
    "backbone": "resnet10t",
    "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1], "stem_width": 4},
    "output_stride": 16,
    "rates": [2],
    "width": 16,
    "low_width": 8,
}
TRAINING = {
    "network": NETWORK,
    "start": None,
    "augmentation": {"crop": 32, "scale": [0.8, 1.0]},
    "steps": 4,
    "batch": 2,
    "backbone_rate": 1e-3,
    "threads": 1,
    "save_every": 1,
    "log_every": 1,
}
SETTINGS: dict[str, Any] = {
    "preset": "world",
    "device": "cpu",
    "clip": "tiny",
    "templates": "plain",
    "embedding": {"per_part": 8, "batch": 4},
    "archive": {"size": 6},
    "masks": {"saliency": "spectral", "side": 16, "refine": "none"},
    "experts": {**TRAINING, "edges": "none"},
    "student": TRAINING,
}
THINGS_AND_STUFF = {
    "stuff": ["blue"],
    "masks": {"teacher": "maskclip", "teacher_settings": {"precision": "fp32"}},
}


class Bright:
    """Saliency for the squares of `tiny_collection`: whatever is not grey."""

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.clip((np.ptp(image.astype(np.float32), axis=2) - 40) / 80, 0, 1) for image in images]


class Counted(Bright):
    """Counts the pictures that it looks at."""

    def __init__(self) -> None:
        self.pictures = 0

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.pictures += len(images)
        return super().raw_maps(images)


class Listener:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def progress(self, description: str) -> Iterator[Any]:
        yield lambda done, total: None

    def of(self, stage: str) -> str:
        return next(text for text in self.said if text.startswith(f"{stage}: "))


def pipeline_with(
    pictures: Path, out: Path, *layers: dict[str, Any], console: Any = None, prune: bool = False, crew: Any = None
) -> Any:
    """A pipeline whose CLIP, saliency and teacher know colours."""
    from support.tiny_pipeline import Tiny
    from wordmask.distillation.config import make_run

    told = {"names": NAMES, "images": pictures, "out": out}
    return Tiny(make_run(SETTINGS, told, *layers), console, prune=prune, crew=crew)


def contents(run: Path) -> dict[str, str]:
    """What a run has made, but for times and logs."""
    patterns = (
        "archive/*.parquet",
        "masks/*.arrow",
        "taught/*.[afs]*",
        "targets/*.[afs]*",
        "experts/*/*.safetensors",
        "refined/*.arrow",
        "student/*.safetensors",
    )
    found = {}
    for path in sorted(path for pattern in patterns for path in run.glob(pattern)):
        found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def nursery() -> None:
    """For every [pictures, out, settings...] of the input, a forked child's id, and when it is over its exit code."""
    import torch

    from wordmask.distillation import merging, pseudo_masks, redrawing, teacher
    from wordmask.distillation.config import setting

    torch.set_num_threads(1)
    for module in (merging, pseudo_masks, teacher):
        module.PICTURES_PER_SHARD = 3  # type: ignore[attr-defined]
    redrawing.MASKS_PER_SHARD = 4
    for line in sys.stdin:
        pictures, out, *settings = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                pipeline_with(Path(pictures), Path(out), *map(setting, settings)).run_all()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    import_module("support.tiny_pipeline")  # so that no child need import it
    nursery()
