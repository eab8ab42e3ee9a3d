"""Cards: what is published of a method and what it takes, as data, for whoever chooses one.

Those of the methods here are in `data/methods.toml`; a plug-in's method brings its own. Nothing heavy is imported.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from wordmask.errors import WordmaskError

EIGHT = ("voc", "context", "coco-object", "voc20", "context59", "coco-stuff", "cityscapes", "ade20k")
"""The benchmarks whose mean this field compares methods by; first those with background among their names."""


class CardError(WordmaskError):
    """A card says what a card cannot."""


@dataclass(frozen=True)
class Card:
    """What to choose a segmenter by; all of it is of its preset "paper".

    figures: published mIoU in percent, by benchmark. protocol: whose sizes, windows and words they were made with.
    source: where they are printed. backbones: what they were made with. cost: what a picture takes as a multiple of
    MaskCLIP's; data/methods.toml says how it was had. weights: names of the catalogue that it loads. wants: what has to
    be given besides. beyond: what the figures were made with that the preset does not have.
    """

    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    protocol: str = ""
    source: str = ""
    backbones: str = ""
    cost: float | None = None
    weights: tuple[str, ...] = ()
    wants: str = ""
    beyond: str = ""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.figures) - set(EIGHT)):
            raise CardError(f"a card's figures are of {', '.join(EIGHT)}, not of {', '.join(unknown)}")

    @property
    def mean(self) -> float | None:
        """The published mean of the eight benchmarks; None where one is missing."""
        return sum(self.figures[name] for name in EIGHT) / len(EIGHT) if len(self.figures) == len(EIGHT) else None

    @property
    def stands_alone(self) -> bool:
        """Return whether the method is what was published of it, with nothing given but names."""
        return self.mean is not None and bool(self.weights) and not self.wants and not self.beyond

    @property
    def told(self) -> str:
        """Return what to choose by in a few words: how good it is published to be, and what it costs."""
        parts = (
            []
            if self.mean is None
            else [f"published: {self.mean:.1f} mIoU on average ({self.source}; {self.backbones})"]
        )
        parts += [f"made with {self.beyond}"] if self.beyond else []
        parts += [f"{self.cost:g} times MaskCLIP's cost"] if self.cost is not None else []
        parts += [f"wants {self.wants}"] if self.wants else []
        return "; ".join(parts)


BLANK = Card()
"""Of a method of which nothing is known."""


@cache
def cards() -> Mapping[str, Card]:
    """Return the cards of the segmenters here by name, also of such as are announced and not there yet."""
    found = tomllib.loads(files("wordmask").joinpath("data/methods.toml").read_text(encoding="utf-8"))
    return {name: Card(**{**told, "weights": tuple(told.get("weights", ()))}) for name, told in found.items()}


def rank(known: Mapping[str, Card]) -> list[str]:
    """Return the methods that stand alone, the best first: by the published mean, then by cost."""
    alone = {name: card for name, card in known.items() if card.stands_alone}
    return sorted(alone, key=lambda name: (-(alone[name].mean or 0.0), alone[name].cost or float("inf")))
