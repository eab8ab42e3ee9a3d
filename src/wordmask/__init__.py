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
    from wordmask.benchmarks import evaluate
    from wordmask.distillation.pipeline import distill
    from wordmask.masks.segmentation import Segmentation
    from wordmask.methods import list_methods
    from wordmask.names.vocabulary import Vocabulary
    from wordmask.segmenters import load

__all__ = ["Segmentation", "Vocabulary", "WordmaskError", "__version__", "distill", "evaluate", "list_methods", "load"]

_HOMES = {
    "list_methods": "wordmask.methods",
    "load": "wordmask.segmenters",
    "distill": "wordmask.distillation.pipeline",
    "evaluate": "wordmask.benchmarks",
    "Segmentation": "wordmask.masks.segmentation",
    "Vocabulary": "wordmask.names.vocabulary",
}


def __getattr__(name: str) -> Any:
    """Heavy modules are imported when they are used, so that `import wordmask` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'wordmask' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
