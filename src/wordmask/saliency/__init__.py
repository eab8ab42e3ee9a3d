"""Foreground without names: one file a method, behind one interface.

>>> from wordmask import saliency
>>> saliency.load("found").look("photo.jpg").save("foreground.png")
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.compute import Compute
from wordmask.methods import DEFAULT_PRESET, load_method

if TYPE_CHECKING:
    from wordmask.saliency.base import Saliency


def load(
    method: str,
    *,
    preset: str = DEFAULT_PRESET,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    **settings: Any,
) -> "Saliency":
    """Return a saliency method by its name.

    preset: whose networks and settings to start from; `settings` change single ones, such as `refine="solver"`.
    weights: a file, a URL or a name of the catalogue in place of the weights that the method learnt itself.
    device: "auto" takes an accelerator where there is one.
    precision: "auto" is what the network is fastest in on this machine, fp32 or bf16.
    """
    compute = partial(Compute, device, precision)
    loaded: Saliency = load_method(
        "saliency", method, preset=preset, weights=weights, compute=compute, settings=settings
    )
    return loaded
