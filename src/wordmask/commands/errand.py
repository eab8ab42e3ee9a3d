"""What commands that go through pictures share: which are still to be done, and what became of each."""

from collections.abc import Iterator
from pathlib import Path

from wordmask.cli import complain
from wordmask.commands.places import PlaceError, Places
from wordmask.errors import WordmaskError
from wordmask.vocabulary import Vocabulary


class SegmentError(WordmaskError):
    """Nothing to segment, or nowhere to put it."""


class Errand:
    """Pictures in turn, without those that are done. One that fails is named at once and counted at the end."""

    def __init__(self, places: Places, *, skip_done: bool):
        missing = [image for image in places.images if not image.exists()]
        if len(missing) == len(places.images):
            raise SegmentError(f"there is no {' and no '.join(map(str, missing))}")
        self.places, self.skip_done = places, skip_done
        self.done = self.skipped = self.failed = 0

    def pictures(self) -> Iterator[Path]:
        for picture in self.places.pictures(self.leave_out):
            try:
                done = self.is_done(self.places.target(picture))
            except PlaceError as error:
                self.leave_out(error)
                continue
            if done:
                self.skipped += 1
            else:
                yield picture

    def is_done(self, target: Path) -> bool:
        """Whether the result is there, and pictures that are done are to be left out."""
        return self.skip_done and target.exists()

    def leave_out(self, error: WordmaskError) -> None:
        self.failed += 1
        complain(f"left out: {error}")

    @property
    def seen(self) -> int:
        return self.done + self.skipped + self.failed

    def finish(self) -> None:
        """The error to end with, where there is one."""
        if self.failed:
            raise SegmentError(
                f"{self.failed} of {self.done + self.failed} could not be segmented; they are named above"
            )
        if not self.done and not self.skipped:
            raise SegmentError(f"no pictures found in {', '.join(map(str, self.places.images))}")


def hint_at_background(vocabulary: Vocabulary) -> None:
    if len(vocabulary) == 1 and vocabulary.background is None:
        complain(
            f"note: {vocabulary.names[0]!r} is the only name, so it takes every pixel; add background to leave room "
            f'for the rest: --names "{vocabulary.names[0]}, background"'
        )
