"""Every method on the built-in world: the papers' comparison where no weights and no data can be had."""

from functools import partial
from pathlib import Path
from typing import Any

from wordmask.benchmarks.tables.base import Row, Table
from wordmask.benchmarks.tables.run import Run
from wordmask_world.files.writing import write_folder

COLUMNS = ("single", "multi", "pairs", "all", "stuff")
"""The splits of the benchmark `world`; `stuff` is all of `world-stuff`, where nothing is background."""


ARCHIVE = 600
"""Pictures that names are learnt from, some 25 of each thing; drawn once, in a minute."""
ARCHIVE_SEED = 7
PICTURES = 60
"""Of each split: CLIP-DIY alone looks through 59 windows a picture, and the table is to take minutes on two cores."""


def measure(run: Run, column: str, *, method: str, **settings: Any) -> float | None:
    """mIoU in percent. A student knows its own names alone, and stuff is not among them."""
    if (method, column) == ("namedmask", "stuff"):
        return None
    segmenter = run.segmenter(method, "world", **settings)
    if column == "stuff":
        return run.evaluate(segmenter, "world-stuff").miou
    return run.evaluate(segmenter, "world", column).miou


def draw_archive(folder: Path) -> Path:
    """Draw pictures that no split holds, to learn names from; where they lie."""
    write_folder(folder, ARCHIVE, seed=ARCHIVE_SEED, image_format="png")
    return folder / "images"


def measure_reco(run: Run, column: str) -> float | None:
    """ReCo learns its names from pictures of the world, found by the world's CLIP."""
    return measure(run, column, method="reco", archive=draw_archive(run.folder / "world-archive"))


def row(label: str, method: str, **settings: Any) -> Row:
    return Row(label, measure=partial(measure, method=method, **settings))


TABLES = {
    "world": Table(
        "world",
        "Every method on the built-in world (mIoU, percent)",
        COLUMNS,
        (
            row("MaskCLIP, value path alone", "maskclip", residual=False),
            row("MaskCLIP, with residual and MLP", "maskclip", residual=True),
            row("MaskCLIP, with key smoothing", "maskclip", residual=True, key_smoothing=True),
            Row("ReCo", measure=measure_reco),
            row("CLIP-DIY", "clip-diy"),
            row("CLIP-DINOiser", "clip-dinoiser"),
            row("SelfMask + CLIP", "selfmask-clip"),
            row("NamedMask", "namedmask"),
            row("NamedMask, edges by PAMR", "namedmask", refine="pamr"),
        ),
        notes=(
            f"{PICTURES} pictures of each split, or as many as --pictures says. In `stuff`, those of `all` are asked "
            "for stuff too, and nothing is background.",
        ),
        pictures=PICTURES,
    )
}
