"""Protocols: how a picture is looked at, by the names of the papers that were measured so.

They are data (`data/protocols.toml`) and settings of an evaluation. What a method's paper chose for one benchmark, such
as its thresholds, is the method's own: its module's `PUBLISHED`, by the benchmarks' names.

>>> settings_under("sclip", "maskclip", "cityscapes")
{'shorter_side': 560, 'longest_side': 2048, 'window': 224, 'stride': 112, 'antialias': False}
"""

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, field, fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass

from wordmask.benchmarks.datasets import BenchmarkError
from wordmask.methods import DEFAULT_PRESET, Declared, find_method
from wordmask.plugins import named

if TYPE_CHECKING:
    from wordmask.segmenters.base import Segmenter

OWN = "own"
"""The protocol that changes nothing of how a method looks at pictures."""
PUBLISHED = "PUBLISHED"
"""What a method's module calls the settings that its paper gives for single benchmarks."""


class ProtocolError(BenchmarkError):
    """No such protocol, or a method that cannot look at pictures so."""


@dataclass(frozen=True)
class Protocol:
    """A row of the data file. shorter_side: None looks at pictures as the method does."""

    about: str
    shorter_side: PositiveInt | None = None
    window: PositiveInt | Literal["whole"] | None = None
    stride: PositiveInt | None = None
    longest_side: PositiveInt = 2048
    antialias: bool = False
    pad_multiple: PositiveInt | Literal["patch"] | None = None
    benchmarks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def looks(self, benchmark: str) -> dict[str, Any]:
        """Return the settings of windows for a benchmark."""
        told = {key: value for key, value in asdict(self).items() if key not in ("about", "benchmarks")}
        told |= self.benchmarks.get(benchmark, {})
        return {**told, "window": None if told["window"] == "whole" else told["window"]}

    def described(self, benchmark: str) -> str:
        """Return the numbers in words: "336, windows of 224 every 112"."""
        looks = self.looks(benchmark)
        if looks["shorter_side"] is None:
            return "as the method does"
        windows = f"windows of {looks['window']} every {looks['stride']}" if looks["window"] else "whole"
        padded = f", padded to {looks['pad_multiple']}" if looks["pad_multiple"] else ""
        return f"{looks['shorter_side']}, {windows}{padded}"


@cache
def list_protocols() -> dict[str, Protocol]:
    """Return all protocols by their names."""
    text = files("wordmask").joinpath("data/protocols.toml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Protocol]).validate_python(tomllib.loads(text))


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name."""
    known = list_protocols()
    if name not in known:
        raise ProtocolError(f"no protocol is called {name!r}; choose one of {', '.join(known)}")
    return known[name]


def settings_under(
    protocol: str, method: str, benchmark: str, *, preset: str = DEFAULT_PRESET, kind: Any = "segmenter"
) -> dict[str, Any]:
    """Return the settings that a method is loaded with, to be measured on a benchmark under a protocol.

    What the method's paper gives for the benchmark goes with its preset "paper"; how pictures are looked at is the
    protocol's affair, unless it is "own".
    """
    found = find_protocol(protocol)
    own: type[Declared] = named(find_method(kind, method).at)
    published = dict(published_by(own).get(benchmark, {})) if preset == DEFAULT_PRESET else {}
    if protocol == OWN:
        return published
    known = {setting.name for setting in fields(own.Settings)}
    looks = found.looks(benchmark)
    if looks["pad_multiple"] is None and "pad_multiple" not in known:
        del looks["pad_multiple"]
    if unknown := [key for key in looks if key not in known]:
        raise ProtocolError(
            f"{method} cannot look at pictures as {protocol} does, having no setting {unknown[0]!r}: say {OWN!r}"
        )
    return {**published, **looks}


def published_by(method: type[Declared]) -> Mapping[str, Mapping[str, Any]]:
    """Return what a method's paper gives for single benchmarks, by their names; nothing where it gives nothing."""
    told = getattr(sys.modules[method.__module__], PUBLISHED, None)
    return told if isinstance(told, Mapping) else {}


def check_looks(segmenter: "Segmenter", protocol: str, benchmark: str) -> None:
    """Raise, if a segmenter that is loaded already looks at pictures otherwise than the protocol has it."""
    looks = find_protocol(protocol).looks(benchmark)
    if protocol == OWN:
        return
    settings = getattr(segmenter, "settings", None)
    other = next((key for key, value in looks.items() if getattr(settings, key, None) != value), None)
    if other is not None:
        raise ProtocolError(
            f"this {segmenter.method} has {other}={getattr(settings, other, None)}, and {protocol} has {looks[other]} "
            f"on {benchmark}: give the method by its name, or load it with settings_under({protocol!r}, ...)"
        )
