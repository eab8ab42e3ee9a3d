"""From names and unlabelled pictures to a segmenter of one's own, and how it does beside other methods.

Draws pictures of the world, and distils a student from them and the names of its things: CLIP finds pictures for every
name, SelfMask says what stands out in them, one network learns it all. Then it and others are measured on held-out
pictures, whose true masks nothing has seen before. Experts, which redraw masks, are left out, as is CLIP-DIY, which
takes longer to measure than all others together: this is to be over in minutes.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import wordmask
from wordmask.benchmarks.evaluation import evaluate
from wordmask.compute import Precision
from wordmask.console.progress import OnStderr
from wordmask.distillation.pipeline import distill
from wordmask.distillation.records import MaskTable
from wordmask.encoders.int8_blocks import NoInt8Error
from wordmask.encoders.precision import MEASURED, Sample
from wordmask.encoders.samples import whole_sample
from wordmask.files import atomic_write
from wordmask.html_page import Page, text_table
from wordmask.masks.comparison import draw_cell, draw_sheet, shrunk
from wordmask.masks.overlay import draw_overlay
from wordmask.masks.palette import colours_of
from wordmask.runs.crew import Processes
from wordmask.segmenters.base import Segmenter
from wordmask.segmenters.deeplab import DeepLabV3Plus, small_resnet_settings
from wordmask_world.benchmark import FIRST_SEED, World
from wordmask_world.distilling import VIEWS
from wordmask_world.drawing.names import THINGS
from wordmask_world.drawing.scenes import draw_scene
from wordmask_world.files.writing import write_folder

SEED = 21
"""Of the unlabelled pictures: none of those that anything is measured on, or that the world's encoders and the kinds
have learnt from. The student that ships has learnt from these as well."""
LEARNING: dict[str, Any] = {
    "start": "world:kinds",
    "network": {"zoom": 2},
    "backbone_rate": 0,
    "learn_at": "cells",
    "crowds": 0.2,
    "crowd_sides": (2, 3),
}
"""What the network sees it has learnt before anyone said a name; in minutes it learns what that is called. Of crowds of
0, 0.2, 0.4 and 0.6 the best on 60 validation pictures of each split, from the seed 5,000,000 on, after 250 steps."""
SPLITS = ("single", "multi", "all")
SHOWN = ("single", "pairs", "multi", "clutter")
"""A held-out picture of each kind; the first there is, not the best."""
NAMES_SHOWN, PICTURES_SHOWN = 6, 8
"""Archives on the page, and pictures of each."""
VIEWS_TIMED = 4
"""Of a batch: enough to tell in which precision it is faster."""
NAMES = ("background", *THINGS)
COLUMNS = ("mIoU in percent, things and background", *SPLITS)


@dataclass(frozen=True)
class Demo:
    """pictures: without labels, to find things in. archive: of them for each name. steps: of the student. measured:
    held-out pictures of each split.
    """

    out: Path
    pictures: int
    archive: int
    steps: int
    measured: int
    console: OnStderr

    def run(self) -> str:
        """Distil, measure, and write the page; the table of figures. What is there already is not made again."""
        self.learn()
        rows: list[list[Any]] = []
        drawn: dict[str, list[Any]] = {kind: [] for kind in SHOWN}
        for title, segmenter in self.methods():
            rows.append([title, *self.figures(title, segmenter)])
            for kind in SHOWN:
                drawn[kind].append(draw_cell(title, segmenter.segment(held_out(kind), list(NAMES))))
        self.write_page(rows, drawn)
        return text_table(COLUMNS, rows)

    @property
    def run_folder(self) -> Path:
        return self.out / "run"

    @cached_property
    def precision(self) -> str:
        """What this processor learns fastest in: measured once, so that a killed run goes on in it."""
        kept = self.out / "precision.txt"
        if not kept.exists():
            with atomic_write(kept) as file:
                file.write(MEASURED.of(learning_sample()).chosen.encode())
        return kept.read_text()

    def learn(self) -> None:
        collection = self.out / f"pictures-{self.pictures}"
        workers = os.cpu_count() or 1
        with self.console.progress("drawing pictures") as report:
            write_folder(collection, self.pictures, seed=SEED, workers=workers, progress=report)
        distill(
            list(THINGS),
            collection / "images",
            self.run_folder,
            preset="world",
            archive={"size": self.archive},
            experts=None,
            student={"steps": self.steps, "precision": self.precision, **LEARNING},
            console=self.console,
            crew=Processes(workers, threads=1) if workers > 1 else None,
        )

    def methods(self) -> Iterator[tuple[str, Segmenter]]:
        """One at a time, so that one at a time is in memory."""
        student = self.run_folder / "student" / "student.safetensors"
        loads: dict[str, dict[str, Any]] = {
            "MaskCLIP": {"method": "maskclip", "residual": True},
            "ReCo": {"method": "reco", "archive": self.run_folder, "pictures": 8},
            "CLIP-DINOiser": {"method": "clip-dinoiser"},
            "SelfMask + CLIP": {"method": "selfmask-clip"},
            "NamedMask, this student": {"method": "namedmask", "weights": student},
            "the same, edges by PAMR": {"method": "namedmask", "weights": student, "refine": "pamr"},
            "NamedMask, as it ships": {"method": "namedmask"},
        }
        for title, load in loads.items():
            yield title, wordmask.load(**load, preset="world", precision="fp32")

    def figures(self, title: str, segmenter: Segmenter) -> list[float]:
        folder = self.out / f"measured-{self.pictures}-{self.archive}-{self.steps}"
        found = []
        for split in SPLITS:
            with self.console.progress(f"{title} on {split}") as report:
                own = folder / f"{title.replace(' ', '-')}-{split}-{self.measured}"
                benchmark = World(split, pictures=self.measured)
                found.append(evaluate(segmenter, benchmark, out=own, page=False, on_progress=report).miou)
        return found

    def write_page(self, rows: list[list[Any]], drawn: dict[str, list[Any]]) -> None:
        """Pictures first, then what was learnt from, then figures."""
        page = Page("Methods on held-out pictures of the world")
        page.text(
            f"All were asked for the same {len(THINGS)} names. Nobody drew a mask for any of them; what has no colour "
            "was taken for background."
        )
        for kind in SHOWN:
            sheet = draw_sheet(shrunk(held_out(kind)), drawn[kind], NAMES, colours_of(NAMES))
            page.picture(sheet, f"The first held-out picture of kind “{kind}”.")
            with atomic_write(self.out / f"{kind}.jpg") as file:
                sheet.save(file, "JPEG", quality=90)
        page.heading("What it learnt from")
        page.text(
            f"CLIP found {self.archive} pictures for each of {len(THINGS)} names among {self.pictures:,} without "
            "labels, and SelfMask said what stands out in them. Nobody drew these masks:"
        )
        masks = MaskTable(self.run_folder / "masks")
        for name in THINGS[:: len(THINGS) // NAMES_SHOWN][:NAMES_SHOWN]:
            if strip := archive_strip(masks, name):
                page.picture(strip, name)
        page.heading("Figures")
        page.text(
            f"{self.measured} pictures of each split. This student took {self.steps:,} steps in {self.precision}, "
            "in which this processor is fastest. Its network had learnt from 20,000 other pictures to tell things "
            "apart, before anyone said what they are called (world:kinds). "
            "The student that ships took 16,500 steps, and 12,000 pictures to search in. More of the run: "
            "run/report/report.html."
        )
        page.table(COLUMNS, rows, best=True)
        page.save(self.out / "report.html")


def learning_sample() -> Sample:
    """Return what is timed of a student that learns: the way of a few views through it."""
    network = DeepLabV3Plus(len(NAMES), small_resnet_settings(**LEARNING["network"]))

    def learning(precision: Precision) -> Callable[[Tensor], Tensor]:
        if precision == "int8":
            raise NoInt8Error("nothing learns in int8")

        def look(images: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                return network.features(images)

        return look

    views = (VIEWS_TIMED, 3, VIEWS.crop, VIEWS.crop)
    return whole_sample("a student of the demo that learns", network, learning, views)


def archive_strip(masks: MaskTable, name: str) -> Image.Image | None:
    """Return the first usable masks of a name on their pictures, side by side."""
    colour = colours_of(NAMES)[NAMES.index(name)]
    tiles = []
    for row in masks.rows(name)[:PICTURES_SHOWN].tolist():
        record = masks[row]
        labels = record.mask().astype(np.uint8)
        image = masks.open_image(record.image)
        tiles.append(draw_overlay(image, labels, ["", name], [(0, 0, 0), colour], hidden=(0,), legend=False))
    if not tiles:
        return None
    strip = Image.new("RGB", (sum(tile.width for tile in tiles), max(tile.height for tile in tiles)))
    left = 0
    for tile in tiles:
        strip.paste(tile, (left, 0))
        left += tile.width
    return strip


def held_out(kind: Any) -> np.ndarray:
    return draw_scene(FIRST_SEED, 128, kind=kind).image
