"""CLIP-DIY's tables: the comparison, what its parts are worth, its scales, who tells it what is an object.

Beside the paper's two benchmarks stand those that plug-ins draw, at the same scales for their size, with a CLIP, a DINO
and a FOUND of their own.
"""

from functools import partial
from typing import Any

from wordmask.benchmarks.tables.base import Measure, Table
from wordmask.benchmarks.tables.beside import has_preset, is_beside, preset_of
from wordmask.benchmarks.tables.published import rows
from wordmask.benchmarks.tables.run import Run
from wordmask.methods import settings_of

COLUMNS = ("voc", "coco-object")
HEADINGS = {"voc": "VOC", "coco-object": "COCO"}
CHOICES_OF_SCALES = ((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3))
SALIENCY = {"FOUND-bkg": "seed", "FOUND": "found"}
CUTLER = (
    "CutLER's network is no part of this package; ClipDiy(clip, objectness=InstanceSaliency(find).maps) takes what any "
    "instance segmenter finds"
)


def measure(run: Run, column: str, *, scales: tuple[int, ...] = (0, 1, 2), **settings: Any) -> float | None:
    """mIoU in percent with windows of these scales."""
    preset = preset_of(column)
    if (is_beside(column) and "clip" in settings) or not has_preset("clip-diy", preset):
        return None  # the paper's CLIPs know nothing of drawn pictures
    first = settings_of("segmenter", "clip-diy", preset).windows[0]
    windows = tuple(first // 2**scale for scale in scales)  # each halves the one before
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
            beside=("background",),
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
            beside=("background",),
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
            beside=("background",),
        ),
        Table(
            "clip-diy-4",
            "CLIP-DIY, table 4: who tells what is an object (mIoU, percent)",
            ("voc",),
            rows(
                "clip_diy",
                "clip-diy-4",
                {label: parts(saliency=saliency) for label, saliency in SALIENCY.items()},
                not_run={"CutLER saliency": CUTLER},
            ),
            headings=HEADINGS,
            beside=("background",),
        ),
    )
}
