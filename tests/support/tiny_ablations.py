"""`wordmask tables namedmask-world` in seconds: a CLIP and a saliency that know next to nothing, and tiny networks.

As a script, it is the command with those, to be killed.
"""

import json
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from support.tiny_collection import ColourClip
from support.tiny_run import TRAINING
from wordmask.saliency.base import Saliency, SaliencySettings
from wordmask_world.tables import ablations
from wordmask_world.tables import namedmask as namedmask_world
from wordmask_world.tables.branches import Branch

NAMES = ("cat", "dog", "car")
COLLECTION, PICTURES = 24, 16
LONGER = {**TRAINING, "steps": 12, "save_every": 3}
SETTINGS = (
    *("clip=tiny", "templates=plain", "archive.size=4", "embedding.per_part=8"),
    *("masks.side=24", "masks.refine=none"),
    *(f"{stage}={json.dumps(LONGER)}" for stage in ("experts", "student")),
)


class AnyClip(ColourClip):
    """Knows colours, and hears every phrase as one."""

    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        dice = (np.random.default_rng(zlib.crc32(prompt.encode())) for prompt in prompts)
        return F.normalize(torch.tensor(np.stack([each.random(3) for each in dice]), dtype=torch.float32), dim=-1)


class Lit(Saliency):
    """Whatever is brighter than the mean of its picture."""

    method, preset = "lit", "none"
    settings = SaliencySettings()

    def __init__(self) -> None:
        self.pictures = 0

    def raw_maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.pictures += len(images)
        grey = [image.astype(np.float32).mean(axis=2) for image in images]
        return [np.clip((each - each.mean()) / 60 + 0.5, 0, 1) for each in grey]


class TinyBranch(Branch):
    """All runs have the same two, which count what they are shown."""

    clip, saliency = AnyClip(), Lit()  # type: ignore[assignment]


def shorten(put: Any) -> None:
    """put: as `monkeypatch.setattr`, or `setattr`."""
    put(ablations, "Branch", TinyBranch)
    put(namedmask_world, "SIZES", (1, 3))
    put(namedmask_world, "PASTED", (2, 3))


def arguments(folder: Any) -> list[str]:
    given = ["--names", ", ".join(NAMES), "--collection", f"{COLLECTION}", "--pictures", f"{PICTURES}"]
    places = ["--device", "cpu", "--runs", f"{folder}/runs", "--out-dir", f"{folder}/tables"]
    return [*given, *places, *(part for pair in SETTINGS for part in ("--set", pair))]


if __name__ == "__main__":
    from wordmask import cli

    torch.set_num_threads(1)
    shorten(setattr)
    sys.argv = ["wordmask", "tables", "namedmask-world", *arguments(sys.argv[1])]
    cli.main()
