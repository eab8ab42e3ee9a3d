"""CLIP-DINOiser's tables: the comparison on eight benchmarks, how features are pooled, how background is found.

Beside them stands the built-in world: with stuff, where nothing is background, and with background.
"""

from functools import partial
from typing import Any

from wordmask.benchmarks.tables.base import Row, Table, archive_of
from wordmask.benchmarks.tables.run import Run
from wordmask.segmenters.clip_dinoiser import WORLD_CORRELATED
from wordmask_world.tables import world

WORLD, WORLD_STUFF = "world", "world-stuff"
NO_BACKGROUND = ("voc20", "context59", "coco-stuff", "cityscapes", "ade20k")
BACKGROUND = ("context", "coco-object", "voc")
HEADINGS = {
    "voc20": "VOC20",
    "context59": "C59",
    "coco-stuff": "Stuff",
    "cityscapes": "City",
    "ade20k": "ADE",
    "context": "Context",
    "coco-object": "Object",
    "voc": "VOC",
}
FILTERED = ("coco-object", "voc", WORLD)
"""Where background is stuff, and filtered; in Context it is a rest of few pixels, and left to the prompt."""
MMSEGMENTATION: dict[str, Any] = {"antialias": False}
"""The published figures were made with this library, which shrinks pictures so."""
TABLE_1 = (*NO_BACKGROUND, *BACKGROUND, WORLD_STUFF, WORLD)
TABLE_2A = ("voc", "voc20", "context59", "coco-stuff", "ade20k", WORLD, WORLD_STUFF)
TABLE_2B = ("coco-object", "voc", WORLD)


def measure(run: Run, column: str, *, method: str, **settings: Any) -> float:
    """mIoU in percent."""
    preset = WORLD if column in (WORLD, WORLD_STUFF) else "paper"
    if preset == "paper" and method != "clip-diy":  # which has a way of its own to look at pictures
        settings = {**MMSEGMENTATION, **settings}
    if preset == WORLD and settings.get("affinity") == "dino":
        settings["affinity_threshold"] = WORLD_CORRELATED
    benchmark = run.open(column)  # first: where there are no data, no weights need be fetched
    return run.evaluate(run.segmenter(method, preset, **settings), benchmark).miou


def measure_filtered(run: Run, column: str) -> float:
    """CLIP-DINOiser as a whole: its background filter only where the paper has it."""
    background = "trained" if column in FILTERED else "none"
    return measure(run, column, method="clip-dinoiser", background=background)


def measure_reco(run: Run, column: str) -> float | None:
    """The world's names are learnt from the world's pictures, the others' from those of --archive."""
    if column in (WORLD, WORLD_STUFF):
        return world.measure_reco(run, "stuff" if column == WORLD_STUFF else "all")
    benchmark = run.open(column)
    return run.evaluate(run.segmenter("reco", archive=archive_of(run), **MMSEGMENTATION), benchmark).miou


def told(label: str, columns: tuple[str, ...], *figures: float | None) -> Row:
    """A row of others' methods, as the paper has it."""
    return Row(label, published(columns, figures))


def row(label: str, columns: tuple[str, ...], figures: tuple[float, ...], method: str, **settings: Any) -> Row:
    return Row(label, published(columns, figures), partial(measure, method=method, **settings))


def published(columns: tuple[str, ...], figures: tuple[float | None, ...]) -> dict[str, float]:
    """Figures stand in the order of the paper's columns; the world's come after them."""
    return {column: figure for column, figure in zip(columns, figures, strict=False) if figure is not None}


def maskclip(label: str, columns: tuple[str, ...], figures: tuple[float, ...], *, key_smoothing: bool = False) -> Row:
    return row(label, columns, figures, "maskclip", residual=True, key_smoothing=key_smoothing)


