"""An evaluation before its networks are loaded: whether it may go on in a folder is told by all but these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wordmask.benchmarks.results import ResultFolder
from wordmask.methods import METHODS, Kind, settings_of

OF_NETWORKS = ("text_tower", "networks")
OF_PLUGINS = ("method", "saliency", "preset", "precision", "settings")
"""What a plug-in's method may say otherwise once it is loaded."""
NO_SETTINGS = ("method", "preset", "weights", "device", "precision", "correct")
"""Arguments of `wordmask.load` that are no settings of the method."""


@dataclass(frozen=True)
class Unloaded:
    """A method as far as its plan asks for it."""

    method: str
    preset: str
    precision: str
    settings: Any
    correction: None = None
    networks: Mapping[str, Any] = field(default_factory=dict)


def check_begun(out: Path, kind: Kind, load: Mapping[str, Any], plan: Callable[[Any], dict[str, Any]]) -> None:
    """Raise, if a folder holds an evaluation with other settings than those of a method that is yet to be loaded.

    load: the arguments of `wordmask.load` or `wordmask.saliency.load`. plan: what the evaluation of a method is known
    by.
    """
    changes = {key: value for key, value in load.items() if key not in NO_SETTINGS}
    settings = settings_of(kind, load["method"], load["preset"], **changes)
    told = plan(Unloaded(load["method"], load["preset"], load["precision"], settings))
    unknown = [*OF_NETWORKS, *(["correct"] if load.get("correct") else [])]
    unknown += [] if any((own.kind, own.name) == (kind, load["method"]) for own in METHODS) else OF_PLUGINS
    unknown += ["preset"] if load.get("weights") else []  # a student says its own
    unknown += ["precision"] if load["precision"] == "int8" else []  # which may turn out to be none of a network's
    ResultFolder(out, told).check(unknown)
