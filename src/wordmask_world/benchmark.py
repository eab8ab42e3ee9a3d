"""The built-in picture world as a benchmark: held-out pictures with exact masks, drawn when they are needed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wordmask.benchmarks.datasets import IGNORE, BenchmarkError, Sample
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask_world.drawing.names import STUFF, THINGS
from wordmask_world.drawing.scenes import Kind, draw_scene

SPLITS: dict[str, Kind | None] = {"single": "single", "multi": "multi", "pairs": "pairs", "all": None}
"""`all` draws its kinds from the world's own mixture, crowded and empty pictures among them."""
FIRST_SEED = 10**15
"""Of the held-out pictures: collection 1,000,000 of the world, far from any that somebody would train on."""
PICTURES = 200
SIZE = 128


def open_world(name: str, root: str | Path | None, split: str | None, pictures: int | None) -> "World":
    """Open `world` or `world-stuff`; there are no data to look for below `root`."""
    return World(split or "all", stuff=name == "world-stuff", pictures=PICTURES if pictures is None else pictures)


class World:
    """stuff=False: things and background. stuff=True: things and stuff, no background.

    background: the phrases that background is asked for by; the papers' protocols have the one word. first_seed: of
    its pictures; by it a choice is made on others than those of the benchmark.
    """

    def __init__(
        self,
        split: str = "all",
        *,
        stuff: bool = False,
        background: tuple[str, ...] = (BACKGROUND,),
        pictures: int = PICTURES,
        size: int = SIZE,
        first_seed: int = FIRST_SEED,
    ):
        if split not in SPLITS:
            raise BenchmarkError(f"the world has no split {split!r}; choose one of {', '.join(SPLITS)}")
        if pictures < 1:
            raise BenchmarkError(f"an evaluation needs 1 picture or more, not {pictures}")
        self.name = "world-stuff" if stuff else "world"
        self.split = split
        self.ignore = IGNORE
        self.stuff = stuff
        self.vocabulary = Vocabulary.of(
            [*THINGS, *STUFF] if stuff else {BACKGROUND: list(background), **{name: name for name in THINGS}}
        )
        self.pictures, self.size, self.first_seed = pictures, size, first_seed

    def __len__(self) -> int:
        return self.pictures

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self.pictures))

    def key(self, index: int) -> str:
        return f"{self.split}-{index:05}"

    def __getitem__(self, index: int) -> Sample:
        scene = draw_scene(self.first_seed + index, self.size, kind=SPLITS[self.split])
        return Sample(scene.image, self._labels(scene.labels), self.key(index), len(scene.objects))

    def _labels(self, labels: np.ndarray) -> np.ndarray:
        """The world's labels (things first, then stuff), or things shifted by one with all stuff as background."""
        if self.stuff:
            return labels
        return np.where(labels < len(THINGS), labels + 1, 0).astype(np.uint8)
