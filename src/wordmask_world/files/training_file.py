"""One file of pictures to train from, memory-mapped."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wordmask.console.progress import Progress
from wordmask.files import is_special, remove_leftovers
from wordmask.runs.claim import locked
from wordmask.runs.parts import Parts
from wordmask.text_files import read_json
from wordmask_world.drawing.captions import LEAVE_OUT
from wordmask_world.drawing.scenes import WorldError
from wordmask_world.files.marks import is_world
from wordmask_world.files.pictures import (
    BLOCK,
    Block,
    Kinds,
    Pictures,
    blocks_of,
    caption_line,
    join,
    keep,
    part_of,
    save_lines,
    work,
)


def write_array(
    path: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: int | tuple[int, int] = 128,
    kinds: Kinds | None = None,
    leave_out: float = LEAVE_OUT,
    labels: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Write `train.npy`, (count, H, W, 3) uint8, to be memory-mapped in training; read it with `open_array`.

    Beside it: `train.captions.jsonl`, `train.json` with the settings, and with `labels` `train.labels.npy`.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise WorldError(f"{path}: the training file's name must end in .npy")
    pictures = Pictures(count, seed, size, kinds, leave_out)
    path.parent.mkdir(parents=True, exist_ok=True)
    refusal = WorldError(f"{path} is being written by another run: wait for it, or choose another name")
    with locked(path.with_name(f".{path.stem}.lock"), refusal):
        return _write_array(path, pictures, labels=labels, workers=workers, progress=progress)


def _write_array(path: Path, pictures: Pictures, *, labels: bool, workers: int, progress: Progress | None) -> Path:
    settings, count = pictures.described(labels=labels), pictures.count
    parts = path.with_name(f".{path.stem}.parts")
    blocks = blocks_of(count, BLOCK)
    if path.exists() and path.with_suffix(".json").exists():
        keep(path.with_suffix(".json"), settings)
        shutil.rmtree(parts, ignore_errors=True)
        return path
    arrays = {"images.npy": path}
    if labels:
        arrays["labels.npy"] = path.with_suffix(".labels.npy")
    beside = (*arrays.values(), path.with_suffix(".json"), path.with_suffix(".captions.jsonl"))
    there = next((file for file in beside if file.exists()), None)
    if there is not None and not parts.exists() and (path.exists() or not is_world(path.with_suffix(".json"))):
        raise WorldError(f"{there}: already there, and not by write_array; move it away or choose another name")
    if not (parts / "world.json").exists():
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        for name in arrays:
            shape = (count, *pictures.shape) + ((3,) if name == "images.npy" else ())
            np.lib.format.open_memmap(parts / name, mode="w+", dtype=np.uint8, shape=shape).flush()
    keep(parts / "world.json", settings)
    remove_leftovers(parts, alone=True)
    known = Parts()
    write = partial(_array_block, pictures, parts, labels)
    work(blocks, write, lambda block: known.whole(part_of(parts, block)), workers, progress)
    join(parts, blocks, path.with_suffix(".captions.jsonl"))
    for name, target in arrays.items():
        if (parts / name).exists():
            (parts / name).replace(target)
    keep(path.with_suffix(".json"), settings)
    shutil.rmtree(parts)
    return path


ANEW = "delete the training file and those beside it, and write it again"


@dataclass(frozen=True)
class WorldArray:
    """A training file, opened: nothing is in memory but the captions."""

    images: np.ndarray
    """(N, H, W, 3) uint8, memory-mapped"""
    captions: tuple[tuple[str, ...], ...]
    """the wordings of each picture"""
    labels: np.ndarray | None
    """(N, H, W) uint8, memory-mapped, when they were written"""
    settings: dict[str, Any]


def open_array(path: str | Path) -> WorldArray:
    """Open what `write_array` wrote."""
    path = Path(path)
    settings, captions = path.with_suffix(".json"), path.with_suffix(".captions.jsonl")
    for file in (path, settings, captions):
        if not file.exists():
            raise WorldError(f"{file}: no such file; write the training file (again) with write_array")
    labels = path.with_suffix(".labels.npy")
    for file in (path, settings, captions, labels):
        if is_special(file):
            raise WorldError(f"{file}: is a pipe or a device, not a file")
    told = []
    with captions.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                told.append(tuple(json.loads(line)["captions"]))
            except (ValueError, KeyError, TypeError) as error:
                raise WorldError(f"{captions}, line {number}: is damaged; {ANEW}") from error
    described = read_json(settings, way_out=ANEW)
    if not isinstance(described, dict) or "labels" not in described:
        raise WorldError(f"{settings}: is damaged, it holds no settings; {ANEW}")
    return WorldArray(
        np.load(path, mmap_mode="r"),
        tuple(told),
        np.load(labels, mmap_mode="r") if described["labels"] else None,
        described,
    )


def _array_block(pictures: Pictures, parts: Path, labels: bool, block: Block) -> None:
    images = np.lib.format.open_memmap(parts / "images.npy", mode="r+")
    masks = np.lib.format.open_memmap(parts / "labels.npy", mode="r+") if labels else None
    lines = []
    for index in range(*block):
        scene = pictures.draw(index)
        images[index] = scene.image
        if masks is not None:
            masks[index] = scene.labels
        lines.append(caption_line(scene))
    images.flush()
    if masks is not None:
        masks.flush()
    save_lines(part_of(parts, block), lines)
