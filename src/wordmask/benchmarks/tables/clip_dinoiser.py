"""CLIP-DINOiser's tables: the comparison on eight benchmarks, how features are pooled, how background is found.

Beside them stand benchmarks that plug-ins draw: those where nothing is background, and those with background.
"""

from functools import partial
from typing import Any

from wordmask.benchmarks.protocols import OWN, settings_under
from wordmask.benchmarks.tables.base import Measure, Table, archive_of
from wordmask.benchmarks.tables.beside import archive_beside, drawn, has_preset, is_beside, preset_of
from wordmask.benchmarks.tables.published import rows
from wordmask.benchmarks.tables.run import Run

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
PROTOCOL = "clip-dinoiser"
"""Of all rows but CLIP-DIY's, which has a way of its own to look at pictures."""
TABLE_1 = (*NO_BACKGROUND, *BACKGROUND)
TABLE_2A = ("voc", "voc20", "context59", "coco-stuff", "ade20k")
TABLE_2B = ("coco-object", "voc")


def measure(run: Run, column: str, *, method: str, **settings: Any) -> float | None:
    """mIoU in percent."""
    preset = preset_of(column)
    if not has_preset(method, preset):
        return None
    protocol = OWN if is_beside(column) or method == "clip-diy" else PROTOCOL
    under = settings_under(protocol, method, column, preset=preset)
    benchmark = run.open(column)  # first: where there are no data, no weights need be fetched
    segmenter = run.segmenter(method, preset, **{**under, **settings})
    return run.evaluate(segmenter, benchmark, protocol=protocol).miou


def measure_filtered(run: Run, column: str) -> float | None:
    """CLIP-DINOiser as a whole: its background filter only where the paper has it."""
    filtered = {"background": "trained" if column in drawn("background") else "none"} if is_beside(column) else {}
    return measure(run, column, method="clip-dinoiser", **filtered)


def measure_reco(run: Run, column: str) -> float | None:
    """Names beside the paper's are learnt from pictures drawn like those that are measured, the others from those of
    --archive.
    """
    benchmark = run.open(column)
    if not is_beside(column):
        under = settings_under(PROTOCOL, "reco", column)
        segmenter = run.segmenter("reco", archive=archive_of(run), **under)
        return run.evaluate(segmenter, benchmark, protocol=PROTOCOL).miou
    archive = archive_beside(column, run.folder)
    if archive is None or not has_preset("reco", preset_of(column)):
        return None
    return run.evaluate(run.segmenter("reco", preset_of(column), archive=archive), benchmark).miou


def maskclip(*, key_smoothing: bool = False) -> Measure:
    return partial(measure, method="maskclip", residual=True, key_smoothing=key_smoothing)


def clip_dinoiser(affinity: str, background: str) -> Measure:
    return partial(measure, method="clip-dinoiser", affinity=affinity, background=background)


TABLES = {
    table.name: table
    for table in (
        Table(
            "clip-dinoiser-1",
            "CLIP-DINOiser, table 1: open-vocabulary segmentation (mIoU, percent)",
            TABLE_1,
            rows(
                "clip_dinoiser",
                "clip-dinoiser-1",
                {
                    "ReCo": measure_reco,
                    "CLIP-DIY": partial(measure, method="clip-diy"),
                    "MaskCLIP": maskclip(),
                    "MaskCLIP, refined": maskclip(key_smoothing=True),
                    "CLIP-DINOiser": measure_filtered,
                },
            ),
            notes=(
                "CLIP-DIY looks at pictures in its own way, through windows of several sizes; the other rows of ours "
                f"under the protocol {PROTOCOL}.",
            ),
            headings=HEADINGS,
            beside=("stuff", "background"),
        ),
        Table(
            "clip-dinoiser-2a",
            "CLIP-DINOiser, table 2a: how features are pooled, without background filtering (mIoU, percent)",
            TABLE_2A,
            rows(
                "clip_dinoiser",
                "clip-dinoiser-2a",
                {
                    "MaskCLIP": maskclip(),
                    "CLIP keys (predictions)": maskclip(key_smoothing=True),
                    "CLIP keys": clip_dinoiser("clip-keys", "none"),
                    "DINO's affinity": clip_dinoiser("dino", "none"),
                    "trained affinity": clip_dinoiser("trained", "none"),
                },
            ),
            headings=HEADINGS,
            beside=("background", "stuff"),
        ),
        Table(
            "clip-dinoiser-2b",
            "CLIP-DINOiser, table 2b: how background is found (mIoU, percent)",
            TABLE_2B,
            rows(
                "clip_dinoiser",
                "clip-dinoiser-2b",
                {
                    "MaskCLIP": maskclip(),
                    "DINO's affinity": clip_dinoiser("dino", "none"),
                    "DINO's affinity, FOUND alone": clip_dinoiser("dino", "found-alone"),
                    "DINO's affinity, FOUND where unsure": clip_dinoiser("dino", "found"),
                    "DINO's affinity, trained objectness": clip_dinoiser("dino", "trained"),
                    "trained affinity, trained objectness": clip_dinoiser("trained", "trained"),
                },
            ),
            headings=HEADINGS,
            beside=("background",),
        ),
    )
}
