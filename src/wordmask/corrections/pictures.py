"""Which picture of a folder another tool's file speaks of, and what a person's masks of it become."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np

from wordmask.corrections.file import ACCEPTED, Correction, CorrectionsError, MaskVerdict
from wordmask.fingerprints import file_digest
from wordmask.masks.run_lengths import encoded_mask
from wordmask.pictures.image_files import ImageReadError, find_images, image_size
from wordmask.pictures.images import MAX_PIXELS_VARIABLE, pixel_limit
from wordmask.text_files import shown

_UPLOADED = re.compile("[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded picture."""


@dataclass(frozen=True)
class Known:
    """A picture that is there. path: below the folder, with /."""

    path: str
    file: Path
    size: tuple[int, int]  # (H, W)

    def corrected(self, masks: Sequence[tuple[str, np.ndarray]]) -> Correction:
        """Return what a person's masks, (H, W) bool each, say of it: they are all there is of the names."""
        verdicts = tuple(
            MaskVerdict(name, encoded_mask(mask)["counts"], ACCEPTED) for name, mask in masks if mask.any()
        )
        return Correction(self.path, file_digest(self.file), self.size, ACCEPTED, verdicts)

    def check_size(self, source: Path, size: Sequence[int]) -> None:
        if tuple(size) != self.size:
            raise CorrectionsError(
                f"{source}: {shown(self.path)} is said to have {shown(size[1])} x {shown(size[0])} pixels, and "
                f"{self.file} has {self.size[1]} x {self.size[0]}: give the folder of the very pictures"
            )


class Pictures:
    """Those of a folder and below it. Nothing outside is looked at, whatever a file says."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._root = folder.resolve()

    def find(self, told: str) -> Known | None:
        """Return the picture that has this path below the folder, or else the only one with its last name."""
        path = PurePosixPath(told.replace("\\", "/"))
        parts = [part for part in path.parts if part != "/"]
        if not parts or ".." in parts or "\0" in told:
            return None
        for start in range(len(parts)):  # a path may begin above the folder
            below = "/".join(parts[start:])
            file = self.folder / below
            if (start < len(parts) - 1 or len(parts) == 1) and self._is_inside(file):
                return self._known(below, file)
        for name in dict.fromkeys((parts[-1], _UPLOADED.sub("", parts[-1], count=1))):
            found = self._by_name.get(name, [])
            if len(found) == 1:
                return self._known(found[0].relative_to(self.folder).as_posix(), found[0])
        return None

    def find_url(self, url: str) -> Known | None:
        """Return the picture of a URL, or of one that serves local files (`...?d=PATH`)."""
        _, is_local, path = url.partition("?d=")
        return self.find(unquote(path if is_local else url.partition("?")[0].partition("://")[2] or url))

    def find_stem(self, stem: str) -> Known | None:
        """Return the only picture whose name without its suffix is this, or whose whole name is."""
        found = self._by_stem.get(stem) or self._by_path.get(stem, [])
        return self._known(found[0].relative_to(self.folder).as_posix(), found[0]) if len(found) == 1 else None

    def _is_inside(self, file: Path) -> bool:
        try:
            return file.is_file() and file.resolve().is_relative_to(self._root)
        except (OSError, ValueError):  # a name that is too long, or no name at all
            return False

    def _known(self, path: str, file: Path) -> Known:
        try:
            size = image_size(file)
        except ImageReadError as error:
            raise CorrectionsError(str(error)) from error
        if size[0] * size[1] > (most := pixel_limit(None)):
            raise CorrectionsError(
                f"{file}: has {size[0] * size[1]:,} pixels, above the limit of {most:,}; "
                f"to read it, set {MAX_PIXELS_VARIABLE}"
            )
        return Known(path, file, size)

    @cached_property
    def _all(self) -> list[Path]:
        return list(find_images(self.folder, lambda _: None, lambda _: None))

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _grouped((file.name, file) for file in self._all)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        return _grouped((file.relative_to(self.folder).with_suffix("").as_posix(), file) for file in self._all)

    @cached_property
    def _by_path(self) -> dict[str, list[Path]]:
        return _grouped((file.relative_to(self.folder).as_posix(), file) for file in self._all)


def _grouped(pairs: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for key, file in pairs:
        found.setdefault(key, []).append(file)
    return found
