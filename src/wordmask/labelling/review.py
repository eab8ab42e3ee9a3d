"""A review that acts: one page, which opens from a file, and small data beside it.

`review.html` holds the program, `review/index.js` a line for every picture, `review/masks-NNNNN.js` the run lengths of
some pictures each, which the page loads when they are looked at. The pictures themselves stay where they are; of kinds
that no browser shows there are small copies. Data are scripts, because a page from a file may load nothing else.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from wordmask.corrections import ACCEPTED, REJECTED, Correction, Corrections
from wordmask.files import atomic_write
from wordmask.fingerprints import short_digest_of
from wordmask.labelling.fingerprints_kept import KeptFingerprints
from wordmask.labelling.ledger import Ledger, Row
from wordmask.labelling.teaching_order import RULE, teaching_order
from wordmask.masks.palette import colours_of
from wordmask.pictures.image_files import ImageReadError
from wordmask.pictures.images import read_image, size_with_longer_side

PAGE, DATA, INDEX = "review.html", "review", "index.js"
COPIES = "pictures"
VERSION = 1
TOGETHER = 50
"""Pictures whose masks are loaded together: some 100 kB."""
SHOWN = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".bmp"})
"""Kinds that every browser shows."""
COPY = 1600
"""Pixels of the longer side, of a copy of another kind."""
CALL = "wordmaskReview"
STATIC = Path(__file__).parent / "static"
SCRIPTS = ("review_masks.js", "review_state.js", "review_view.js", "review_keys.js")


def masks_file(number: int) -> str:
    return f"masks-{number:05d}.js"


@dataclass(frozen=True)
class _Shown:
    """A mask as the page shows it, and what has been said of it."""

    name: str
    score: float | None
    counts: str
    verdict: str | None = None
    renamed: str | None = None


def write_review(
    out: Path,
    folder: Path,
    ledger: Ledger,
    *,
    names: Sequence[str],
    pictures_of: Mapping[str, int],
    labelled: int,
    most: int,
    corrections: Corrections,
    fingerprints: KeptFingerprints,
) -> None:
    """Write the page and its data for the `most` pictures of which the segmenter was least sure.

    names: those that label something. pictures_of: in how many pictures each is. labelled: how many pictures there are.
    """
    data = out / DATA
    order = teaching_order(ledger.most_unsure(most), labelled, pictures_of)
    known = ((picture, fingerprints.of(picture)) for picture in order)
    there = [(picture, digest) for picture, digest in known if digest is not None]  # labels may outlive their pictures
    places = {picture: place for place, picture in enumerate(sorted(picture for picture, _ in there))}
    all_names = {name: number for number, name in enumerate(names)}
    for each in corrections:
        for mask in each.masks:
            for name in filter(None, (mask.was, mask.name)):
                all_names.setdefault(name, len(all_names))
    lines, verdicts, chunk, copies = [], {}, [], set()
    for number, (picture, digest) in enumerate(there):
        row = ledger.find(picture)
        assert row is not None  # it is of this order
        correction = corrections.by_fingerprint.get(digest)
        masks = _shown(row, correction)
        own = short_digest_of(" ".join(mask.counts for mask in masks))
        copy = _copied(data, folder, picture, digest, row.size)
        copies.add(copy)
        line = [
            *(picture, copy or _quoted(picture), digest, *row.size, row.unsure, places[picture], own),
            [[all_names[mask.name], mask.score] for mask in masks],
        ]
        lines.append(json.dumps(line))
        chunk.append([own, [mask.counts for mask in masks]])
        if correction is not None:
            verdicts[digest] = {"v": correction.verdict, "m": [[mask.verdict, mask.renamed] for mask in masks]}
        if len(chunk) == TOGETHER or number == len(there) - 1:
            at = number // TOGETHER
            _write_script(data / masks_file(at), "masks", [str(at), json.dumps(chunk)])
            chunk = []
    reviewed = {digest for _, digest in there}
    about = {
        "version": VERSION,
        "title": folder.name,
        "folder": address_of(folder, out),
        "rule": RULE,
        "together": TOGETHER,
        "names": [
            [name, f"#{bytes(colour).hex()}"]
            for name, colour in zip(all_names, colours_of(list(all_names)), strict=True)
        ],
        "verdicts": verdicts,
        "elsewhere": [each.to_json() for each in corrections if each.fingerprint not in reviewed],
    }
    told = f'{json.dumps(about)[:-1]}, "pictures": [\n' + ",\n".join(lines) + "\n]}"
    _write_script(data / INDEX, "index", [told])
    with atomic_write(out / PAGE) as file:
        file.write(page(folder.name).encode())
    _remove_old(data, -(-len(there) // TOGETHER), {Path(copy).name for copy in copies if copy})


def page(title: str, api: str = "") -> str:
    """Return the page. api: where a service takes verdicts; without it the browser keeps them."""
    parts = {
        "title": escape(title.encode(errors="backslashreplace").decode()),
        "api": escape(api),
        "style": (STATIC / "review.css").read_text(encoding="utf-8"),
        "script": "\n".join((STATIC / own).read_text(encoding="utf-8") for own in SCRIPTS),
    }
    pieces = re.split(r"\{(title|api|style|script)\}", (STATIC / PAGE).read_text(encoding="utf-8"))
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def address_of(folder: Path, start: Path) -> str:
    """Return how a page in `start` names a folder: a relative URL, or one of the folder's own on another drive."""
    try:
        below = os.path.relpath(folder.resolve(), start.resolve())
    except ValueError:
        return folder.resolve().as_uri() + "/"
    return quote(os.fsencode(Path(below).as_posix())) + "/"


