"""What every segmenter can do, however it does it.

Looking and asking are apart: `look` runs the network once, and what was seen answers any number of questions about
names, each in milliseconds.

Where "background" is not among the names, room is made for what none of them names: it is added as the last name, and
the method finds it in its own way. Besides, names that are few race against concepts (`contrast`), and what those win
is background. `fill` says no to both: then every pixel bears one of the names.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wordmask.errors import WordmaskError
from wordmask.masks.segmentation import Segmentation
from wordmask.methods import Declared
from wordmask.names.contrast import Concepts, Contrast, rivals, shipped
from wordmask.names.vocabulary import BACKGROUND, Rivals, Vocabulary
from wordmask.pictures.image_files import ImageReadError, name_of
from wordmask.pictures.images import ImageSource, read_image
from wordmask.pictures.reduced import Picture, Reduced, reduced, size_of
from wordmask.pictures.streaming import Read, many_pictures, read_ahead
from wordmask.regions.base import RegionMaker, region_map
from wordmask.regions.correction import correct
from wordmask.text_files import shown

if TYPE_CHECKING:
    from torch import Tensor

Names = Vocabulary | Sequence[str] | Mapping[str, Any]


class SegmenterError(WordmaskError):
    """This segmenter cannot be set up so, or cannot answer this."""


class MissingWeightsError(SegmenterError):
    """A preset brings no weights of its own, and none were given."""


class Seen(ABC):
    """One picture after the network has looked at it."""

    correction: RegionMaker | None = None
    """The segmenter's; see there."""
    read_picture: Callable[[], np.ndarray] | None = None
    """Reads the picture itself where it is asked for after all, of what was seen again."""

    def __init__(self, picture: Picture, source: str):
        self.size = size_of(picture)
        self.source = source
        self._image = None if isinstance(picture, Reduced) else picture

    @property
    def image(self) -> np.ndarray:
        """The picture itself, (H, W, 3) uint8."""
        if self._image is None and self.read_picture is not None:
            self._image = self.read_picture()
        if self._image is None:
            raise SegmenterError(f"{shown(self.source)} was handed in reduced: its own pixels are not here")
        return self._image

    _segmenter: Any = None
    """Who has looked, for what it knows of words."""

    @cached_property
    def regions(self) -> np.ndarray:
        """The picture's regions by which answers are corrected, (H, W) int32, made once."""
        if self.correction is None:
            raise SegmenterError(f"{shown(self.source)} has no regions: load the segmenter with correct=...")
        return region_map(self.correction, self.image)

    def segment(
        self,
        names: Names,
        *,
        fill: bool = False,
        contrast: Contrast = "auto",
        min_score: float = 0.0,
        drop_absent: float = 0.0,
    ) -> Segmentation:
        """Return every pixel's name, at the picture's own size. No network runs for the picture.

        fill: every pixel bears one of the names. Without it "background" is added, if it is not among them.
        contrast: what the names race against where background was added: "concepts" are those that are known for them,
        if they are few; "auto" the same where that is known to help; "none"; or a file of `wordmask contrast build`.
        Words of your own ("not these") race beside any background.
        min_score: what scores less becomes background. On what scale is the method's own affair.
        drop_absent: names that less than this share of the pixels bears are taken for absent, and the rest is asked for
        again without them. They stay in the result's `names`.
        """
        vocabulary = contrasted(asked(names, fill, min_score, drop_absent), contrast, self._segmenter)
        result = self._raced(vocabulary)
        if drop_absent:
            result = self._without_absent(result, vocabulary, drop_absent)
        if min_score:
            result = result.rejecting(min_score)
        return result if self.correction is None else correct(result, self.regions)

    def in_text_space(self) -> "Tensor | None":
        """Return what was seen in the space of CLIP's texts, of length 1 on a grid that spreads over the picture,
        (D, h, w); None of a method that has nothing there.
        """
        return None

    def _raced(self, vocabulary: Vocabulary) -> Segmentation:
        """Answer with the names alone; what rivals win is background."""
        racing, background = vocabulary.racing(), vocabulary.background
        result = self.answer(racing)
        if not racing.is_racing or background is None:
            return result
        labels = result.labels.copy()
        labels[labels == len(vocabulary)] = background
        return replace(result, labels=labels, names=list(vocabulary.names))

    def kept(self) -> dict[str, "Tensor"]:
        """Return all that answers hang on beside the names, of which `Segmenter.see_again` makes the same again."""
        raise SegmenterError(f"what {type(self).__name__} holds cannot be kept: it has no `kept`")

    @abstractmethod
    def answer(self, vocabulary: Vocabulary) -> Segmentation:
        """Return every pixel's name among these and no others, as the paper does."""

    def _without_absent(self, result: Segmentation, vocabulary: Vocabulary, share: float) -> Segmentation:
        present = set(result.present(min_share=share))
        there = [i for i, name in enumerate(vocabulary.names) if name in present or i == vocabulary.background]
        if len(there) == len(vocabulary):
            return result
        if not there:  # no name has as much, and there is no background: the largest has to do
            there = [max(range(len(vocabulary)), key=lambda i: result.pixels[vocabulary.names[i]])]
        again = self._raced(vocabulary.only(there))
        labels = np.array(there, result.labels.dtype)[again.labels]
        return replace(again, labels=labels, names=list(vocabulary.names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self.source)}, {self.size[1]} x {self.size[0]})"


