"""Pictures of the world as files: a folder to look at and evaluate on, or webdataset shards."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from wordmask.console.progress import Progress
from wordmask.files import atomic_write
from wordmask.masks.palette import colours_of
from wordmask.runs.claim import claimed
from wordmask.runs.parts import Parts
from wordmask_world.drawing.captions import LEAVE_OUT
from wordmask_world.drawing.names import NAMES
from wordmask_world.drawing.scenes import WorldError
from wordmask_world.files.marks import PICTURES, is_world
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

_JPEG = {"quality": 92, "subsampling": 0}
VERB, SETTINGS = "world make", "world.json"
_MOST_PER_SHARD = 10_000
"""img2dataset numbers the samples of a shard with four digits."""


def write_folder(
    out: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: int | tuple[int, int] = 128,
    kinds: Kinds | None = None,
    leave_out: float = LEAVE_OUT,
    image_format: Literal["jpg", "png"] = "jpg",
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Write `images/000000.jpg`, `labels/000000.png`, `captions.jsonl`, `names.txt` and `world.json`.

    With `workers` above 1 the calling script needs the usual `if __name__ == "__main__"`.
    """
    out = Path(out)
    if image_format not in ("jpg", "png"):
        raise WorldError(f"world: images cannot be written as {image_format!r}; use jpg or png")
    pictures = Pictures(count, seed, size, kinds, leave_out)
    with claimed(out, VERB, pictures=PICTURES, was_ours=_was_ours, error=WorldError):
        keep(out / SETTINGS, pictures.described(image_format=image_format))
        captions, parts = out / "captions.jsonl", out / ".parts"
        if not captions.exists():
            for folder in ("images", "labels"):
                (out / folder).mkdir(exist_ok=True)
            blocks, known = blocks_of(count, BLOCK), Parts()
            write = partial(_folder_block, pictures, out, image_format)
            work(blocks, write, lambda block: known.whole(part_of(parts, block)), workers, progress)
            with atomic_write(out / "names.txt") as file:
                file.write("".join(f"{name}\n" for name in NAMES).encode())
            join(parts, blocks, captions)
        shutil.rmtree(parts, ignore_errors=True)
    return out


def write_shards(
    out: str | Path,
    count: int,
    *,
    per_shard: int = 1000,
    seed: int = 0,
    size: int | tuple[int, int] = 128,
    kinds: Kinds | None = None,
    leave_out: float = LEAVE_OUT,
    labels: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Write webdataset tars named and laid out as img2dataset does: `00000.tar` with `000000000.jpg`, `.txt`, `.json`.

    Shards are a pile of unlabelled images with captions; with `labels`, each sample also has a `.labels.png`.
    """
    out = Path(out)
    if not 1 <= per_shard <= _MOST_PER_SHARD:
        raise WorldError(f"world: {per_shard} pictures per shard are out of range; use 1 to {_MOST_PER_SHARD}")
    pictures = Pictures(count, seed, size, kinds, leave_out)
    with claimed(out, VERB, was_ours=_was_ours, error=WorldError):
        keep(out / SETTINGS, pictures.described(per_shard=per_shard, labels=labels))
        write = partial(_shard, pictures, out, per_shard, labels)
        work(blocks_of(count, per_shard), write, lambda block: _tar(out, block, per_shard).exists(), workers, progress)
    return out


def _was_ours(out: Path) -> bool:
    return is_world(out / SETTINGS)


def _encoded(image: np.ndarray, image_format: str) -> bytes:
    buffer = io.BytesIO()
    if image_format == "jpg":
        Image.fromarray(image).save(buffer, "JPEG", **_JPEG)
    else:
        Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _encoded_labels(labels: np.ndarray) -> bytes:
    """A palette PNG whose pixel values are indices into NAMES."""
    picture, buffer = Image.fromarray(labels), io.BytesIO()
    picture.putpalette([channel for colour in colours_of(NAMES) for channel in colour])
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _save(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _folder_block(pictures: Pictures, out: Path, image_format: str, block: Block) -> None:
    lines = []
    for index in range(*block):
        scene = pictures.draw(index)
        name = f"{index:06d}.{image_format}"
        _save(out / "images" / name, _encoded(scene.image, image_format))
        _save(out / "labels" / f"{index:06d}.png", _encoded_labels(scene.labels))
        lines.append(caption_line(scene, file=name))
    save_lines(part_of(out / ".parts", block), lines)


def _tar(out: Path, block: Block, per_shard: int) -> Path:
    return out / f"{block[0] // per_shard:05d}.tar"


def _shard(pictures: Pictures, out: Path, per_shard: int, labels: bool, block: Block) -> None:
    number = block[0] // per_shard
    height, width = pictures.shape
    with atomic_write(_tar(out, block, per_shard)) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for index in range(*block):
            scene = pictures.draw(index)
            key = f"{number:05d}{index - block[0]:04d}"
            described = caption_line(scene, key=key, caption=scene.captions[0], width=width, height=height)
            contents = {
                "jpg": _encoded(scene.image, "jpg"),
                "txt": scene.captions[0].encode(),
                "json": json.dumps(described).encode(),
            }
            if labels:
                contents["labels.png"] = _encoded_labels(scene.labels)
            for extension, content in contents.items():
                member = tarfile.TarInfo(f"{key}.{extension}")  # no time, no owner: the same bytes every time
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
