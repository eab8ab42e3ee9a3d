"""Training pictures, drawn once by `write_array` and read many times: drawing a picture costs as much as learning
from it.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wordmask_world.drawing.scenes import KINDS, Kind
from wordmask_world.files.training_file import open_array

VALIDATION_SEED = 5_000_000
"""Figures during a run, by which choices are made, are of the pictures from here on."""
HELD_OUT_SEED = 10_000_000
"""Figures of a finished model are of the pictures from here on, and of nothing else."""


class TrainingPictures:
    """A file that `write_array` wrote. Labels, if it has any, stay shut: no recipe learns from masks."""

    def __init__(self, path: str | Path):
        array = open_array(path)
        self._images = array.images if array.images.nbytes > _largest_in_memory() else np.array(array.images)
        self.captions = array.captions
        self.settings = json.dumps(array.settings, sort_keys=True)
        """A run goes on only with the pictures that it began with."""
        with Path(path).with_suffix(".captions.jsonl").open(encoding="utf-8") as lines:
            self.kinds = np.array([KINDS.index(json.loads(line)["kind"]) for line in lines], dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.captions)

    def of_kinds(self, kinds: Sequence[Kind]) -> np.ndarray:
        """Indices of the pictures of some kinds."""
        return np.flatnonzero(np.isin(self.kinds, [KINDS.index(kind) for kind in kinds]))

    def images(self, indices: np.ndarray) -> Tensor:
        """(n,) indices -> (n, 3, H, W) uint8."""
        return torch.from_numpy(self._images[indices]).permute(0, 3, 1, 2)

    def everything(self) -> Tensor:
        """(N, 3, H, W) uint8, all in memory: for accelerators that hold them all."""
        return torch.from_numpy(np.array(self._images)).permute(0, 3, 1, 2)


def _largest_in_memory() -> int:
    """Bytes: a quarter of the machine's. Reading pictures in random order from a file takes longer than learning."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
