"""A pile of pictures and how it is made: in blocks, by one process or several, and again after a kill.

A block is whole or not there, and the same block is the same bytes whoever draws it, so a run that was killed goes on
where it stopped and ends as if nothing had happened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wordmask.console.progress import Progress
from wordmask.files import atomic_write
from wordmask.runs.parts import write_part
from wordmask.runs.records import keep_settings
from wordmask.runs.shards import make_shards
from wordmask_world.drawing.captions import LEAVE_OUT
from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.scenes import KINDS, MIXTURE, WORLD_VERSION, Kind, Scene, WorldError, draw_scene

Kinds = Mapping[Kind, float] | Sequence[Kind]
"""Kinds of picture with their shares; a plain list shares equally."""

SEEDS_APART = 1_000_000_000
"""Picture i of a collection with seed s has the scene seed s * SEEDS_APART + i: no two collections share a picture."""
BLOCK = 256
"""Pictures that are finished together: two seconds of work."""
_KIND_STREAM = 9


@dataclass(frozen=True)
class Pictures:
    """Which pictures a collection holds; the same settings give the same pictures."""

    count: int
    seed: int = 0
    size: int | tuple[int, int] = 128
    kinds: Kinds | None = None
    leave_out: float = LEAVE_OUT

    def __post_init__(self) -> None:
        if self.count < 1:
            raise WorldError(f"world: cannot write {self.count} pictures; ask for at least 1")
        unknown = [kind for kind in self.kinds or () if kind not in KINDS]
        if unknown:
            raise WorldError(f"world: no kind of picture is called {unknown[0]!r}; use some of {', '.join(KINDS)}")
        if sum(self.shares.values()) <= 0 or min(self.shares.values()) < 0:
            raise WorldError(f"world: kinds {self.kinds} leave nothing to draw; give at least one a positive share")
        self.draw(0)  # other bad settings fail here, not in a worker

    @cached_property
    def shares(self) -> dict[Kind, float]:
        """Kinds and their shares, in the order of KINDS."""
        kinds = MIXTURE if self.kinds is None else self.kinds
        shares = kinds if isinstance(kinds, Mapping) else dict.fromkeys(kinds, 1.0)
        return {kind: float(shares.get(kind, 0)) for kind in KINDS}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def draw(self, index: int) -> Scene:
        seed = self.seed * SEEDS_APART + index
        return draw_scene(seed, self.shape, kind=self._kind(seed), leave_out=self.leave_out)

    def _kind(self, seed: int) -> Kind | None:
        if self.kinds is None:
            return None
        kind: Kind = Dice(WORLD_VERSION, abs(seed), _KIND_STREAM).weighted(self.shares)
        return kind

    def described(self, **more: Any) -> dict[str, Any]:
        """What identifies the pictures, to be kept beside them."""
        return {
            "version": WORLD_VERSION,
            "seed": self.seed,
            "count": self.count,
            "size": list(self.shape),
            "kinds": self.shares,
            "leave_out": self.leave_out,
            **more,
        }


Block = tuple[int, int]
"""First picture, and the one after the last."""


def blocks_of(count: int, size: int) -> list[Block]:
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def part_of(parts: Path, block: Block) -> Path:
    return parts / f"{block[0]:09d}.jsonl"


def keep(path: Path, settings: dict[str, Any]) -> None:
    """Keep the settings beside the files, or make sure that those files were written with the same ones."""
    keep_settings(path, settings, holds=f"{path}: holds pictures", error=WorldError)


def join(parts: Path, blocks: Sequence[Block], target: Path) -> None:
    with atomic_write(target) as file:
        for block in blocks:
            file.write(part_of(parts, block).read_bytes())


def work(
    blocks: Sequence[Block],
    write: Callable[[Block], None],
    is_written: Callable[[Block], bool],
    workers: int,
    progress: Progress | None,
) -> None:
    """Write the blocks that are not written yet, in this process or in several."""
    make_shards(blocks, write, is_made=is_written, weight=_length, workers=workers, progress=progress)


def _length(block: Block) -> int:
    return block[1] - block[0]


def caption_line(scene: Scene, **more: Any) -> dict[str, Any]:
    return {
        **more,
        "captions": scene.captions,
        "things": scene.things,
        "stuff": scene.stuff,
        "kind": scene.kind,
        "seed": scene.seed,
    }


def save_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with write_part(path) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
