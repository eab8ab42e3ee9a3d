"""Foreground without names: one file a method, behind one interface. A new one is one file and one line in `METHODS`.

>>> from wordmask import saliency
>>> saliency.load("found").look("photo.jpg").save("foreground.png")
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wordmask.methods import Method, load_method

if TYPE_CHECKING:
    from wordmask.saliency.base import Saliency

METHODS = {
    "found": Method("Simeoni et al., CVPR 2023", "wordmask.saliency.found", "Found", "FoundSettings"),
    "seed": Method(
        "FOUND's background seed, untrained", "wordmask.saliency.found", "SeedSaliency", "SeedSettings", "SEED_PRESETS"
    ),
    "selfmask": Method("Shin et al., CVPRW 2022", "wordmask.saliency.selfmask", "SelfMask", "SelfMaskSettings"),
    "spectral": Method(
        "SelfMask's voted clusters, untrained", "wordmask.saliency.spectral_voting", "VotedMasks", "VotingSettings"
    ),
}


def load(
    method: str,
    *,
    preset: str = "paper",
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    **settings: Any,
) -> "Saliency":
    """A saliency method by its name.

    preset: whose networks and settings to start from; `settings` change single ones, such as `refine="solver"`.
    weights: a file, a URL or a name of the catalogue in place of the preset's weights.
    device: "auto" takes an accelerator where there is one.
    precision: "auto" is bf16 where the device multiplies it natively, and fp32 elsewhere.
    """
    saliency: Saliency = load_method(
        "saliency method",
        METHODS,
        method,
        preset=preset,
        weights=weights,
        device=device,
        precision=precision,
        settings=settings,
    )
    return saliency
