"""What every segmenter can do, however it does it.

Looking and asking are apart: `look` runs the network once, and what was seen answers any number of questions about
names, each in milliseconds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.image_files import ImageReadError, name_of
from wordmask.images import ImageSource, read_image
from wordmask.segmentation import Segmentation
from wordmask.streaming import Read, many_pictures, read_ahead
from wordmask.vocabulary import Vocabulary

Names = Vocabulary | Sequence[str] | Mapping[str, Any]


class SegmenterError(WordmaskError):
    """This segmenter cannot be set up so, or cannot answer this."""


class MissingWeightsError(SegmenterError):
    """A preset brings no weights of its own, and none were given."""


class Seen(ABC):
    """One picture after the network has looked at it."""

    def __init__(self, image: np.ndarray, source: str):
        self.image = image  # (H, W, 3) uint8
        self.source = source

    @abstractmethod
    def segment(self, names: Names) -> Segmentation:
        """Every pixel's name among `names`, at the picture's own size. No network runs for the picture."""


class Segmenter(ABC):
    """Picture + names -> `Segmentation`."""

    method: ClassVar[str]
    preset: str = "custom"
    precision: str = "fp32"
    """What the networks compute with, "fp32" or "bf16"."""

    @abstractmethod
    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        """Run the network on pictures (H, W, 3) uint8 of any sizes, together where their sizes allow."""

    def look(self, image: ImageSource) -> Seen:
        """Run the network on one picture; ask the result for names as often as you like."""
        return self.look_many([read_image(image)], [name_of(image)])[0]

    def segment(self, image: ImageSource, names: Names) -> Segmentation:
        """`look` and one question."""
        return self.look(image).segment(names)

    def segment_many(
        self,
        images: Iterable[ImageSource],
        names: Names,
        *,
        batch_size: int = 8,
        on_bad: Callable[[ImageReadError], None] | None = None,
        max_pixels: int | None = None,
    ) -> Iterator[Segmentation]:
        """Segment a stream of any length, in its order and in bounded memory; files are read ahead in threads.

        A picture that cannot be read is left out: it is handed to `on_bad`, or named in a warning. `source` of each
        result says which picture it is. An error of the stream's own comes after the results of all before it.
        """
        stream = many_pictures(images, batch_size, taker="segment_many", of_one="segment", error=SegmenterError)
        batches = read_ahead(stream, batch_size, on_bad=on_bad, max_pixels=max_pixels)
        return self._segment_batches(batches, Vocabulary.of(names))

    def _segment_batches(self, batches: Iterator[list[Read]], vocabulary: Vocabulary) -> Iterator[Segmentation]:
        for batch in batches:
            for seen in self.look_many([read.image for read in batch], [read.source for read in batch]):
                yield seen.segment(vocabulary)