TABLES = {
    "clip-dinoiser-1": Table(
        "clip-dinoiser-1",
        "CLIP-DINOiser, table 1: open-vocabulary segmentation (mIoU, percent)",
        TABLE_1,
        (
            told("MaskCLIP+", TABLE_1, None, 31.1, 18.0),
            told("NamedMask", TABLE_1, None, None, None, None, None, None, 27.7, 59.2),
            Row("ReCo", published(TABLE_1, (57.8, 22.3, 14.8, 21.1, 11.2, 19.9, 15.7, 25.1)), measure_reco),
            told("OVDiff", TABLE_1, 81.7, 33.7, None, None, 14.9, 30.1, 34.8, 67.1),
            told("GroupViT", TABLE_1, 79.7, 23.4, 15.3, 11.1, 9.2, 18.7, 27.5, 50.4),
            told("ZeroSeg", TABLE_1, None, None, None, None, None, 21.8, 22.1, 42.9),
            told("SegCLIP", TABLE_1, None, None, None, 11.0, 8.7, 24.7, 26.5, 52.6),
            told("TCL", TABLE_1, 77.5, 30.3, 19.6, 23.1, 14.9, 24.3, 30.4, 51.2),
            told("CLIPpy", TABLE_1, None, None, None, None, 13.5, None, 32.0, 52.2),
            told("OVSegmentor", TABLE_1, None, None, None, None, 5.6, 20.4, 25.1, 53.8),
            row("CLIP-DIY", TABLE_1, (79.7, 19.8, 13.3, 11.6, 9.9, 19.7, 31.0, 59.9), "clip-diy"),
            told("MaskCLIP, as published", TABLE_1, 53.7, 23.3, 14.7, 21.6, 10.8, 21.1, 15.5, 29.3),
            maskclip("MaskCLIP", TABLE_1, (61.8, 25.6, 17.6, 25.0, 14.3, 22.9, 16.4, 32.9)),
            maskclip(
                "MaskCLIP, refined", TABLE_1, (71.9, 27.4, 18.6, 23.0, 14.9, 24.0, 21.6, 41.3), key_smoothing=True
            ),
            Row(
                "CLIP-DINOiser",
                published(TABLE_1, (80.9, 35.9, 24.6, 31.7, 20.0, 32.4, 34.8, 62.1)),
                measure_filtered,
            ),
        ),
        headings=HEADINGS,
    ),
    "clip-dinoiser-2a": Table(
        "clip-dinoiser-2a",
        "CLIP-DINOiser, table 2a: how features are pooled, without background filtering (mIoU, percent)",
        TABLE_2A,
        (
            maskclip("MaskCLIP", TABLE_2A, (32.9, 61.8, 25.6, 17.6, 14.3)),
            maskclip("CLIP keys (predictions)", TABLE_2A, (41.3, 71.9, 27.4, 18.6, 14.9), key_smoothing=True),
            *(
                row(label, TABLE_2A, figures, "clip-dinoiser", affinity=affinity, background="none")
                for label, affinity, figures in (
                    ("CLIP keys", "clip-keys", (39.2, 73.2, 23.0, 12.6, 7.7)),
                    ("DINO's affinity", "dino", (53.7, 79.1, 35.5, 24.7, 20.4)),
                    ("trained affinity", "trained", (54.0, 80.9, 35.9, 24.6, 20.0)),
                )
            ),
        ),
        headings=HEADINGS,
    ),
    "clip-dinoiser-2b": Table(
        "clip-dinoiser-2b",
        "CLIP-DINOiser, table 2b: how background is found (mIoU, percent)",
        TABLE_2B,
        (
            maskclip("MaskCLIP", TABLE_2B, (16.4, 32.9)),
            *(
                row(label, TABLE_2B, figures, "clip-dinoiser", affinity=affinity, background=background)
                for label, affinity, background, figures in (
                    ("DINO's affinity", "dino", "none", (29.9, 53.7)),
                    ("DINO's affinity, FOUND alone", "dino", "found-alone", (32.1, 60.1)),
                    ("DINO's affinity, FOUND where unsure", "dino", "found", (34.1, 62.1)),
                    ("DINO's affinity, trained objectness", "dino", "trained", (34.2, 61.9)),
                    ("trained affinity, trained objectness", "trained", "trained", (34.8, 62.1)),
                )
            ),
        ),
        headings=HEADINGS,
    ),
}