def _shown(row: Row, correction: Correction | None) -> list[_Shown]:
    """Return the labels' masks, and those of a person that are none of them."""
    said = {} if correction is None else {mask.counts: mask for mask in correction.masks}
    masks = []
    for part in row.parts:
        own = said.pop(part.rle, None)
        if own is not None:
            masks.append(
                _Shown(part.name, part.score, part.rle, own.verdict, own.name if own.was is not None else None)
            )
        else:  # in a picture that was accepted, what is not there was taken away
            gone = REJECTED if correction is not None and correction.verdict == ACCEPTED else None
            masks.append(_Shown(part.name, part.score, part.rle, gone))
    for counts, mask in said.items():
        masks.append(_Shown(mask.was or mask.name, None, counts, mask.verdict, mask.name if mask.was else None))
    return masks


def _copied(data: Path, folder: Path, picture: str, digest: str, size: tuple[int, int]) -> str | None:
    """Return the address of a copy of a picture that no browser shows; None where it needs none, or cannot be read."""
    if Path(picture).suffix.lower() in SHOWN:
        return None
    place = data / COPIES / f"{digest[:32]}.jpg"
    if not place.exists():
        try:
            image = Image.fromarray(read_image(folder / picture, max_pixels=size[0] * size[1]))
        except ImageReadError:  # it was readable when it was labelled; the page says that it is not shown
            return None
        height, width = size_with_longer_side(*size, COPY, only_shrink=True)
        with atomic_write(place) as file:
            image.resize((width, height), Image.Resampling.BOX).save(file, "JPEG", quality=85)
    return f"{DATA}/{COPIES}/{place.name}"


def _quoted(picture: str) -> str | None:
    """Return a picture's address where a browser would make another of its path: it is no UTF-8."""
    try:
        picture.encode()
    except UnicodeEncodeError:
        return quote(os.fsencode(picture))
    return None


def _write_script(path: Path, call: str, arguments: list[str]) -> None:
    with atomic_write(path) as file:
        file.write(f"{CALL}.{call}({', '.join(arguments)});\n".encode())


def read_script(path: Path, call: str) -> Any:
    """Return the last argument of a script that `write_review` wrote; raise ValueError for what is none."""
    text = path.read_text(encoding="utf-8")
    head, tail = f"{CALL}.{call}(", ");\n"
    if not text.startswith(head) or not text.endswith(tail):
        raise ValueError(f"{path} is no data of a review")
    inside = text[len(head) : -len(tail)]
    if call == "masks":
        inside = inside.partition(", ")[2]
    return json.loads(inside)


def _remove_old(data: Path, chunks: int, copies: set[str]) -> None:
    wanted = {masks_file(number) for number in range(chunks)}
    for file in data.glob("masks-*.js"):
        if file.name not in wanted:
            file.unlink(missing_ok=True)
    for file in (data / COPIES).glob("*.jpg"):
        if file.name not in copies:
            file.unlink(missing_ok=True)
