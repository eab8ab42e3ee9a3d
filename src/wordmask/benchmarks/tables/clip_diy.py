"""CLIP-DIY's tables: the comparison, what its parts are worth, its scales, who tells it what is an object.

Beside the paper's two benchmarks stands the built-in world, at the same scales for its size, with a CLIP, a DINO and a
FOUND of its own.
"""

from functools import partial
from typing import Any

from wordmask.benchmarks.tables.base import Measure, Table
from wordmask.benchmarks.tables.published import rows
from wordmask.benchmarks.tables.run import Run

WORLD = "world"
COLUMNS = ("voc", "coco-object", WORLD)
HEADINGS = {"voc": "VOC", "coco-object": "COCO"}
SCALES = {"paper": (256, 128, 64, 32, 16), WORLD: (128, 64, 32, 16, 8)}
"""Windows of the scales 0 to 4, by preset; each halves the one before. In the world the first is the whole picture."""
CHOICES_OF_SCALES = ((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3))
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


def parts(**settings: Any) -> Measure:
    return partial(measure, **settings)


TABLES = {
    table.name: table
    for table in (
        Table(
            "clip-diy-1",
            "CLIP-DIY, table 1: zero-shot open-vocabulary segmentation (mIoU, percent)",
            COLUMNS,
            rows(
                "clip_diy",
                "clip-diy-1",
                {"CLIP-DIY, ViT-B/16": parts(clip="ViT-B-16/laion2b_s34b_b88k"), "CLIP-DIY": parts()},
            ),
            headings=HEADINGS,
        ),
        Table(
            "clip-diy-2",
            "CLIP-DIY, table 2: what its parts are worth (mIoU, percent)",
            COLUMNS,
            rows(
                "clip_diy",
                "clip-diy-2",
                {
                    "CLIP-DIY": parts(),
                    "w/o multi-scale": parts(scales=(0,)),
                    "w/o objectness": parts(saliency="none"),
                },
            ),
            headings=HEADINGS,
        ),
        Table(
            "clip-diy-3",
            "CLIP-DIY, table 3: its scales (mIoU, percent)",
            COLUMNS,
            rows(
                "clip_diy",
                "clip-diy-3",
                {" ".join(map(str, scales)): parts(scales=scales) for scales in CHOICES_OF_SCALES},
            ),
            headings=HEADINGS,
        ),
        Table(
            "clip-diy-4",
            "CLIP-DIY, table 4: who tells what is an object (mIoU, percent)",
            ("voc", WORLD),
            rows(
                "clip_diy",
                "clip-diy-4",
                {label: parts(saliency=saliency) for label, saliency in SALIENCY.items()},
                not_run={"CutLER saliency": CUTLER},
            ),
            headings=HEADINGS,
        ),
    )
}
