"""The built-in picture world: drawn scenes with captions and exact masks, and small models trained on them.

>>> from wordmask_world import draw_scene
>>> draw_scene(7).things

Nothing is imported before it is asked for, so that a plug-in's value costs little.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "drawing.captions": ("SYNONYMS", "caption_names"),
    "drawing.names": ("NAMES", "STUFF", "THINGS"),
    "drawing.scenes": ("KINDS", "MIXTURE", "WORLD_VERSION", "Kind", "Scene", "SceneObject", "WorldError", "draw_scene"),
    "files.contact_sheet": ("contact_sheet",),
    "files.training_file": ("WorldArray", "open_array", "write_array"),
    "files.writing": ("write_folder", "write_shards"),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
