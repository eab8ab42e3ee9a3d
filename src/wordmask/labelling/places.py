"""What a picture's results are called: as the picture, below the same folders, and no two alike."""

from collections import Counter
from pathlib import Path

from wordmask.image_files import names_of_pictures


class ResultNames:
    """`a.jpg` gives `a`; beside `a.png` it gives `a.jpg`. One folder at a time is remembered."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        """taken: names of results that are kept though their pictures are gone, in small letters."""
        self._taken = taken
        self._folder: Path | None = None
        self._stems: Counter[str] = Counter()
        self._whole: set[str] = set()

    def of(self, root: Path, picture: Path) -> str:
        """The name for a picture, whose path is given below `root`; without a suffix, with /."""
        folder = root / picture.parent
        if folder != self._folder:
            names = names_of_pictures(folder)
            # Letters' case does not tell two results apart, as it does not on every disk.
            self._folder, self._whole = folder, {name.casefold() for name in names}
            self._stems = Counter(Path(name).stem.casefold() for name in names)
        stem = picture.stem
        # A stem may also be another's whole name: "a.png.jpg" beside "a.png".
        clear = self._stems[stem.casefold()] == 1 and stem.casefold() not in self._whole
        short = (picture.parent / stem).as_posix()
        return short if clear and short.casefold() not in self._taken else (picture.parent / picture.name).as_posix()
