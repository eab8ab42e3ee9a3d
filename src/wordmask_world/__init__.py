"""The built-in picture world: drawn scenes with captions and exact masks, and small models trained on them."""

from wordmask_world.drawing.captions import SYNONYMS, caption_names
from wordmask_world.drawing.names import NAMES, STUFF, THINGS
from wordmask_world.drawing.scenes import (
    KINDS,
    MIXTURE,
    WORLD_VERSION,
    Kind,
    Scene,
    SceneObject,
    WorldError,
    draw_scene,
)
from wordmask_world.files.contact_sheet import contact_sheet
from wordmask_world.files.training_file import WorldArray, open_array, write_array
from wordmask_world.files.writing import write_folder, write_shards

__all__ = [
    "KINDS",
    "MIXTURE",
    "NAMES",
    "STUFF",
    "SYNONYMS",
    "THINGS",
    "WORLD_VERSION",
    "Kind",
    "Scene",
    "SceneObject",
    "WorldArray",
    "WorldError",
    "caption_names",
    "contact_sheet",
    "draw_scene",
    "open_array",
    "write_array",
    "write_folder",
    "write_shards",
]