def asked(names: Names, fill: bool, min_score: float, drop_absent: float) -> Vocabulary:
    """Return the names as they are asked for, or refuse what cannot be done."""
    vocabulary = Vocabulary.of(names) if fill else Vocabulary.of(names).with_room()
    for what, share in (("min_score", min_score), ("drop_absent", drop_absent)):
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise SegmenterError(f"{what} is a number between 0 and 1, not {shown(share)}")
    if min_score and vocabulary.background is None:
        raise SegmenterError("min_score needs a background for what scores less: name it, or leave out fill")
    return vocabulary


def contrasted(vocabulary: Vocabulary, contrast: Contrast, segmenter: "Segmenter | None") -> Vocabulary:
    """Return the names with all that they race against, in a segmenter's words: those for a background that was added,
    and rivals. What has been settled already stays.
    """
    if vocabulary.rivals is not None:
        return vocabulary
    if segmenter is None:
        found = rivals(contrast, vocabulary, usual=None)
        words: tuple[str, ...] = (BACKGROUND,)
    else:
        found, words = segmenter.rivals(contrast, vocabulary), segmenter.background_words
    are_given = bool(found.words) and not found.doubtful
    if are_given and vocabulary.background is None:
        raise SegmenterError("contrast needs a background for what it wins: name it, or leave out fill")
    if are_given and segmenter is not None and segmenter.concepts is None:
        raise SegmenterError(f"{segmenter.method} knows no words but its own names: leave out contrast")
    if not vocabulary.has_made_room:
        return replace(vocabulary, rivals=found) if are_given else vocabulary
    if len(words) > 1:  # it chooses by words what is background, and rivals are more of them
        more = tuple(word for word in found.words if word not in words)
        return replace(vocabulary.worded((*words, *more)), rivals=Rivals((), found.doubtful - {*words}))
    return replace(vocabulary.worded(words), rivals=found)


