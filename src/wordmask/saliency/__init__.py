"""Foreground without names: one file a method, behind one interface.

>>> from wordmask import saliency
>>> saliency.load("found").look("photo.jpg").save("foreground.png")
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.compute import Compute
from wordmask.methods import DEFAULT_PRESET, MethodError, load_method, presets_by_name
from wordmask.plugins import where_from

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
    precision: "auto" is what the network is fastest in on this machine, fp32, bf16 or int8.
    """
    compute = partial(Compute, device, precision)
    loaded: Saliency = load_method(
        "saliency", method, preset=preset, weights=weights, compute=compute, settings=settings
    )
    return loaded


def load_within(settings: Any, compute: Compute) -> "Saliency":
    """Return the saliency that another method's settings name: `saliency`, `saliency_preset`, `saliency_weights`."""
    name, preset = settings.saliency, settings.saliency_preset or DEFAULT_PRESET
    if preset not in (known := presets_by_name("saliency", name)):
        first = next(iter(known))
        raise MethodError(
            f"{name} has no preset {preset!r}; say saliency_preset={first} (`--set saliency_preset={first}`), one of "
            f"{', '.join(known)}{where_from(preset)}"
        )
    loaded: Saliency = load_method(
        "saliency", name, preset=preset, weights=settings.saliency_weights, compute=compute, settings={}
    )
    return loaded
