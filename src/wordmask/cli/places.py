"""Which pictures a command works on, and where each one's results go."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import typer

from wordmask.console import complain
from wordmask.errors import WordmaskError
from wordmask.pictures.image_files import EXTENSIONS, ImageReadError, find_images, image_size, names_of_pictures
from wordmask.pictures.left_out import JPEG, LEFT_OUT, OVERLAY_ENDING
from wordmask.runs.claim import Marker, first_file, mark, note_results, read_marker
from wordmask.runs.marks import OVERLAY, check_output, is_same, made, source_of

OF_RESULTS = ("segment", "saliency")
"""The commands whose folders hold single results, beside which others may be put."""
FILE_SUFFIXES = (".png", ".json")
FOLDERS_REMEMBERED = 4


class PlaceError(WordmaskError):
    """Results cannot be put there."""


class Places:
    """Pictures and folders in, one result file a picture out; no two pictures share one, and none is written over.

    A single folder keeps its shape below `out`; of several inputs, every folder gets its own name below it.
    `photo.jpg` becomes `photo.png`, or `photo.jpg.png` where the folder has another picture called photo, or where
    `photo.png` is there and is anything but what the same command made of this picture.

    verb: the command. kind: what its results say that they are. overlays: whether each has one beside it. roots: of
    pictures that keep their folders below `out`, the folder that these are counted from.
    """

    def __init__(
        self,
        images: list[Path],
        out: Path,
        suffix: str,
        *,
        verb: str,
        kind: str,
        overlays: bool = False,
        file_suffixes: tuple[str, ...] = FILE_SUFFIXES,
        roots: Mapping[Path, Path] | None = None,
    ):
        self._roots = roots or {}
        images = [given for given in images if not (given in self._roots and _is_below(given, out))]
        self.images, self.out, self.suffix = images, out, suffix
        self.verb, self.kind, self.overlays = verb, kind, overlays
        self.as_file = out.suffix.lower() in file_suffixes and not out.is_dir()
        self._marked = self._noted = False
        self._names_in = lru_cache(maxsize=FOLDERS_REMEMBERED)(_names_in)
        self._real_out = out.resolve()
        folders = [given for given in images if given.is_dir()]
        if self.as_file and (len(images) != 1 or folders):
            raise PlaceError(f"--out {out} is one file, but there may be many pictures: give a folder")
        if not self.as_file and out.exists() and not out.is_dir():
            kinds = " or ".join(file_suffixes)
            raise PlaceError(f"--out {out} is a file that is there already: give a folder, or a new {kinds} file")
        if not self.as_file and out.suffix.lower() in EXTENSIONS and not out.is_dir():
            raise PlaceError(f"--out {out}: one file is {' or '.join(file_suffixes)}, anything else is a folder's name")
        self._below = {folder: _name_below(folder) if len(images) > 1 else "" for folder in folders}
        self._check_folders(folders)
        self._single = self._targets_of([given for given in images if not given.is_dir()])

    def pictures(
        self,
        on_bad: Callable[[ImageReadError], None] | None = None,
        on_passed: Callable[[ImageReadError], None] | None = None,
    ) -> Iterator[Path]:
        """Every picture in turn. What lies below `out` is a result, not a picture."""
        for given in self.images:
            if not given.is_dir():
                yield given
                continue
            for picture in find_images(given, on_bad, on_passed):
                if not picture.parent.resolve().is_relative_to(self._real_out):
                    yield picture

    def count(self) -> int | None:
        """Return how many pictures there are, where that needs no search through folders."""
        return None if self._below else len(self._single)

    @property
    def left_out(self) -> Path | None:
        """The file that lists what was left out; there is none beside results in a single file."""
        return None if self.as_file else self.out / LEFT_OUT

    def target(self, picture: Path) -> Path:
        """Return where the result of a picture is, or is to be."""
        first = self._first_choice(picture)
        if self.as_file or self._is_free(first, picture):
            return first
        second = first.with_name(f"{picture.name}.{self.suffix}")
        if second == first or not self._is_free(second, picture):
            raise PlaceError(f"{picture}: {second} is there already, and is no result of it: choose another --out")
        if not self._noted:
            self._noted = True
            complain(f"note: {first} is there already, and is no result of {picture}, which gets {second.name}")
        return second

    def overlay_of(self, target: Path) -> Path:
        return target.with_name(f"{target.stem}{OVERLAY_ENDING}.jpg")

    def begin(self) -> None:
        """Mark a new or empty folder as ours, as the first result is about to be written."""
        if self._marked:
            return
        self._marked = True
        if not self.as_file and first_file(self.out) is None and read_marker(self.out) is None:
            mark(self.out, Marker(self.verb))
        elif f".{self.suffix}" in JPEG:
            note_results(self.out.parent if self.as_file else self.out, self.verb)

    def _first_choice(self, picture: Path) -> Path:
        if picture in self._single:
            return self._single[picture]
        root = next(folder for folder in self._below if picture.is_relative_to(folder))
        name = self._names_in(picture.parent, self.suffix)[picture.name]
        return self.out / self._below[root] / picture.parent.relative_to(root) / name

    def _is_free(self, target: Path, picture: Path) -> bool:
        """Return whether nothing is there, or this command's own earlier result of the picture."""
        of = source_of(picture, target)
        if target.exists():
            found = made(target)
            if found is None:
                return self._is_own_folder and _is_damaged(target)
            if found.kind != self.kind:
                return False
            if found.of is None:
                return True  # of a version whose results said nothing of their pictures
            if not is_same(found.of, of, target):
                return False
        overlay = self.overlay_of(target)
        if not self.overlays or not overlay.exists():
            return True
        found = made(overlay)
        if found is None:
            return self._is_own_folder and _is_damaged(overlay)
        return found.kind == OVERLAY and found.of is not None and is_same(found.of, of, overlay)

    @property
    def _is_own_folder(self) -> bool:
        marker = None if self.as_file else read_marker(self.out, shared=False)
        return marker is not None and marker.verb == self.verb

    def _check_folders(self, folders: list[Path]) -> None:
        into = self._real_out.parent if self.as_file else self._real_out
        for place in (into, *into.parents):
            marker = read_marker(place, shared=False)
            if marker is not None:
                if marker.verb not in OF_RESULTS and first_file(into) is not None:
                    raise PlaceError(f"--out {self.out} is in a folder of `wordmask {marker.verb}`: choose another")
                break
        for folder in folders:
            if folder.resolve() == self._real_out:
                raise PlaceError(f"--out {self.out} is the folder of the pictures themselves: choose another")
            if folder.resolve().is_relative_to(self._real_out):
                raise PlaceError(
                    f"--out {self.out} holds the folder of the pictures, {folder}, and what lies in --out is taken for "
                    "a result, not for a picture: choose another"
                )
        for name, count in Counter(self._below.values()).items():
            if count > 1:
                raise PlaceError(f"{count} folders are called {name!r}; give the folder that holds them")

    def _targets_of(self, pictures: list[Path]) -> dict[Path, Path]:
        if self.as_file:
            targets = dict.fromkeys(pictures, self.out)
        else:
            targets = {}
            for folder, own in self._by_folder(pictures).items():
                names = _result_names(sorted({picture.name for picture in own}), self.suffix)
                targets |= {picture: self.out / folder / names[picture.name] for picture in own}
        owners: dict[Path, Path] = {}
        for picture, target in targets.items():
            if target in owners:
                raise PlaceError(
                    f"{owners[target]} and {picture} would both be written to {target}: give the folder that holds both"
                )
            owners[target] = picture
            if target.exists() and any(other.exists() and target.samefile(other) for other in pictures):
                raise PlaceError(
                    f"the result of {picture} would be written over a picture, {target}: choose another --out"
                )
        if self.as_file:
            check_output(self.out, self.kind)
            if self.overlays:
                check_output(self.overlay_of(self.out), OVERLAY)
        return targets

    def _by_folder(self, pictures: list[Path]) -> dict[Path, list[Path]]:
        """Single pictures by the folder below `out` that their results go to."""
        found: dict[Path, list[Path]] = {}
        for picture in pictures:
            root = self._roots.get(picture)
            folder = Path() if root is None else Path(os.path.relpath(picture.parent, root))
            found.setdefault(folder, []).append(picture)
        return found