class Segmenter(Declared, ABC):
    """Picture + names -> `Segmentation`."""

    correction: RegionMaker | None = None
    """What makes the regions, each of which takes the name that most of its pixels bear; None leaves names as they are
    found. `load(..., correct=...)` sets it."""

    given_concepts: Concepts | None = None
    """A user's own, in place of those that are known; a service is given them once for all who ask."""

    @property
    def concepts(self) -> Concepts | None:
        """What few names are held against: concepts of its text tower, or those of the benchmarks' names. None of a
        method that cannot be asked for any word.
        """
        embed = getattr(self, "embed", None)
        if embed is None:
            return None
        return self.given_concepts or getattr(getattr(embed, "encoder", None), "concepts", None) or shipped()

    @property
    def note(self) -> str | None:
        """What whoever reads figures of it must know, such as that it has learnt from a person's masks."""
        return None

    background_competes: ClassVar[bool] = False
    """Whether "background" is read in words, as other names are, although there is a `background_threshold`."""

    @property
    def races_alone(self) -> bool:
        """Return whether "auto" holds a single name against concepts: where IoU-single rises (docs/names.md)."""
        return True

    @property
    def sees_objects(self) -> bool:
        """Return whether it tells things from what lies behind them without words for it."""
        return False

    def rivals(self, contrast: Contrast, vocabulary: Vocabulary) -> Rivals:
        """Return what names are to race against beside the background's own words."""
        embed = getattr(self, "embed", None)
        return rivals(
            contrast,
            vocabulary,
            usual=self.concepts,
            grounds=getattr(getattr(embed, "encoder", None), "grounds", ()),
            sees_objects=self.sees_objects,
            reads_background=self.background_competes,
            races_alone=self.races_alone or self.given_concepts is not None,
            nearest=getattr(embed, "nearest", None),
        )

    @property
    def background_words(self) -> tuple[str, ...]:
        """What is read for a background that nobody worded.

        The papers' bare word is enough for a method that sees what is an object. One that can but choose among names
        needs others to choose from.
        """
        return (BACKGROUND,)

    @abstractmethod
    def look_many(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        """Run the network on pictures (H, W, 3) uint8 of any sizes, together where their sizes allow."""

    def see(self, images: Sequence[np.ndarray], sources: Sequence[str]) -> list[Seen]:
        """`look_many`, with what answers are corrected by. Everything that asks for names goes this way."""
        seen = self.look_many(images, sources)
        for view in seen:
            view.correction = self.correction
        return seen

    def see_again(self, kept: "Mapping[str, Tensor]", size: tuple[int, int], source: str) -> Seen:
        """Return what was seen of a picture (H, W), from what `Seen.kept` gave; no network runs."""
        raise SegmenterError(f"{self.method} cannot take up what it saw: it has no `see_again`")

    def input_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the smaller size at which a picture is read, where no more of it is needed; else None."""
        return None

    def reduce(self, image: np.ndarray) -> Picture:
        """Return what `look_many` needs of a picture, for those who would not keep all of it: the same is seen."""
        size = self.input_size(*size_of(image))
        return image if size is None else reduced(image, size)

    def look(self, image: ImageSource) -> Seen:
        """Run the network on one picture; ask the result for names as often as you like."""
        return self.see([read_image(image)], [name_of(image)])[0]

    def segment(
        self,
        image: ImageSource,
        names: Names,
        *,
        fill: bool = False,
        contrast: Contrast = "auto",
        min_score: float = 0.0,
        drop_absent: float = 0.0,
    ) -> Segmentation:
        """`look` and one question; see `Seen.segment`."""
        vocabulary = contrasted(asked(names, fill, min_score, drop_absent), contrast, self)
        seen = self.look(image)
        return seen.segment(vocabulary, fill=fill, contrast=contrast, min_score=min_score, drop_absent=drop_absent)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method}, preset {self.preset}, {self.precision})"

    def segment_many(
        self,
        images: Iterable[ImageSource],
        names: Names,
        *,
        fill: bool = False,
        contrast: Contrast = "auto",
        min_score: float = 0.0,
        drop_absent: float = 0.0,
        batch_size: int = 8,
        on_bad: Callable[[ImageReadError], None] | None = None,
        max_pixels: int | None = None,
    ) -> Iterator[Segmentation]:
        """Segment a stream of any length, in its order and in bounded memory; files are read ahead in threads.

        fill, contrast, min_score, drop_absent: see `Seen.segment`.

        A picture that cannot be read is left out: it is handed to `on_bad`, or named in a warning. `source` of each
        result says which picture it is. An error of the stream's own comes after the results of all before it.
        """
        views = self.view_many(images, batch_size=batch_size, on_bad=on_bad, max_pixels=max_pixels)
        vocabulary = contrasted(asked(names, fill, min_score, drop_absent), contrast, self)
        return (seen.segment(vocabulary, fill=fill, min_score=min_score, drop_absent=drop_absent) for seen in views)

    def view_many(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 8,
        on_bad: Callable[[ImageReadError], None] | None = None,
        max_pixels: int | None = None,
    ) -> Iterator[Seen]:
        """Look at a stream of any length as `segment_many` does, and ask nothing yet."""
        stream = many_pictures(images, batch_size, taker="segment_many", of_one="segment", error=SegmenterError)
        return self._view_batches(read_ahead(stream, batch_size, on_bad=on_bad, max_pixels=max_pixels))

    def _view_batches(self, batches: Iterator[list[Read]]) -> Iterator[Seen]:
        for batch in batches:
            yield from self.see([read.image for read in batch], [read.source for read in batch])
