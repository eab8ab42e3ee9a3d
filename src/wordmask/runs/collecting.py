"""What is passed over when pictures are collected, because this package made it. Every collection goes through here."""

import os
from collections.abc import Sequence
from pathlib import Path

from wordmask.plugins import BroughtFolder, installed, named
from wordmask.runs.claim import STATE, Marker, read_marker
from wordmask.runs.marks import made

OVERLAY_ENDING = ".overlay"
"""Stands before the suffix of what is drawn over a picture, beside its masks."""
JPEG = (".jpg", ".jpeg")


def without_ours(folder: Path, entries: Sequence[os.DirEntry[str]], *, at_root: bool) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that may be, or hold, pictures of a person's; hidden ones are left out.

    A folder that is marked as ours is not entered, unless it is the one that was asked for (`at_root`); where its
    marker names the folders below it that hold pictures, those are entered, and nothing else. A PNG's header says
    whether it is ours. A JPEG's is read only where one of ours is to be expected: if it is called as overlays are, or
    in a folder with a marker.
    """
    marker = _marker(folder, {entry.name for entry in entries})
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    if marker is not None and marker.pictures:
        return [entry for entry in shown if entry.name in marker.pictures]
    if marker is not None and not marker.among_others and not at_root:
        return []
    return [entry for entry in shown if not _is_ours(folder, entry.name, expected=marker is not None)]


def _marker(folder: Path, names: set[str]) -> Marker | None:
    if STATE in names and (marker := read_marker(folder)) is not None:
        return marker
    for known in _known_folders():
        if names >= {known.settings, *known.holds} and named(known.is_its)(folder / known.settings):
            return Marker(known.verb, known.pictures)
    return None


def is_drawn(settings: Path) -> bool:
    """Return whether a file is what a plug-in says of the pictures that it draws."""
    return any(named(known.is_its)(settings) for known in _known_folders())


def _known_folders() -> list[BroughtFolder]:
    """Those that packages wrote before there were markers."""
    return [folder for plugin in installed() for folder in plugin.folders]


def _is_ours(folder: Path, name: str, *, expected: bool) -> bool:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122, a path for each of a million names takes too long
    suffix = suffix.lower()
    drawn_over = suffix in JPEG and stem.endswith(OVERLAY_ENDING)
    if suffix == ".png" or drawn_over or (suffix in JPEG and expected):
        if made(folder / name) is not None:
            return True
        # Overlays said nothing of themselves before: they lay beside masks that did.
        beside = stem.removesuffix(OVERLAY_ENDING)
        return drawn_over and any(made(folder / f"{beside}{kind}") is not None for kind in (".png", ".json"))
    return False
