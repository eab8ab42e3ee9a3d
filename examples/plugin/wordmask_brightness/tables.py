"""A table of this package's own: how far brightness alone goes, beside MaskCLIP, on the built-in world.

`wordmask tables brightness` prints it. No network knows less than the first row; a method should know more.
"""

from functools import partial

from wordmask.benchmarks.tables.base import Row, Table
from wordmask.benchmarks.tables.run import Run


def measure(run: Run, column: str, *, method: str, preset: str) -> float:
    """Return the mIoU of a method on a split of the world, in percent."""
    return run.evaluate(run.segmenter(method, preset), "world", column).miou


TABLES = {
    "brightness": Table(
        "brightness",
        "Names by brightness beside MaskCLIP (mIoU, percent)",
        ("single", "multi"),
        (
            Row("brightness", measure=partial(measure, method="brightness", preset="paper")),
            Row("MaskCLIP", measure=partial(measure, method="maskclip", preset="world")),
        ),
        pictures=60,
    )
}
