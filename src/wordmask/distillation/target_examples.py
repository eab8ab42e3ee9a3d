"""What a student learns from where every pixel has been told: whole pictures with all their names."""

import logging
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from wordmask.distillation.batches import Examples, Kept
from wordmask.distillation.records import DistillationError
from wordmask.distillation.targets import TargetTable
from wordmask.distillation.training import ignore_label
from wordmask.fingerprints import short_digest_of
from wordmask.pictures.image_files import ImageReadError

logger = logging.getLogger(__name__)

LOOKED_AT = 64
"""Targets, at most, by which it is known how sure a teacher is."""
TOO_LITTLE = 0.01
"""Of their pixels; a student of fewer would learn next to nothing, hours later."""


class TargetExamples(Examples):
    """Pictures with a map of labels each; `Samples` takes it for the mask of a label 1.

    least, share: what of a target teaches nothing, see `Target.ignored`. stuff: names that are not pasted elsewhere.
    """

    def __init__(self, targets: TargetTable, *, least: float = 0.0, share: float = 0.0, stuff: Collection[str] = ()):
        self.targets, self.least, self.share = targets, least, share
        self.ignore = ignore_label(1 + len(targets.names))
        self.stuff = [label for label, name in enumerate(targets.names, start=1) if name in stuff]
        self._kept = Kept()
        self.fingerprint = short_digest_of(repr((targets.fingerprint, least, share, self.stuff)))

    def __len__(self) -> int:
        return len(self.targets)

    def check(self) -> None:
        """Refuse what is so unsure that nothing would be learnt of it."""
        if not self.least:
            return
        some = [self.targets[index] for index in np.linspace(0, len(self) - 1, min(len(self), LOOKED_AT)).astype(int)]
        sure = np.concatenate([target.sure().ravel() for target in some])
        if (taught := (sure >= self.least).mean()) < TOO_LITTLE:
            raise DistillationError(
                f"masks.least_confidence {self.least:g}: the teacher is as sure of {taught:.1%} of the pixels, too few "
                f"to learn from. Of half of them it is surer than {np.median(sure):.2g}: take less, or leave it at 0 "
                "and let masks.ignore_share leave out the least sure of each picture"
            )

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        image, labels, _ = self.read_target(index)
        return image, labels, 1

    def read_target(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the picture (H, W, 3) uint8, its labels (H, W) int32 with `ignore` where nothing is to be learnt, and
        the teacher's features (D, h, w); the next one's, with a warning, where this one cannot be read any more.
        """
        found: tuple[np.ndarray, np.ndarray, np.ndarray | None] = self._kept.get(index, self._read_target)
        return found

    def _read_target(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        for number in range(index, index + len(self)):
            target = self.targets[number % len(self)]
            try:
                image = self.targets.open_image(target.image)
            except ImageReadError as error:
                logger.warning("left out: %s", error)
                continue
            if target.labels.shape != image.shape[:2]:
                logger.warning("left out: %s: it has another size than its target", target.image)
                continue
            labels = target.labels.astype(np.int32)
            labels[target.ignored(self.least, self.share)] = self.ignore
            return image, labels, target.features
        raise DistillationError(f"none of the pictures of {self.targets.folder} can be read any more")

    def thing(self, labels: Tensor, chance: np.random.Generator, *, ignore: int) -> Tensor:
        """Half of the names that are there, chosen by lot, and at least one; never stuff."""
        there = [label for label in labels.unique().tolist() if label not in (0, ignore, *self.stuff)]
        chosen = chance.permutation(np.array(there, dtype=np.int64))[: -(-len(there) // 2)]
        return torch.isin(labels, torch.from_numpy(chosen).to(labels.dtype))
