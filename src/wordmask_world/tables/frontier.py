"""The frontier on the built-in world: every method, and what can be added to one, on the same drawn pictures.

Pictures are drawn once for all rows. What a method sees of a picture is kept while its row is measured, so that asking
for things and asking for things and stuff costs one look.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from wordmask.benchmarks.datasets import Sample
from wordmask.benchmarks.single import WAYS
from wordmask.benchmarks.tables.base import Row, Table
from wordmask.benchmarks.tables.frontier import MEAN, check_here
from wordmask.benchmarks.tables.frontier import TABLES as PAPERS
from wordmask.benchmarks.tables.run import Run
from wordmask.collection.piles import open_pile
from wordmask.compute import Compute
from wordmask_world.benchmark import World
from wordmask_world.files.writing import write_folder
from wordmask_world.presets import WORLD
from wordmask_world.tables.world import draw_archive

if TYPE_CHECKING:
    from wordmask.segmenters.base import Seen, Segmenter

SPLITS = ("single", "multi", "pairs", "all")
STUFF = "stuff"
"""The column of `world-stuff`: the pictures of `all`, asked for things and stuff, where nothing is background."""
PICTURES = 30
"""Of each split: the whole table is to take less than a quarter of an hour on two cores."""
BANK, BANK_SEED = 300, 40_000_000
"""Pictures of the bank, and the first one's seed, far from those that networks learnt from or settings were chosen by.
"""
PICTURES_ALONE = 20
"""Each is asked some twenty times."""
MOST_SEEN = 1000
"""Pictures whose features are kept while a row is measured."""


class DrawnOnce(World):
    """The world's benchmark, each of whose scenes is drawn when it is first asked for, and then kept in `scenes`."""

    def __init__(self, split: str, *, stuff: bool, pictures: int, scenes: dict[int, Sample]):
        super().__init__(split, stuff=stuff, pictures=pictures)
        self._scenes = scenes

    def __getitem__(self, index: int) -> Sample:
        if index not in self._scenes:
            self._scenes[index] = World(self.split, stuff=True, pictures=self.pictures)[index]
        scene = self._scenes[index]
        return replace(scene, labels=self._labels(scene.labels))


@cache
def scenes_of(split: str) -> dict[int, Sample]:
    """Return what all rows of a process share of a split."""
    return {}


