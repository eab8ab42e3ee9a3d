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


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is, so that `import wordmask` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'wordmask' has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
