"""Pictures of the world for the page and for /docs."""

from typing import Literal

from wordmask.names.vocabulary import BACKGROUND
from wordmask.serving.examples import Examples
from wordmask_world.drawing.names import NAMES
from wordmask_world.drawing.scenes import draw_scene

SCENES: tuple[tuple[int, Literal["single", "multi", "pairs", "clutter"]], ...] = (
    (7, "multi"),
    (21, "pairs"),
    (33, "single"),
    (50, "clutter"),
)
"""Seeds and kinds, each picture of a kind of its own."""
SIDE = 384
ASKED = ("bird", "motorbike", BACKGROUND)
"""Some of what is on the first, known to students too."""


def examples() -> Examples:
    """Draw the pictures; it takes a tenth of a second."""
    scenes = [draw_scene(seed, SIDE, kind=kind) for seed, kind in SCENES]
    return Examples(
        "pictures of the built-in world",
        tuple((scene.image, (*scene.things, *scene.stuff)) for scene in scenes),
        offered=NAMES,
        asked=ASKED,
    )
