"""CLIP-DIY's tables: the comparison, what its parts are worth, its scales, who tells it what is an object.

Beside the paper's two benchmarks stands the built-in world, at the same scales for its size, with a CLIP, a DINO and a
FOUND of its own.
"""

from functools import partial
from typing import Any

from wordmask.benchmarks.tables.base import Row, Table
from wordmask.benchmarks.tables.run import Run

WORLD = "world"
COLUMNS = ("voc", "coco-object", WORLD)
HEADINGS = {"voc": "VOC", "coco-object": "COCO"}
SCALES = {"paper": (256, 128, 64, 32, 16), WORLD: (128, 64, 32, 16, 8)}
"""Windows of the scales 0 to 4, by preset; each halves the one before. In the world the first is the whole picture."""
SALIENCY = {"FOUND-bkg": "seed", "FOUND": "found"}
CUTLER = (
    "CutLER's network is no part of this package; ClipDiy(clip, objectness=InstanceSaliency(find).maps) takes what any "
    "instance segmenter finds"
)


def measure(run: Run, column: str, *, scales: tuple[int, ...] = (0, 1, 2), **settings: Any) -> float | None:
    """mIoU in percent with windows of these scales."""
    preset = WORLD if column == WORLD else "paper"
    if preset == WORLD and "clip" in settings:
        return None  # the world has one CLIP
    windows = tuple(SCALES[preset][scale] for scale in scales)
    benchmark = run.open(column)  # first: where there are no data, no weights need be fetched
    return run.evaluate(run.segmenter("clip-diy", preset, windows=windows, **settings), benchmark).miou


def row(
    label: str, voc: float | None, coco: float | None, *, scales: tuple[int, ...] = (0, 1, 2), **settings: Any
) -> Row:
    return Row(label, published(voc, coco), partial(measure, scales=scales, **settings))


def published(voc: float | None, coco: float | None) -> dict[str, float]:
    return {name: value for name, value in zip(COLUMNS, (voc, coco), strict=False) if value is not None}


def told(label: str, voc: float | None, coco: float | None) -> Row:
    """A row of others' methods, as the paper has it."""
    return Row(label, published(voc, coco))


TABLES = {
    "clip-diy-1": Table(
        "clip-diy-1",
        "CLIP-DIY, table 1: zero-shot open-vocabulary segmentation (mIoU, percent)",
        COLUMNS,
        (
            told("ReCo", 25.1, 15.7),
            told("ViL-Seg", 37.3, None),
            told("MaskCLIP+", 38.8, 20.6),
            told("CLIPpy", 52.2, 32.0),
            told("GroupViT", 52.3, None),
            told("ViewCo", 52.4, 23.5),
            told("SegCLIP", 52.6, 26.5),
            told("OVSegmentor", 53.8, 25.1),
            told("TCL + PAMR", 55.0, 31.6),
            row("CLIP-DIY, ViT-B/16", 59.0, 30.4, clip="ViT-B-16/laion2b_s34b_b88k"),
            row("CLIP-DIY", 59.9, 31.0),
        ),
        headings=HEADINGS,
    ),
    "clip-diy-2": Table(
        "clip-diy-2",
        "CLIP-DIY, table 2: what its parts are worth (mIoU, percent)",
        COLUMNS,
        (
            row("CLIP-DIY", 59.9, 31.0),
            row("w/o multi-scale", 56.0, 25.9, scales=(0,)),
            row("w/o objectness", 24.1, 15.5, saliency="none"),
        ),
        headings=HEADINGS,
    ),
    "clip-diy-3": Table(
        "clip-diy-3",
        "CLIP-DIY, table 3: its scales (mIoU, percent)",
        COLUMNS,
        (
            row("0", 56.0, 25.9, scales=(0,)),
            row("0 1", 58.8, 28.7, scales=(0, 1)),
            row("0 1 2", 59.9, 31.0, scales=(0, 1, 2)),
            row("0 1 2 3", 59.5, 29.9, scales=(0, 1, 2, 3)),
            row("0 1 2 3 4", 59.3, 29.4, scales=(0, 1, 2, 3, 4)),
            row("1 2 3", 53.8, 26.4, scales=(1, 2, 3)),
        ),
        headings=HEADINGS,
    ),
    "clip-diy-4": Table(
        "clip-diy-4",
        "CLIP-DIY, table 4: who tells what is an object (mIoU, percent)",
        ("voc", WORLD),
        (
            row("FOUND-bkg", 48.4, None, saliency=SALIENCY["FOUND-bkg"]),
            row("FOUND", 59.9, None, saliency=SALIENCY["FOUND"]),
            Row("CutLER saliency", {"voc": 55.4}, not_run=CUTLER),
        ),
        headings=HEADINGS,
    ),
}
