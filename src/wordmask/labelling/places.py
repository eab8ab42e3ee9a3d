"""What a picture's results are called: as the picture, below the same folders, and no two alike."""

from collections import Counter
from itertools import chain, count
from pathlib import Path

from wordmask.pictures.image_files import names_of_pictures


class ResultNames:
    """`a.jpg` gives `a`; beside `a.png` it gives `a.jpg`, or `a.jpg~2` where that is taken. One folder at a time is
    remembered.
    """

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        """taken: names of results that are kept though their pictures are gone, in small letters."""
        self._taken = taken
        self._folder: Path | None = None
        self._stems: Counter[str] = Counter()
        self._whole: set[str] = set()

    def of(self, root: Path, picture: Path) -> str:
        """Return the name for a picture, whose path is given below `root`; without a suffix, with /."""
        folder = root / picture.parent
        if folder != self._folder:
            names = names_of_pictures(folder)
            # Letters' case does not tell two results apart, as it does not on every disk.
            self._folder, self._whole = folder, {name.casefold() for name in names}
            self._stems = Counter(Path(name).stem.casefold() for name in names)
        stem = picture.stem
        # A stem may also be another's whole name: "a.png.jpg" beside "a.png".
        clear = self._stems[stem.casefold()] == 1 and stem.casefold() not in self._whole
        further = (f"{picture.name}~{number}" for number in count(2))
        for name in chain([stem] if clear else [], [picture.name], filter(self._is_nobodys, further)):
            whole = (picture.parent / name).as_posix()
            if whole.casefold() not in self._taken:
                return whole
        raise AssertionError("numbers have no end")

    def _is_nobodys(self, name: str) -> bool:
        return name.casefold() not in self._whole and name.casefold() not in self._stems
