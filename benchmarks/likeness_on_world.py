"""What the world's networks tell apart: why methods come in another order on the built-in world than in the papers.

    python benchmarks/likeness_on_world.py [--pictures 60] [--split multi]

For each kind of feature that a method listens to, of the patches that lie on one thing or one kind of stuff:

- the median cosine of any two patches of a picture;
- within a picture, how often two patches of one thing are more alike than a patch of it and one of the ground (percent,
  50 by chance), and than a patch of it and one of another thing;
- across pictures, how often what is most like a patch of a thing has its name (percent).

Masks are looked at for these figures alone. Pictures are the world's, from seeds that no training and no table has.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import mannwhitneyu

import wordmask
from wordmask.benchmarks.metrics import mean_of_known
from wordmask.encoders.clip_dense import CLIP_DINOISER, MASKCLIP
from wordmask.html_page import text_table
from wordmask.pictures.images import to_tensor
from wordmask_world import THINGS
from wordmask_world.benchmark import World
from wordmask_world.presets import WORLD

VALIDATION_SEED = 7_500_000
PURE = 0.75
"""The share of a patch's pixels that must bear one name."""
COLUMNS = ["feature", "listened to by", "median cosine", "thing, ground", "thing, thing", "name of the nearest"]
LISTENERS = {
    "CLIP, value path": "MaskCLIP",
    "CLIP, residual and MLP": "CLIP-DINOiser, LPOSS",
    "CLIP's keys": "NACLIP",
    "DINO's tokens": "ProxyCLIP, Talk2DINO, the bank",
    "DINO's queries and keys": "CorrCLIP",
    "DINO's values": "LPOSS",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--split", default="multi")
    asked = parser.parse_args()
    corrclip = wordmask.load("corrclip", preset=WORLD, device="cpu", precision="fp32")
    pictures = World(asked.split, stuff=True, pictures=asked.pictures, first_seed=VALIDATION_SEED)
    names, found = [], {feature: [] for feature in LISTENERS}
    for sample in pictures:
        features = dict(features_of(corrclip, to_tensor(sample.image)[None]))
        names.append(on_patches(sample.labels, corrclip.clip.patch_size))
        for feature, maps in features.items():
            found[feature].append(F.normalize(maps.float(), dim=0).flatten(1).T.numpy())  # (N, C)
    rows = []
    for feature, own in found.items():
        within = np.array([told_apart(unit, label) for unit, label in zip(own, names, strict=True)])
        rows.append(
            [
                feature,
                LISTENERS[feature],
                f"{np.median(np.concatenate([(unit @ unit.T).ravel() for unit in own])):.2f}",
                *(100 * mean_of_known(column) for column in within.T),
                100 * same_name(own, names),
            ]
        )
    print(f"{asked.pictures} pictures of {asked.split}, seeds from {VALIDATION_SEED} on; percent, but for cosines")
    print(text_table(COLUMNS, rows))


@torch.inference_mode()
def features_of(corrclip: "wordmask.Segmenter", images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what each of the features is of a picture (1, 3, H, W), (C, h, w)."""
    plain = corrclip.clip.dense(images, reading=MASKCLIP, keys=True)
    yield "CLIP, value path", plain.values[0]
    yield "CLIP, residual and MLP", corrclip.clip.dense(images, reading=CLIP_DINOISER).values[0]
    yield "CLIP's keys", plain.keys[0]
    seen = corrclip.dino(images)
    yield "DINO's tokens", seen.tokens[0]
    yield "DINO's queries and keys", seen.query_maps()[0] + seen.key_maps()[0]
    yield "DINO's values", seen.value_maps()[0]


def on_patches(labels: np.ndarray, patch: int) -> np.ndarray:
    """Return the name of every patch of (H, W), (N,); -1 where no name has most of it."""
    height, width = (side // patch for side in labels.shape)
    cells = labels.reshape(height, patch, width, patch).swapaxes(1, 2).reshape(height * width, -1)
    counts = np.stack([np.bincount(cell, minlength=256) for cell in cells])
    return np.where(counts.max(axis=1) >= PURE * cells.shape[1], counts.argmax(axis=1), -1)


def told_apart(unit: np.ndarray, names: np.ndarray) -> tuple[float, float]:
    """Return how often two patches of a thing are more alike than one of it and one of the ground, and than one of it
    and one of another thing; the mean over the things of a picture.
    """
    similar = unit @ unit.T
    ground, ground_figures, thing_figures = names >= len(THINGS), [], []
    for thing in np.unique(names[(names >= 0) & ~ground]):
        own = names == thing
        other = (names >= 0) & ~ground & ~own
        together = similar[np.ix_(own, own)][~np.eye(own.sum(), dtype=bool)]
        for rest, figures in ((ground, ground_figures), (other, thing_figures)):
            apart = similar[np.ix_(own, rest)].ravel()
            if len(together) and len(apart):
                figures.append(mannwhitneyu(together, apart).statistic / (len(together) * len(apart)))
    return tuple(float(np.mean(figures)) if figures else float("nan") for figures in (ground_figures, thing_figures))


def same_name(units: list[np.ndarray], names: list[np.ndarray]) -> float:
    """Return how often the patch of another picture that is most like a patch of a thing has its name."""
    hits = []
    for number, (unit, own) in enumerate(zip(units, names, strict=True)):
        of_things = (own >= 0) & (own < len(THINGS))
        others = [place for place in range(len(units)) if place != number]
        there = np.concatenate([names[place] for place in others])
        known = np.concatenate([units[place] for place in others])[there >= 0]
        if of_things.any():
            nearest = (unit[of_things] @ known.T).argmax(axis=1)
            hits += list(there[there >= 0][nearest] == own[of_things])
    return float(np.mean(hits))


if __name__ == "__main__":
    main()
