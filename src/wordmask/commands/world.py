"""`wordmask world ...`: making pictures of the world, and looking at them."""

import os
from pathlib import Path
from typing import cast

import typer

from wordmask.console import show
from wordmask.console.progress import progress_bar
from wordmask.files import atomic_write
from wordmask.runs.claim import note_results
from wordmask.runs.marks import WORLD_SHEET, check_output, jpeg_comment, png_text
from wordmask_world.drawing.scenes import KINDS, Kind
from wordmask_world.files.contact_sheet import contact_sheet
from wordmask_world.files.writing import write_folder, write_shards


def make_pictures(
    out: Path, count: int, *, seed: int, size: str, kinds: str | None, shards: bool, labels: bool, workers: int
) -> None:
    if labels and not shards:
        raise typer.BadParameter("--labels goes with --shards; folders always have their label maps")
    height_width, chosen = _size(size), _kinds(kinds)
    workers = min(workers, os.cpu_count() or 1)
    with progress_bar("drawing", count) as progress:
        if shards:
            write_shards(
                out,
                count,
                seed=seed,
                size=height_width,
                kinds=chosen,
                labels=labels,
                workers=workers,
                progress=progress,
            )
        else:
            write_folder(out, count, seed=seed, size=height_width, kinds=chosen, workers=workers, progress=progress)
    show(out)


def show_pictures(out: Path, count: int, *, seed: int, kind: str | None, size: int, labels: bool) -> None:
    if out.suffix.lower() not in (".png", ".jpg"):
        raise typer.BadParameter(f"--out is a .png or a .jpg file, not {out}")
    chosen = _kinds(kind)
    check_output(out, WORLD_SHEET)
    page = contact_sheet(range(seed, seed + count), kind=chosen[0] if chosen else None, size=size, labels=labels)
    is_png = out.suffix.lower() == ".png"
    if not is_png:
        note_results(out.parent, "world show")
    with atomic_write(out) as file:
        if is_png:
            page.save(file, "PNG", pnginfo=png_text(WORLD_SHEET))
        else:
            page.save(file, "JPEG", comment=jpeg_comment(WORLD_SHEET))
    show(out)


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise typer.BadParameter(f"--size is one number or HEIGHTxWIDTH, not {text!r}")


def _kinds(text: str | None) -> list[Kind] | None:
    if text is None:
        return None
    chosen = [part.strip() for part in text.split(",")]
    for kind in chosen:
        if kind not in KINDS:
            raise typer.BadParameter(f"the world has no pictures of the kind {kind!r}; choose from {', '.join(KINDS)}")
    return cast(list[Kind], chosen)
