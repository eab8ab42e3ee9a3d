"""What commands that go through pictures share: which are still to be done, and what became of each."""

import errno
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from wordmask.cli.places import PlaceError, Places
from wordmask.console import LeftOut, complain
from wordmask.console.progress import CountAhead, progress_bar
from wordmask.errors import WordmaskError
from wordmask.files import is_special
from wordmask.masks.segmentation import NAMES_KEY
from wordmask.names.vocabulary import ROOM, Vocabulary
from wordmask.pictures.image_files import ONE_THAT_HOLDS_SOME, ImageReadError, opened
from wordmask.pictures.left_out import keep_left_out
from wordmask.runs.marks import Source, source_of


class SegmentError(WordmaskError):
    """Nothing to segment, or nowhere to put it."""


class BatchJob:
    """Pictures in turn, without those that are done. One that fails is named at once, and counted at the end; all that
    were left out or passed over are listed in `left-out.txt` beside the results. called: what messages call a picture
    that is not to be named by its path.
    """

    def __init__(
        self,
        places: Places,
        *,
        skip_done: bool,
        error: type[WordmaskError] = SegmentError,
        done: str = "segmented",
        called: Mapping[str, str] | None = None,
    ):
        missing = [image for image in places.images if not image.exists()]
        if missing and len(missing) == len(places.images):
            raise error(f"there is no {' and no '.join(map(str, missing))}")
        self.places, self.skip_done = places, skip_done
        self.done = self.skipped = self.failed = 0
        self._error, self._what, self._called = error, done, called or {}
        self._listed: list[tuple[str, str]] = []
        self._coming = places.pictures(self.leave_out, self._pass_over)
        self._named = LeftOut("name a folder as --out to have them listed")
        if places.left_out is not None:
            self._named.where = f"{places.left_out} lists them"

    def need_some(self) -> None:
        """End, where there is no picture at all. To be called before networks are loaded, as that takes a while."""
        first = next(self._coming, None)
        if first is None:
            self.finish()
        else:
            self._coming = chain([first], self._coming)

    def pictures(self) -> Iterator[Path]:
        for picture in self._coming:
            try:
                done = self.is_done(self.places.target(picture))
            except PlaceError as error:
                self.leave_out(error, str(picture))
                continue
            if done:
                self.skipped += 1
            else:
                yield picture

    def is_done(self, target: Path) -> bool:
        """Return whether the result is there, and pictures that are done are to be left out."""
        return self.skip_done and target.exists()

    def leave_out(self, error: WordmaskError, source: str = "") -> None:
        if isinstance(error, ImageReadError) and error.source in self._called:
            error = ImageReadError(self._called[error.source], error.reason)
        self.failed += 1
        self._named(error)
        if isinstance(error, ImageReadError):
            self._listed.append((error.source, error.reason))
        else:
            self._listed.append((source, str(error)))

    def _pass_over(self, error: ImageReadError) -> None:
        self._listed.append((error.source, error.reason))

    @contextmanager
    def progress(self, description: str) -> Iterator["BatchJob"]:
        """While it lasts, `tell_progress` is shown; the pictures are counted ahead of the work."""
        total = self.places.count()
        with progress_bar(description, total) as self._report, CountAhead(self._all()) as self._ahead:
            yield self

    def tell_progress(self) -> None:
        self._report(self.done + self.skipped + self.failed, self._ahead.total)

    def write(self, source: str, target: Path, write: Callable[[Source], None]) -> bool:
        """Write the result of a picture and count it; return False where it was left out instead.

        write: takes the source that a result is marked with. What it writes last says that the picture is done.
        """
        try:
            self.places.begin()
            write(source_of(Path(source), target))
        except WordmaskError as error:
            self.leave_out(error, source)
            return False
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            reason = f"{source}: its name is too long to add to ({target.name}); rename it"
            self.leave_out(self._error(reason), source)
            return False
        self.done += 1
        self.tell_progress()
        return True

    def _all(self) -> Iterator[Path]:
        return self.places.pictures(lambda _: None)

    def finish(self) -> None:
        """Raise the error to end with, where there is one."""
        where = self.places.left_out
        if self._listed:
            self.places.begin()
        if where is not None and not keep_left_out(where, self._listed):
            complain(f"note: {where} is not a list of wordmask's, so it stays, and what was left out is not listed")
            self._named.where, where = "they are not listed", None
        self._named.finish()
        if self.failed:
            listed = f"listed in {where}" if where is not None else "named above"
            raise self._error(f"{self.failed} of {self.done + self.failed} could not be {self._what}: {listed}")
        if not self.done and not self.skipped:
            raise self._error(f"no pictures found in {', '.join(map(str, self.places.images))}: {ONE_THAT_HOLDS_SOME}")


class MasksJob(BatchJob):
    """Masks are done if they are of the names that are asked for."""

    def __init__(
        self, places: Places, vocabulary: Vocabulary, *, skip_done: bool, called: Mapping[str, str] | None = None
    ):
        super().__init__(places, skip_done=skip_done, called=called)
        self._names = list(vocabulary.names)
        self._of_other_names = 0

    def is_done(self, target: Path) -> bool:
        if not super().is_done(target):
            return False
        is_done = names_in(target) == self._names
        self._of_other_names += not is_done
        return is_done

    def told_of_skipped(self) -> str:
        told = f"skipped: {self.skipped} done before"
        if self._of_other_names:
            told += f"; done anew: {self._of_other_names} with masks of other names, or none that can be read"
        return told


def names_in(path: Path) -> list[str] | None:
    """Return the names in masks that were saved; None where there are none to be read. A PNG's pixels are not
    decoded.
    """
    try:
        if is_special(path):
            return None
        if path.suffix.lower() == ".json":
            names = json.loads(path.read_bytes())["names"]
        else:
            with opened(path, str(path)) as file:
                names = json.loads(file.info[NAMES_KEY])
    except Exception:  # a file from elsewhere may hold anything anywhere
        return None
    return names if isinstance(names, list) else None


def tell_of_room(vocabulary: Vocabulary) -> None:
    if vocabulary.has_made_room:
        complain(f"note: {ROOM}; --fill gives every pixel one of the names")