def _is_below(picture: Path, out: Path) -> bool:
    return picture.parent.resolve().is_relative_to(out.resolve())


def format_of(out: Path, chosen: str | None, formats: tuple[str, ...], suffixes: tuple[str, ...]) -> str:
    """Return what --format says, or the suffix of --out, which must not disagree."""
    told = out.suffix.lower().lstrip(".") if out.suffix.lower() in suffixes and not out.is_dir() else None
    if chosen is not None and chosen not in formats:
        raise typer.BadParameter(f"--format is {' or '.join(formats)}, not {chosen!r}")
    if told and chosen and told != chosen:
        raise typer.BadParameter(f"--out {out} and --format {chosen} disagree")
    return told or chosen or formats[0]


def _is_damaged(file: Path) -> bool:
    """Return whether a file is nothing that anybody could have use of: a result that was cut short or spoilt."""
    try:
        if file.suffix.lower() == ".json":
            json.loads(file.read_bytes())
        else:
            image_size(file)
    except (ImageReadError, ValueError, RecursionError):
        return True
    return False


def _name_below(folder: Path) -> str:
    return folder.resolve().name


def _names_in(folder: Path, suffix: str) -> dict[str, str]:
    """For every picture of a folder, the name of its result."""
    return _result_names(names_of_pictures(folder), suffix)


def _result_names(names: list[str], suffix: str) -> dict[str, str]:
    """Names of pictures -> names of results, all different: the stem, or the whole name where stems would collide.

    Letters' case does not tell two results apart, as it does not on every disk.
    """
    whole: set[str] = set()
    while True:
        results = {name: f"{name if name in whole else Path(name).stem}.{suffix}" for name in names}
        counts = Counter(result.casefold() for result in results.values())
        clashing = {name for name, result in results.items() if counts[result.casefold()] > 1} - whole
        if not clashing:
            return results
        whole |= clashing
