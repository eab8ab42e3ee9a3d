"""Pictures cut into regions without names: one file a maker, and any function of your own.

>>> from wordmask import regions
>>> regions.load("panoptic-cut")(image)        # (H, W, 3) uint8 -> (H, W), 0 where there is no region
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from wordmask.compute import Compute
from wordmask.methods import DEFAULT_PRESET, load_method, presets_by_name
from wordmask.plugins import named

if TYPE_CHECKING:
    from wordmask.regions.base import RegionMaker, Regions

DEFAULT_MAKER = "panoptic-cut"
"""Trained on no mask, as nothing here is."""


def load(
    method: str = DEFAULT_MAKER,
    *,
    preset: str = DEFAULT_PRESET,
    device: str = "auto",
    precision: str = "auto",
    **settings: Any,
) -> "Regions":
    """Return a maker of regions by its name.

    preset: whose network and settings to start from; `settings` change single ones, such as `refine="pamr"`.
    device: "auto" takes an accelerator where there is one.
    precision: "auto" is what the network is fastest in on this machine, fp32 or bf16.
    """
    compute = partial(Compute, device, precision)
    loaded: Regions = load_method("regions", method, preset=preset, weights=None, compute=compute, settings=settings)
    return loaded


def maker_of(
    given: "str | RegionMaker", *, preset: str | None = None, device: str = "auto", precision: str = "auto"
) -> "RegionMaker":
    """Return what makes regions: by the name of a maker, by "module:function", or the function itself.

    preset: of a maker that is named, where it has one that is called so; else "paper".
    """
    from wordmask.regions.base import RegionError, RegionMaker

    if not isinstance(given, str):
        maker: Any = given
    elif ":" in given:
        maker = named(given)
    else:
        own = preset if preset in presets_by_name("regions", given) else DEFAULT_PRESET
        return load(given, preset=str(own), device=device, precision=precision)
    if not isinstance(maker, RegionMaker):
        raise RegionError(f"{given!r} makes no regions: give a maker's name, or a function from a picture to a map")
    return maker
