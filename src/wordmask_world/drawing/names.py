"""The fixed table of names: the order is part of every file of labels, so it never changes."""

from __future__ import annotations

from wordmask_world.drawing.stuff import PAINTERS
from wordmask_world.drawing.things import DRAWINGS

THINGS: tuple[str, ...] = tuple(DRAWINGS)
STUFF: tuple[str, ...] = tuple(PAINTERS)
NAMES: tuple[str, ...] = THINGS + STUFF
"""A label is an index into this: things first, then stuff, each in alphabetical order."""
INDEX: dict[str, int] = {name: index for index, name in enumerate(NAMES)}
