"""What can be wrong with a table, and which errors leave a cell empty and the table going."""

from wordmask.benchmarks.datasets import MissingDataError
from wordmask.errors import WordmaskError
from wordmask.extras import MissingExtraError
from wordmask.segmenters.base import MissingWeightsError
from wordmask.weights.catalogue import CatalogueError
from wordmask.weights.checkpoints import WeightsError
from wordmask.weights.download import DownloadError


class TableError(WordmaskError):
    """No such table, or a folder of figures that are not this table's."""


class NotRunError(WordmaskError):
    """A cell needs something that is not here; the message says what, and how to get it."""


MISSING = (
    NotRunError,
    MissingDataError,
    MissingExtraError,
    MissingWeightsError,
    WeightsError,
    DownloadError,
    CatalogueError,
)
"""Errors that leave a cell empty, with their message as the reason. All others stop the table."""
