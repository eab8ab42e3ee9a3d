"""Names in, masks out, no pixel labels.

>>> import wordmask
>>> segmenter = wordmask.load()
>>> segmenter.segment("photo.jpg", ["dog", "cat"]).save("out.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wordmask._version import __version__
from wordmask.errors import WordmaskError

if TYPE_CHECKING:
    from wordmask import hub, saliency
    from wordmask.benchmarks import evaluate
    from wordmask.distillation.pipeline import distill
    from wordmask.masks.segmentation import Segmentation
    from wordmask.methods import list_methods
    from wordmask.names.vocabulary import Vocabulary
    from wordmask.segmenters import load
    from wordmask.segmenters.base import Seen, Segmenter

__all__ = [
    "Seen",
    "Segmentation",
    "Segmenter",
    "Vocabulary",
    "WordmaskError",
    "__version__",
    "distill",
    "evaluate",
    "hub",
    "list_methods",
    "load",
    "saliency",
]

_HOMES = {
    "list_methods": "wordmask.methods",
    "load": "wordmask.segmenters",
    "distill": "wordmask.distillation.pipeline",
    "evaluate": "wordmask.benchmarks",
    "Segmenter": "wordmask.segmenters.base",
    "Seen": "wordmask.segmenters.base",
    "Segmentation": "wordmask.masks.segmentation",
    "Vocabulary": "wordmask.names.vocabulary",
    "hub": "wordmask",
    "saliency": "wordmask",
}
"""Where each name is from; modules are from the package itself."""
_MOVED = {
    "adaptors": "masks.segmentation",
    "app": "serving",
    "bit_depth": "pictures.beyond_pillow",
    "comparison": "masks.comparison",
    "counting": "console.progress",
    "decoding": "pictures.decoding",
    "heic": "pictures.left_out",
    "image_files": "pictures.image_files",
    "images": "pictures.images",
    "left_out": "pictures.left_out",
    "libtiff": "pictures.beyond_pillow",
    "lookalikes": "pictures.left_out",
    "name_lists": "names.lists",
    "notices": "console.notices",
    "overlay": "masks.overlay",
    "palette": "masks.palette",
    "picture_costs": "pictures.costs",
    "prefetch": "pictures.prefetch",
    "processes": "runs.processes",
    "prompts": "names.prompts",
    "registry": "methods",
    "segmentation": "masks.segmentation",
    "streaming": "pictures.streaming",
    "text_embeddings": "names.text_embeddings",
    "vocabulary": "names.vocabulary",
    "windows": "pictures.windows",
}
"""Modules that were here, and where what was in them is now."""


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is, so that `import wordmask` costs nothing."""
    if name in _MOVED:
        raise AttributeError(f"wordmask.{name} has moved: import wordmask.{_MOVED[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module 'wordmask' has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
