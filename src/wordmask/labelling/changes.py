"""What labels were made with, what is to be otherwise, and what comes of both: names, settings, what is asked again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wordmask.labelling.claim import BEFORE
from wordmask.labelling.settings import LabelError, LabelSettings, why_refused
from wordmask.names.contrast import Contrast
from wordmask.names.vocabulary import BACKGROUND, Vocabulary
from wordmask.runs.claim import SETTINGS_OF_LABELS, STATE, read_marker
from wordmask.text_files import read_json, shown

DIGEST = re.compile("[0-9a-f]{64}")
NEEDING_SCORES = ("min_score", "drop_absent")


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise; None leaves it as it was.

    settings: those of `LabelSettings`. names, fill, contrast: asked again, as `Seen.segment` has it. rename: old names
    to new ones, of the same masks. drop: names whose masks become background. folder: where the pictures are now.
    """

    settings: Mapping[str, Any]
    names: Vocabulary | None = None
    fill: bool = False
    contrast: Contrast | None = None
    rename: Mapping[str, str] | None = None
    drop: Sequence[str] = ()
    folder: Path | None = None


class Before:
    """The labels to convert, and what they were made with."""

    def __init__(self, out: Path):
        self.out = out
        path = out / STATE / SETTINGS_OF_LABELS
        marker = read_marker(out) if out.is_dir() else None
        if marker is None or marker.verb != "label" or not path.exists():
            raise LabelError(f"{out} holds no labels of `wordmask label`: give the --out of such a run")
        told = read_json(path, way_out="label anew")
        if not isinstance(told, dict):
            raise LabelError(f"{path} is damaged: label anew")
        self.told: dict[str, Any] = {**BEFORE, **told}
        try:
            self.vocabulary = Vocabulary(tuple(told["names"]), tuple(map(tuple, told["phrases"])))
            self.settings = LabelSettings(
                **{each.name: self.told[each.name] for each in fields(LabelSettings) if each.name in self.told}
            )
            self.folder = Path(told["folder"])
            self.batch_size, self.max_pixels = int(told["batch_size"]), int(told["max_pixels"])
        except (KeyError, TypeError, ValueError) as error:
            raise LabelError(f"{path} is damaged, or of a version too old: label anew") from error

    @property
    def contrast(self) -> Contrast | None:
        """What names raced against; None where only a digest of it is known."""
        told = self.told["contrast"]
        if not self.vocabulary.has_made_room and told == "none":
            return "auto"  # nothing was asked for, as nothing would have raced
        if isinstance(told, list):
            return tuple(told)
        return None if DIGEST.fullmatch(str(told)) else str(told)


def vocabulary_of(before: Before, changes: Changes) -> Vocabulary:
    was = before.vocabulary
    if changes.names is not None:
        if changes.rename or changes.drop:
            raise LabelError("--names asks for other names, and --rename and --drop are of those there are: give one")
        return changes.names if changes.fill else changes.names.with_room()
    rename = dict(changes.rename or {})
    for what, names in (("--rename", rename), ("--drop", changes.drop)):
        for name in names:
            if name not in was.names:
                raise LabelError(f"{what} {shown(name)}: {before.out} has no such name, but {shown(list(was.names))}")
            if name.casefold() == BACKGROUND:
                raise LabelError(f"{what} {shown(name)}: background stays what it is")
    if changes.drop and was.background is None:
        raise LabelError(f"--drop needs a background for its pixels, and {before.out} was filled with names")
    kept = [i for i, name in enumerate(was.names) if name not in changes.drop]
    is_made = [i for i in kept if not was.phrases[i]]
    entries = {rename.get(was.names[i], was.names[i]): {"instead": was.phrases[i]} for i in kept if i not in is_made}
    if not entries:
        raise LabelError("--drop leaves no name: keep one")
    if len(entries) + len(is_made) < len(kept) or any(new.casefold() == BACKGROUND for new in rename.values()):
        raise LabelError(
            "--rename gives a name that another has: to ask for both as one, give --names 'vehicle: [car, truck]'"
        )
    vocabulary = Vocabulary.of(entries)
    return vocabulary.with_room() if is_made and not changes.fill else vocabulary


def settings_of(before: Before, changes: Changes) -> LabelSettings:
    try:
        return replace(before.settings, **changes.settings)
    except ValidationError as error:
        raise LabelError(why_refused(error)) from error


def asked_again(before: Before, changes: Changes, vocabulary: Vocabulary, settings: LabelSettings) -> str | None:
    """Return the option for which names are to be asked for again, if any: masks alone do not tell it."""
    if changes.names is not None and vocabulary != before.vocabulary:
        return "--names"
    if changes.fill and before.vocabulary.has_made_room:
        return "--fill"
    if changes.contrast is not None and changes.contrast != before.contrast:
        return "--contrast"
    for name in NEEDING_SCORES:
        if getattr(settings, name) != getattr(before.settings, name):
            return f"--{name.replace('_', '-')}"
    if settings.min_area < before.settings.min_area:
        return f"--min-area below {before.settings.min_area}"
    return None