class Remembered:
    """A segmenter that keeps what it has seen of each picture, by its key; all else is the segmenter's own."""

    def __init__(self, segmenter: "Segmenter"):
        self._segmenter = segmenter
        self._seen: dict[str, Seen] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def see(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> "list[Seen]":
        new = [index for index, source in enumerate(sources) if source not in self._seen]
        found = self._segmenter.see([images[i] for i in new], [sources[i] for i in new]) if new else []
        fresh = {sources[i]: seen for i, seen in zip(new, found, strict=True)}
        seen = [fresh.get(source) or self._seen[source] for source in sources]
        self._seen |= fresh
        while len(self._seen) > MOST_SEEN:
            self._seen.pop(next(iter(self._seen)))
        return seen


def measure(run: Run, column: str, *, method: str, **settings: Any) -> dict[str, float] | float | None:
    """mIoU in percent, of `all` and of `stuff` together. A student knows its own names alone, no stuff among them."""
    check_here(method, settings, WORLD)
    if method == "reco":
        settings = {**settings, "archive": draw_archive(run.folder / "world-archive")}
    segmenter = cast("Segmenter", Remembered(run.segmenter(method, WORLD, **settings)))
    split = "all" if column == STUFF else column
    figures = {split: run.evaluate(segmenter, opened(run, split)).miou}
    if split == "all" and method != "namedmask":
        figures[STUFF] = run.evaluate(segmenter, opened(run, split, stuff=True)).miou
    return figures if column in figures else None


def measure_banked(run: Run, column: str) -> dict[str, float] | float | None:
    """CorrCLIP with a bank of pictures that no split holds; nothing is told of what is on them."""
    check_here("corrclip", {"bank": None}, WORLD)
    return measure(run, column, method="corrclip", bank=str(bank_in(run.folder, run.device, run.precision)))


@cache
def bank_in(folder: Path, device: str, precision: str) -> Path:
    """Draw pictures below a folder and build a bank of them, or what is missing of it; where that lies."""
    from wordmask.segmenters.bank_building import build_bank, load_readers

    pictures, bank = folder / "world-bank-pictures", folder / "world-bank"
    write_folder(pictures, BANK, seed=BANK_SEED, image_format="png")
    build_bank(open_pile(pictures / "images"), load_readers(WORLD, Compute(device, precision)), bank)
    return bank


def measure_alone(run: Run, column: str, *, method: str, **settings: Any) -> dict[str, float]:
    """IoU-single in percent, of all ways of asking for a name alone together."""
    check_here(method, settings, WORLD)
    report = run.evaluate(run.segmenter(method, WORLD, **settings), opened(run, "multi"), single=True)
    return {way: report.more[f"iou_single_{way}"] for way in WAYS}


def opened(run: Run, split: str, *, stuff: bool = False) -> DrawnOnce:
    """Return a split of the world with as many pictures as the run is to have."""
    pictures = PICTURES if run.pictures is None else run.pictures
    return DrawnOnce(split, stuff=stuff, pictures=pictures, scenes=scenes_of(split))


def row(label: str, method: str, *, published: str | None = None, **settings: Any) -> Row:
    """Return a row. published: the row of the papers' table whose mean stands beside it."""
    figures = next((own.published for own in PAPERS["frontier"].rows if own.label == published), {})
    mean = {MEAN: figures[MEAN]} if MEAN in figures else {}
    return Row(label, mean, partial(measure, method=method, **settings))


def alone(label: str, method: str, **settings: Any) -> Row:
    return Row(label, measure=partial(measure_alone, method=method, **settings))


TABLES = {
    "frontier-world": Table(
        "frontier-world",
        "The frontier on the built-in world (mIoU, percent)",
        (*SPLITS, STUFF, MEAN),
        (
            row("MaskCLIP, value path alone", "maskclip", published="MaskCLIP, CLIP B/16", residual=False),
            row("MaskCLIP, with residual and MLP", "maskclip", residual=True),
            row("MaskCLIP, with key smoothing", "maskclip", residual=True, key_smoothing=True),
            row("ReCo", "reco", published="ReCo"),
            row("CLIP-DIY", "clip-diy"),
            row("SelfMask + CLIP", "selfmask-clip"),
            row("NamedMask", "namedmask"),
            row("ClearCLIP", "clearclip", published="ClearCLIP, CLIP B/16"),
            row("SCLIP", "sclip", published="SCLIP, CLIP B/16"),
            row("NACLIP", "naclip", published="NACLIP, CLIP B/16", pamr=False),
            row("CLIP-DINOiser", "clip-dinoiser", published="CLIP-DINOiser, CLIP B/16"),
            row("LPOSS", "lposs", published="LPOSS, CLIP + DINO B/16"),
            row("ResCLIP", "resclip", published="ResCLIP, CLIP B/16"),
            row("ProxyCLIP", "proxyclip", published="ProxyCLIP, CLIP B/16 + DINO B/8"),
            row("NACLIP, edges by PAMR", "naclip", published="NACLIP + PAMR, CLIP B/16", pamr=True),
            row("SC-CLIP", "sc-clip", published="SC-CLIP, CLIP B/16"),
            row("Talk2DINO", "talk2dino", published="Talk2DINO, CLIP's text + DINOv2 B/14"),
            row("CorrCLIP", "corrclip"),
            row("CorrCLIP, names not corrected by regions", "corrclip", map_correction=False),
            Row("CorrCLIP, with a bank of other pictures", measure=measure_banked),
            row("CLIP-DINOiser, spread by LPOSS", "clip-dinoiser", refine="lposs"),
            row("CLIP-DINOiser, spread by LPOSS+", "clip-dinoiser", refine="lposs+"),
            row("SCLIP, spread by LPOSS", "sclip", refine="lposs"),
            row("CLIP-DINOiser, edges by PAMR", "clip-dinoiser", refine="pamr"),
            row("CLIP-DINOiser, names corrected by regions", "clip-dinoiser", correct="panoptic-cut"),
            row("CLIP-DINOiser, names unsure everywhere left out", "clip-dinoiser", denoise=0.5),
        ),
        notes=(
            f"{PICTURES} pictures of each split, or as many as --pictures says. In `stuff`, those of `all` are asked "
            "for stuff too, and nothing is background.",
            "papers: the mean of eight benchmarks that the papers print, with CLIP ViT-B/16, each under its own "
            "protocol (`wordmask tables frontier`). Every method of ours has its preset `world`.",
        ),
        headings={MEAN: "papers"},
        pictures=PICTURES,
        aside=(MEAN,),
    ),
    "frontier-world-alone": Table(
        "frontier-world-alone",
        "The frontier on the built-in world, every name asked for alone (IoU-single, percent)",
        tuple(WAYS),
        (
            alone("MaskCLIP, value path alone", "maskclip", residual=False),
            alone("MaskCLIP, with residual and MLP", "maskclip", residual=True),
            alone("CLIP-DIY", "clip-diy"),
            alone("SelfMask + CLIP", "selfmask-clip"),
            alone("ClearCLIP", "clearclip"),
            alone("SCLIP", "sclip"),
            alone("NACLIP", "naclip", pamr=False),
            alone("CLIP-DINOiser", "clip-dinoiser"),
            alone("LPOSS", "lposs"),
            alone("ResCLIP", "resclip"),
            alone("ProxyCLIP", "proxyclip"),
            alone("SC-CLIP", "sc-clip"),
            alone("Talk2DINO", "talk2dino"),
            alone("CorrCLIP", "corrclip"),
        ),
        notes=(
            f"{PICTURES_ALONE} pictures of several things, or as many as --pictures says; each name in a picture is "
            "asked for by itself.",
            "filled: nothing but the name. background: the word background beside it. none: room for background, in "
            "the method's own way. auto: the default. concepts: the name also races against all that is known.",
        ),
        pictures=PICTURES_ALONE,
    ),
}
