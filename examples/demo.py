"""From names and unlabelled pictures to a segmenter of one's own, and how it does beside every other method.

python examples/demo.py [--out DIR] [--pictures N] [--steps N] [--measured N]

Draws pictures of the built-in world, and distils a student from them and the names of its things: CLIP finds pictures
for every name, SelfMask says what stands out in them, experts redraw that, one network learns it all. Then every method
is measured on held-out pictures, whose true masks nothing has seen before. No download, no accelerator; minutes on two
cores. Stopped and started again it goes on where it was.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wordmask
from wordmask.console.progress import OnStderr
from wordmask.distillation.pipeline import distill
from wordmask.files import atomic_write
from wordmask.html_page import Page, text_table
from wordmask.masks.comparison import draw_cell, draw_sheet, shrunk
from wordmask.masks.palette import colours_of
from wordmask.segmenters.base import Segmenter
from wordmask_world import THINGS, draw_scene, write_folder
from wordmask_world.benchmark import FIRST_SEED, World

SEED = 21
"""Of the unlabelled pictures: none of those that the world's models have learnt from, or are measured on."""
SPLITS = ("single", "multi", "all")
SHOWN = ("single", "pairs", "multi", "clutter")
"""A held-out picture of each kind; the first there is, not the best."""
CONSOLE = OnStderr()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="the folder to write (default: out/demo)")
    parser.add_argument("--pictures", type=int, default=3000, help="unlabelled pictures (default: 3000)")
    parser.add_argument("--archive", type=int, default=40, help="pictures for each name (default: 40)")
    parser.add_argument(
        "--steps", type=int, default=800, help="of the student; an expert takes a twentieth (default: 800)"
    )
    parser.add_argument("--measured", type=int, default=30, help="held-out pictures of each split (default: 30)")
    asked = parser.parse_args()

    with CONSOLE.progress("drawing pictures") as report:
        pictures = write_folder(
            asked.out / f"pictures-{asked.pictures}",
            asked.pictures,
            seed=SEED,
            workers=os.cpu_count() or 1,
            progress=report,
        )
    steps: dict[str, Any] = {"experts": {"steps": max(1, asked.steps // 20)}, "student": {"steps": asked.steps}}
    distill(
        list(THINGS),
        pictures / "images",
        asked.out / "run",
        preset="world",
        archive={"size": asked.archive},
        console=CONSOLE,
        **steps,
    )
    rows, names = [], ["background", *THINGS]
    drawn: dict[str, list[Any]] = {kind: [] for kind in SHOWN}
    measured = asked.out / f"measured-{asked.pictures}-{asked.archive}-{asked.steps}"
    for title, segmenter in methods(asked.out):
        rows.append([title, *figures(segmenter, title, asked.measured, measured)])
        for kind in SHOWN:
            drawn[kind].append(draw_cell(title, segmenter.segment(held_out(kind), names)))
    columns = ["mIoU in percent, things and background", *SPLITS]
    print(text_table(columns, rows))
    page = Page("Every method on held-out pictures of the world")
    page.text(
        f"{asked.measured} pictures of each split. NamedMask learnt from {asked.pictures:,} pictures without labels; "
        "what it found, masked, redrew and learnt is on its own page: run/report/report.html. The student that ships "
        "took 9,000 steps, and 12,000 pictures to search in."
    )
    page.table(columns, rows, best=True)
    for kind in SHOWN:
        sheet = draw_sheet(shrunk(held_out(kind)), drawn[kind], names, colours_of(names))
        page.picture(sheet, f"The first held-out picture of kind “{kind}”.")
        with atomic_write(asked.out / f"{kind}.jpg") as file:
            sheet.save(file, "JPEG", quality=90)
    page.save(asked.out / "report.html")
    print(f"\nLook at {asked.out / 'report.html'}, and at {asked.out / 'run' / 'report' / 'report.html'}.")


def methods(out: Path) -> Iterator[tuple[str, Segmenter]]:
    """One at a time, so that one at a time is in memory."""
    loads: dict[str, dict[str, Any]] = {
        "MaskCLIP": {"method": "maskclip", "residual": True},
        "ReCo": {"method": "reco", "archive": out / "run", "pictures": 20},
        "CLIP-DIY": {"method": "clip-diy"},
        "CLIP-DINOiser": {"method": "clip-dinoiser"},
        "SelfMask + CLIP": {"method": "selfmask-clip"},
        "NamedMask, this student": {"method": "namedmask", "weights": out / "run" / "student" / "student.safetensors"},
        "NamedMask, as it ships": {"method": "namedmask"},
    }
    for title, load in loads.items():
        yield title, wordmask.load(**load, preset="world", precision="fp32")


def figures(segmenter: Segmenter, title: str, pictures: int, out: Path) -> list[float]:
    found = []
    for split in SPLITS:
        with CONSOLE.progress(f"{title} on {split}") as report:
            folder = out / f"{title.replace(' ', '-')}-{split}-{pictures}"
            benchmark = World(split, pictures=pictures)
            found.append(wordmask.evaluate(segmenter, benchmark, out=folder, on_progress=report).miou)
    return found


def held_out(kind: Any) -> Any:
    return draw_scene(FIRST_SEED, 128, kind=kind).image


if __name__ == "__main__":
    main()
